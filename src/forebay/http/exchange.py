"""One request and its response on our own server: the ASGI side of a connection."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from forebay.errors import IncompleteBody
from forebay.http.drain import SocketSource
from forebay.http.framing import Framing

if TYPE_CHECKING:
    from forebay.http.direct import DirectProtocol

logger = logging.getLogger("uvicorn.error")

Message = MutableMapping[str, Any]

HIGH_WATER = 64 << 10
SMALL_REST = 64 << 10
"""A refused body with no more than this left is read to its end and the connection kept."""

_OWN_PHRASES = {104: "Upload Resumption Supported", 460: "Checksum Mismatch"}


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = _OWN_PHRASES.get(status, "")
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


class Exchange:
    """ASGI `receive` and `send` for one request.

    `scope["extensions"]["forebay.body"]` is this object: an application that knows it asks
    for `source()` and gets the drain, any other calls `receive()` as ever.
    """

    def __init__(
        self,
        protocol: DirectProtocol,
        scope: dict[str, Any],
        framing: Framing,
        *,
        keep_alive: bool,
        continue_due: bool,
    ) -> None:
        self.protocol = protocol
        self.scope = scope
        self.framing = framing
        self.keep_alive = keep_alive
        self.continue_due = continue_due
        self.hungry = False
        self.disconnected = False
        self.started = False
        self.complete = False
        self.status = 0
        self._source: SocketSource | None = None
        self._body = bytearray()
        self._delivered = False
        self._event: asyncio.Event | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._bodiless = False
        self._owed: int | None = None
        scope["extensions"]["forebay.body"] = self

    async def run(self, app: Any) -> None:
        """Has the application answer; answers itself where that fails."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except Exception:
            logger.exception("Exception in ASGI application\n")
            await self._fail()
        else:
            if result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
                self.protocol.abort()
            elif not self.complete and not self.disconnected:
                logger.error("ASGI callable returned without completing response.")
                await self._fail()
        finally:
            self._let_go()

    async def _fail(self) -> None:
        if self.disconnected:
            return
        if self.started:
            self.protocol.abort()  # an end of the connection would look like an end of content
            return
        self.keep_alive = False
        text = b"Internal Server Error"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": text})

    # --- the request's body --------------------------------------------------------------------

    def source(self) -> SocketSource | None:
        """The drain for this body; None without a bare socket, or once `receive` was used."""
        if self._source is not None or self._body or self._delivered:
            return None
        if not self.protocol.can_drain:
            return None
        self._source = SocketSource(self.protocol, self.framing, self.protocol.loop)
        return self._source

    def feed(self, data: memoryview) -> None:
        self._body += data

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()

    def disconnect(self) -> None:
        """The client is gone, or the body can never be whole."""
        self.disconnected = True
        if self._source is not None:
            self._source.stop(IncompleteBody())
        self.wake()

    def _let_go(self) -> None:
        """The application has returned. Also unties the knot with the scope, so that an
        exchange goes at once and not when the garbage is collected.
        """
        if self._source is not None:
            self._source.close()
        self.scope["extensions"].pop("forebay.body", None)

    @property
    def broken_off(self) -> bool:
        return self._source is not None and self._source.broken_off

    async def receive(self) -> Message:
        if self.continue_due and not self.started and not self._delivered:
            self.protocol.send_continue()
        while not (self.disconnected or self.complete):
            if self._body or (self.framing.done and not self._delivered):
                body = bytes(self._body)
                self._body.clear()
                self._delivered = self.framing.done
                return {
                    "type": "http.request",
                    "body": body,
                    "more_body": not self._delivered,
                }
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            self.hungry = not self._delivered
            if self.hungry:
                self.protocol.feed_exchange()
                if self._event.is_set():
                    continue
            await self._event.wait()
        return {"type": "http.disconnect"}

    # --- the response --------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        if self.disconnected:
            return
        if self.protocol.write_paused:
            await self.protocol.writable()
        kind = message["type"]
        if kind == "http.response.body" and self.started and not self.complete:
            self._send_body(message)
        elif kind == "http.response.start" and not self.started:
            self._send_start(message)
        elif kind == "http.response.zerocopysend" and self._head is not None:
            await self._send_file(message)
        elif kind == "forebay.informational" and not self.started:
            self._send_informational(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} in this state of the response.")

    def _send_informational(self, message: Message) -> None:
        """An interim response (1xx), never to HTTP/1.0 (RFC 9110, section 15.2)."""
        if self.scope["http_version"] == "1.0":
            return
        lines = [STATUS_LINES[message["status"]]]
        for name, value in message.get("headers", ()):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        self.protocol.write(_checked(b"".join(lines), len(message.get("headers", ())) + 2))

    def _send_start(self, message: Message) -> None:
        self.started = True
        self.status = status = message["status"]
        headers = list(message.get("headers", ()))
        defaults, count = self.protocol.default_head()
        lines = [STATUS_LINES[status], defaults]
        for name, value in headers:
            key = name.lower()
            if key == b"content-length":
                self._owed = int(value)
            elif key == b"transfer-encoding":
                continue  # hop-by-hop: ours to choose
            elif key == b"connection":
                if value.lower() == b"close":
                    self.keep_alive = False
                continue
            lines += (name, b": ", value, b"\r\n")
            count += 1
        self._bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        if self._owed is None and not self._bodiless:
            if self.scope["http_version"] == "1.0":
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
                count += 1
        if self._must_close():
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
            count += 1
        lines.append(b"\r\n")
        self._head = _checked(b"".join(lines), count + 2)

    def _must_close(self) -> bool:
        """Whether the rest of the request cannot be got out of the way cheaply."""
        if self.framing.done:
            return False
        if self.broken_off or self.continue_due or self.framing.remaining is None:
            return True
        return self.framing.remaining - self.protocol.buffered > SMALL_REST

    def _send_body(self, message: Message) -> None:
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self._bodiless:
            body = b""
        elif self._owed is not None:
            if len(body) > self._owed:
                self.protocol.abort()
                raise RuntimeError("Response content longer than Content-Length")
            self._owed -= len(body)
        parts: list[bytes] = []
        if self._head is not None:
            parts.append(self._head)
            self._head = None
        if self._chunked and not self._bodiless:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        elif body:
            parts.append(body)
        if parts:
            self.protocol.write(b"".join(parts) if len(parts) > 1 else parts[0])
        if not more:
            self._finish()

    async def _send_file(self, message: Message) -> None:
        """ASGI's zero copy send, for a response of known length that has not begun."""
        count: int = message["count"]
        head, self._head = self._head, None
        assert head is not None
        if self._owed != count or message.get("more_body") or self._bodiless:
            raise RuntimeError("zerocopysend must be the whole content, of the announced length")
        if await self.protocol.send_file(head, message):
            self._owed = 0
            self._finish()
        else:
            self.disconnect()

    def _finish(self) -> None:
        self.complete = True
        if self._owed and not self._bodiless:
            self.keep_alive = False  # less than announced: the client must see an end
        self.wake()
        self.protocol.on_response_complete(self)


def _checked(head: bytes, lines: int) -> bytes:
    """No value of a field may smuggle in a line of its own."""
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("A response field contains a line break or NUL.")
    return head
