"""One request and its response on our own server: the ASGI side of a connection."""

from __future__ import annotations

import asyncio
import http
import logging
import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from forebay.engine.bodies.verdict import Verdict
from forebay.errors import IncompleteBody
from forebay.http import cors, drain, scope_keys
from forebay.http.framing import Framing
from forebay.http.verdicts import is_success

if TYPE_CHECKING:
    from forebay.http.default_head import DefaultHead
    from forebay.http.flow_control import FlowControl
    from forebay.http.sendfile import Runner

logger = logging.getLogger("uvicorn.error")

Message = MutableMapping[str, Any]

HIGH_WATER = 64 << 10
SMALL_REST = 64 << 10
"""A refused body with no more than this left is read to its end and the connection kept."""

_CONTENT = ("http.response.body", "http.response.zerocopysend")
_OWN_PHRASES = {104: "Upload Resumption Supported", 460: "Checksum Mismatch"}


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = _OWN_PHRASES.get(status, "")
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})

STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


class Connection(drain.Connection, Protocol):
    """What a request needs of its connection, which is a `DirectProtocol`."""

    loop: asyncio.AbstractEventLoop
    flow: FlowControl
    can_drain: bool
    """There is a bare socket, without TLS."""

    @property
    def at_eof(self) -> bool:
        """The client sends no more; it may be gone."""
        ...

    def watch_for_end(self) -> None:
        """Reads on, so that the end of the connection is noticed."""
        ...

    def send_continue(self) -> None:
        """Sends 100 Continue if it is due."""
        ...

    def feed_cycle(self) -> None:
        """Gives what has arrived to a request whose application waits in `receive()`."""
        ...

    def default_head(self) -> DefaultHead:
        """The fields of every answer."""
        ...

    def write(self, data: bytes) -> None:
        """Sends these bytes, unless the connection is closing."""
        ...

    async def send_file(
        self, start: bytes, file: tuple[int, int, int], runner: Runner | None
    ) -> bool:
        """Sends `start`, then a part of a file (descriptor, offset, size); False when the
        connection has broken.
        """
        ...

    def abort(self) -> None:
        """Breaks the connection."""
        ...

    def on_response_complete(self, cycle: RequestCycle) -> None:
        """The response is sent: the next request may come."""
        ...


class RequestCycle:
    """ASGI `receive` and `send` for one request.

    `scope["extensions"][scope_keys.CYCLE]` is this object: an application that knows it asks
    for `source()` and gets the drain, any other calls `receive()` as ever.
    """

    def __init__(
        self,
        connection: Connection,
        scope: dict[str, Any],
        framing: Framing,
        *,
        keep_alive: bool,
        continue_due: bool,
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.framing = framing
        self.keep_alive = keep_alive
        self.continue_due = continue_due
        self.hungry = False
        self.disconnected = False
        self.started = False
        self.complete = False
        self.status = 0
        self._answered = False
        """Content of the response has come, if only its end: its status stands."""
        self._source: drain.SocketSource | None = None
        self._body: list[bytes] = []
        self._asked = False
        self._waiting = 0
        self._delivered = False
        self.given = False
        """Something of the body has been given to whoever called `receive`."""
        self._verdict: Verdict | None = None
        self._event: asyncio.Event | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._bodiless = False
        self._owed: int | None = None
        scope["extensions"][scope_keys.CYCLE] = self

    async def run(self, app: Any) -> None:
        """Has the application answer; answers itself where that fails."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except Exception:
            logger.exception("Exception in ASGI application\n")
            await self._fail()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not _cancelled():
                # The application's own: it awaited something that it had cancelled.
                logger.exception("Exception in ASGI application\n")
                await self._fail()
                return
            if not self.complete:  # nobody will answer, and the client must see that
                self.connection.abort()
            raise
        else:
            if result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
                self.connection.abort()
            elif not self.complete:
                if not (self.disconnected or self.connection.at_eof):  # else it was told to go
                    logger.error("ASGI callable returned without completing response.")
                await self._fail()
        finally:
            try:
                if self._verdict is not None:
                    await self._verdict.give(self._answered and is_success(self.status))
            finally:
                self._let_go()

    def judged(self) -> Verdict:
        """What waits for the answer to leave: kept with a success, taken back with an error."""
        if self._verdict is None:
            self._verdict = Verdict()
            if self._answered:
                self._verdict.kept = is_success(self.status)
        return self._verdict

    async def _fail(self) -> None:
        if self.complete:
            return
        if self.started or self.disconnected:
            # An orderly end would look like an end of content. And of a client that has half
            # closed nothing more is heard: it would stay for ever.
            self.connection.abort()
            return
        self.keep_alive = False
        text = b"Internal Server Error"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            *cors.cors_of_connection(self.scope["headers"]),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": text})

    # --- the request's body --------------------------------------------------------------------

    def source(self) -> drain.SocketSource | None:
        """The drain for this body; None without a bare socket, or once `receive` was used (but
        for a body without content: nobody has missed anything of that).
        """
        empty = self.framing.done and not (self.given or self._body)
        asked = self._asked and not empty
        if self._source is not None or asked or not self.connection.can_drain:
            return None
        self._source = drain.SocketSource(self.connection, self.framing, self.connection.loop)
        return self._source

    def feed(self, data: memoryview) -> None:
        self._body.append(bytes(data))

    def give(self, data: bytes) -> None:
        """Content that `receive()` waits for, just as it came from the network."""
        self._body.append(data)
        self.hungry = False
        self.wake()

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
        cycle goes at once and not when the garbage is collected.
        """
        if self._source is not None:
            self._source.close()
        self.scope["extensions"].pop(scope_keys.CYCLE, None)

    @property
    def broken_off(self) -> bool:
        return self._source is not None and self._source.broken_off

    def _ask(self) -> None:
        """Has what the application waits for be read: the body, or the client's leaving."""
        if self.framing.done:
            self.connection.watch_for_end()
        elif self._source is None or not self._source.began:
            # Whoever reads first gets the body, and the other an error rather than a part.
            if self._source is not None:
                self._source.close()
            if self.continue_due and not self.started:
                self.connection.send_continue()
            self.hungry = True
            self.connection.feed_cycle()

    async def receive(self) -> Message:
        self._asked = True
        while not (self.disconnected or self.complete):
            if self._body or (self.framing.done and not self._delivered):
                body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._delivered = self.framing.done
                self.given = self.given or bool(body)
                return {
                    "type": "http.request",
                    "body": body,
                    "more_body": not self._delivered,
                }
            if self._delivered and self.connection.at_eof:
                break  # it cannot be told from one that only sends no more; `send` still works
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            self._waiting += 1
            try:
                self._ask()
                await self._event.wait()
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self.hungry = False  # also when the wait was given up
        return {"type": "http.disconnect"}

    # --- the response --------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        if self.connection.flow.paused:
            await self.connection.flow.writable()
        kind = message["type"]
        if self._verdict is not None or self.disconnected:
            await self._judge(kind, message)
        if self.disconnected:
            return
        if kind == "http.response.body" and self.started and not self.complete:
            self._send_body(message)
        elif kind == "http.response.start" and not self.started:
            self._send_start(message)
        elif kind == "http.response.zerocopysend" and self.started and not self.complete:
            await self._send_file(message)
        elif kind == scope_keys.INFORMATIONAL and not self.started:
            self._send_informational(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} in this state of the response.")

    async def _judge(self, kind: str, message: Message) -> None:
        """Its first content settles the answer. Also for a client that has left."""
        if kind == "http.response.start":
            self.status = self.status or message["status"]
        elif kind in _CONTENT and self.status and not self._answered:
            if self._verdict is not None:
                await self._verdict.give(is_success(self.status))
            self._answered = True

    def _send_informational(self, message: Message) -> None:
        """An interim response (1xx), never to HTTP/1.0 (RFC 9110, section 15.2)."""
        if self.scope["http_version"] == "1.0":
            return
        lines = [STATUS_LINES[message["status"]]]
        if cors.CHECKED:
            cors.check(message["status"], list(message.get("headers", ())))
        for name, value in message.get("headers", ()):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        self.connection.write(_checked(b"".join(lines), len(message.get("headers", ())) + 2))

    def _send_start(self, message: Message) -> None:
        self.started = True
        self.status = status = message["status"]
        defaults = self.connection.default_head()
        lines = [STATUS_LINES[status], defaults.lines]
        count, own = defaults.count, None
        for name, value in message.get("headers", ()):
            key = name.lower()
            if key in _FRAMING:
                if not self._frames(key, value):
                    continue
            elif key in defaults.names:
                own = {key} if own is None else own | {key}
            lines += (name, b": ", value, b"\r\n")
            count += 1
        if own is not None:  # an application's own Date or Server goes before ours
            kept = defaults.without(own)
            lines[1] = kept.lines
            count += kept.count - defaults.count
        if cors.CHECKED:
            cors.check_lines(status, lines[1:])
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

    def _frames(self, key: bytes, value: bytes) -> bool:
        """What a field says of the answer's framing; whether it is sent as it is."""
        if key == b"content-length":
            if self._owed is not None:
                if self._owed != int(value):
                    raise RuntimeError("A response has two Content-Length fields that differ.")
                return False
            self._owed = int(value)
            return True
        if key == b"connection" and value.lower() == b"close":
            self.keep_alive = False
        return False  # hop-by-hop: ours to choose

    def _must_close(self) -> bool:
        """Whether the rest of the request cannot be got out of the way cheaply."""
        if self.framing.done:
            return False
        if self.broken_off or self.continue_due or self.framing.remaining is None:
            return True
        return self.framing.remaining - self.connection.buffered > SMALL_REST

    def _send_body(self, message: Message) -> None:
        self._answered = True
        body = b"" if self._bodiless else message.get("body", b"")
        more = message.get("more_body", False)
        parts = self._take_head(len(body))
        if self._chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        elif body:
            parts.append(body)
        if parts:
            self.connection.write(b"".join(parts) if len(parts) > 1 else parts[0])
        if not more:
            self._finish()

    def _take_head(self, size: int) -> list[bytes]:
        """The head if it was not sent yet, now that `size` bytes of content follow."""
        if self._owed is not None and not self._bodiless:
            if size > self._owed:
                self.connection.abort()
                raise RuntimeError("Response content longer than Content-Length")
            self._owed -= size
        head, self._head = self._head, None
        return [] if head is None else [head]

    async def _send_file(self, message: Message) -> None:
        """ASGI's zero copy send: as `http.response.body`, the content in a file."""
        fd, offset, count = _part_of_file(message)
        if self._bodiless or not count:
            self._send_body({"more_body": message.get("more_body", False)})
            return
        self._answered = True
        parts = self._take_head(count)
        if self._chunked:
            parts.append(b"%x\r\n" % count)
        runner = message.get("forebay.workers")
        if not await self.connection.send_file(b"".join(parts), (fd, offset, count), runner):
            self.disconnect()
            return
        if self._chunked:
            self.connection.write(b"\r\n")
        if not message.get("more_body"):
            self._send_body({})

    def _finish(self) -> None:
        self.complete = True
        if self._source is not None:
            if self.broken_off:  # by a task of the application that still reads
                self.keep_alive = False
            self._source.close()
        if self._owed and not self._bodiless:
            self.keep_alive = False  # less than announced: the client must see an end
        self.wake()
        self.connection.on_response_complete(self)


def _part_of_file(message: Message) -> tuple[int, int, int]:
    """Descriptor, offset and count; without an offset the file's own position, moved on."""
    file = message["file"]
    fd: int = file if isinstance(file, int) else file.fileno()
    offset: int | None = message.get("offset")
    start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
    count: int | None = message.get("count")
    if count is None:
        count = max(0, os.fstat(fd).st_size - start)
    if offset is None:
        os.lseek(fd, start + count, os.SEEK_SET)
    return fd, start, count


def _checked(head: bytes, lines: int) -> bytes:
    """No value of a field may smuggle in a line of its own."""
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("A response field contains a line break or NUL.")
    return head


def _cancelled() -> bool:
    """Whether somebody has cancelled the task that runs here."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
