"""`DirectProtocol`: HTTP/1.1 for uvicorn, with bodies that workers drain from the socket.

    IDLE ──bytes──> HEAD ──whole head──> EXCHANGE ──response, body read──> IDLE
                      │                     └──response, body unread──> LINGER ──> closed
                      └──malformed, too long, too slow──> answer ──> LINGER

Heads are parsed by httptools. uvicorn gives sockets, TLS, workers, signals, logging and
lifespan; this class replaces its `HttpToolsProtocol` (versions as pinned in pyproject.toml).
It serves any ASGI application: `uvicorn --http forebay.http.direct:DirectProtocol app:app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.utils import get_client_addr, get_local_addr, get_remote_addr, is_ssl

from forebay.errors import (
    HeadTimeout,
    HeadTooLarge,
    InvalidRequest,
    MalformedBody,
    UploadError,
)
from forebay.http.drain import duplicate_socket
from forebay.http.exchange import HIGH_WATER, STATUS_LINES, Exchange
from forebay.http.framing import framing_of
from forebay.http.limits import ConnectionLimits
from forebay.http.sendfile import FileSender, ThreadRunner
from forebay.protocol import fields
from forebay.protocol.status import render

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = logging.getLogger("uvicorn.error")
access_logger = logging.getLogger("uvicorn.access")

SMALL_BODY = 16 << 10
"""A body with no more than this to come is read before anybody asks for it."""
LINGER_BYTES = 1 << 30
LINGER_IDLE = 5.0
_HEAD_END = b"\r\n\r\n"


class DirectProtocol(asyncio.Protocol):
    """One connection. See the module."""

    limits = ConnectionLimits()
    """Replaced whole by the server when settings change; shared by all connections."""

    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_head: tuple[bytes, int] = (b"", 0)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.app: Any = config.loaded_app
        self.loop = _loop or asyncio.get_event_loop()
        self.server_state = server_state
        self.app_state = app_state
        self.access_log = config.access_log and access_logger.hasHandlers()
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.can_drain = False
        self.paused = False
        self.write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._head_begun = False
        self._exchange: Exchange | None = None
        self._lingering: int | None = None
        self._eof = False
        self._shutting_down = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._served = 0

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.server = get_local_addr(self.transport)
        self.client = get_remote_addr(self.transport)
        tls = is_ssl(self.transport)
        self.scheme = "https" if tls else "http"
        self.can_drain = not tls and self.transport.get_extra_info("socket") is not None
        self._set_deadline(self.limits.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._exchange is not None:
            self._exchange.disconnect()
        self.resume_writing()
        self._buffer.clear()

    def eof_received(self) -> bool | None:
        self._eof = True
        exchange = self._exchange
        if self._lingering is not None:
            return None
        if exchange is None:
            # A pipelined request that is about to be read still gets its answer.
            return self.can_drain and _HEAD_END in self._buffer
        if exchange.hungry and not exchange.framing.done:
            exchange.disconnect()
        # The other direction stays open for the answer; TLS cannot do that.
        return self.can_drain

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering += len(data)
            if self._lingering > LINGER_BYTES:
                self.transport.abort()
            return
        exchange = self._exchange
        if exchange is None:
            if not self._head_begun:  # once a head, however many empty lines come first
                self._head_begun = True
                self._set_deadline(self.limits.head_timeout)
            self._buffer += data
            self._read_head()
            return
        self._buffer += data
        if exchange.complete:
            self._skip_rest(exchange)
        elif exchange.hungry and not exchange.framing.done:
            self.feed_exchange()
        elif len(self._buffer) > HIGH_WATER:
            self._pause()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def writable(self) -> None:
        """Waits until the client has taken enough of what was written."""
        while self.write_paused:
            if self._writable is None or self._writable.done():
                self._writable = self.loop.create_future()
            await asyncio.shield(self._writable)

    def shutdown(self) -> None:
        """The server drains: an idle connection goes now, a busy one after its response."""
        self._shutting_down = True
        if self._exchange is None:
            if self._lingering is None:
                self.transport.close()
        else:
            self._exchange.keep_alive = False

    # --- time ----------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        """One timer a connection, moved lazily; 0 sets no limit."""
        if not seconds:
            self._deadline = 0.0
            return
        self._deadline = when = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._deadline or self.transport.is_closing():
            return
        if self._deadline > self.loop.time() + 0.001:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
        elif self._exchange is not None or self._lingering is not None:
            self.transport.abort()  # skipping or lingering: the answer has been sent
        elif self._buffer:
            self._refuse(HeadTimeout())
        else:
            self.transport.close()

    # --- the head ------------------------------------------------------------------------------

    def _read_head(self) -> None:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":  # RFC 9112, section 2.2: at least one empty line is ignored
            del buffer[:2]
        if not buffer:
            return
        end = buffer.find(_HEAD_END, max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > self.limits.max_head:
                self._refuse(HeadTooLarge())
            elif buffer != b"\r" and (not 0x41 <= buffer[0] <= 0x5A or b"\n\n" in buffer):
                self._refuse(InvalidRequest("That is not HTTP/1.1."))
            return
        self._scanned = 0
        end += len(_HEAD_END)
        if end > self.limits.max_head:
            self._refuse(HeadTooLarge())
            return
        head = bytes(buffer[:end])
        del buffer[:end]
        self._headers = []
        self._url = b""
        parser = httptools.HttpRequestParser(self)
        upgrade = False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            upgrade = True
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequest(f"The request head is malformed ({error})."))
            return
        try:
            self._begin(parser, upgrade, head)
        except UploadError as error:
            self._refuse(error)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser leaves what comes after a value (RFC 9112, section 5.1).
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def _begin(self, parser: Any, upgrade: bool, head: bytes) -> None:
        version: str = parser.get_http_version()
        headers = self._headers
        if version not in ("1.1", "1.0"):
            raise InvalidRequest(f"HTTP/{version} is not spoken here.")
        if len(fields.every(headers, b"host")) != 1 and (
            version == "1.1" or fields.every(headers, b"host")
        ):
            raise InvalidRequest("A request needs exactly one Host field.")
        framing = framing_of(headers, version)
        if upgrade and self._wants_websocket():
            self._upgrade(head)
            return
        raw_path, query = _target(self._url)
        path = raw_path.decode("latin-1")
        root_path = self.config.root_path
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": parser.get_method().decode("latin-1"),
            "root_path": root_path,
            "path": root_path + (unquote(path) if "%" in path else path),
            "raw_path": root_path.encode("latin-1") + raw_path if root_path else raw_path,
            "query_string": query,
            "headers": headers,
            "state": self.app_state.copy(),
        }
        expect = fields.first(headers, b"expect")
        exchange = Exchange(
            self,
            scope,
            framing,
            keep_alive=version != "1.0" and not self._shutting_down and not _wants_close(headers),
            continue_due=(
                expect is not None
                and expect.lower() == b"100-continue"
                and version == "1.1"
                and not framing.done
                and not self._buffer
            ),
        )
        scope["extensions"] = {"forebay.body": exchange, "forebay.informational": {}}
        if self.can_drain:
            scope["extensions"]["http.response.zerocopysend"] = {}
        self._exchange = exchange
        self._deadline = 0.0
        if not framing.done and (
            framing.remaining is None or framing.remaining - len(self._buffer) > SMALL_BODY
        ):
            self._pause()  # until somebody takes it, it waits in the kernel and not here
        task = self.loop.create_task(self._run(exchange))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _wants_websocket(self) -> bool:
        upgrade = fields.first(self._headers, b"upgrade")
        return (
            upgrade is not None
            and upgrade.lower() == b"websocket"
            and self.config.ws_protocol_class is not None
        )

    def _upgrade(self, head: bytes) -> None:
        self.server_state.connections.discard(self)
        self._deadline = 0.0
        assert self.config.ws_protocol_class is not None
        protocol = self.config.ws_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        protocol.data_received(head + bytes(self._buffer))
        self.transport.set_protocol(protocol)

    # --- the body ------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def send_continue(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.continue_due:
            exchange.continue_due = False
            if not self._buffer and not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def feed_exchange(self) -> None:
        """Gives what has arrived to an exchange whose application waits in `receive()`."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            try:
                used = exchange.framing.decode(memoryview(data), exchange.feed)
            except MalformedBody as error:
                exchange.disconnect()
                if not exchange.started:
                    self._answer_malformed(exchange, error)
                else:
                    self.transport.abort()
                return
            self._buffer += data[used:]
            exchange.hungry = False
            exchange.wake()
        if exchange.framing.done:
            exchange.wake()
        elif self._eof:
            exchange.disconnect()
        self._resume()

    def _answer_malformed(self, exchange: Exchange, error: UploadError) -> None:
        exchange.started = exchange.complete = True
        self._refuse(error)

    def begin_drain(self) -> None:
        self.send_continue()
        self._pause()

    def take_early(self) -> bytes:
        if not self._buffer:
            return b""
        early = bytes(self._buffer)
        self._buffer.clear()
        return early

    def give_back(self, surplus: bytes) -> None:
        self._buffer[:0] = surplus

    def duplicate(self) -> socket.socket:
        return duplicate_socket(self.transport.get_extra_info("socket"))

    def _pause(self) -> None:
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    # --- the response --------------------------------------------------------------------------

    def default_head(self) -> tuple[bytes, int]:
        """Date and Server as bytes, made once a second for all connections."""
        headers = self.server_state.default_headers
        cls = type(self)
        if cls._default_headers is not headers:
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            cls._default_headers, cls._default_head = headers, (lines, len(headers))
        return cls._default_head

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def send_file(self, head: bytes, message: Any) -> bool:
        """Sends past the transport, whose own buffer must be empty; False when that failed."""
        for _ in range(100):
            if not self.transport.get_write_buffer_size():
                break
            await asyncio.sleep(0)
        else:
            self.transport.set_write_buffer_limits(0)
            await self.writable()
        if self.transport.is_closing():
            return False
        duplicate = self.duplicate()
        sender = FileSender(duplicate, self.loop, self.limits.send_timeout)
        runner = message.get("forebay.workers") or ThreadRunner()
        offset = message.get("offset") or 0
        try:
            await sender.send(head, message["file"], offset, message["count"], runner)
        except (OSError, EOFError) as error:
            logger.info("a download broke off: %s", error)
            self.transport.abort()
            return False
        finally:
            duplicate.close()
        return True

    def abort(self) -> None:
        self.transport.abort()

    async def _run(self, exchange: Exchange) -> None:
        try:
            result = await self.app(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            logger.exception("Exception in ASGI application\n")
            await self._fail(exchange)
        else:
            if result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
                self.transport.close()
            elif not exchange.complete and not exchange.disconnected:
                logger.error("ASGI callable returned without completing response.")
                await self._fail(exchange)
        finally:
            exchange.let_go()

    async def _fail(self, exchange: Exchange) -> None:
        if exchange.disconnected:
            return
        if exchange.started:
            self.transport.abort()  # an end of the connection would look like an end of content
            return
        exchange.keep_alive = False
        text = b"Internal Server Error"
        headers: Iterable[tuple[bytes, bytes]] = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
        ]
        await exchange.send({"type": "http.response.start", "status": 500, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": text})

    def on_response_complete(self, exchange: Exchange) -> None:
        self.server_state.total_requests += 1
        self._served += 1
        if self.access_log:
            self._log_access(exchange)
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._exchange = None
            self._close_gently(unread=not exchange.framing.done)
            return
        self._skip_rest(exchange)

    def _skip_rest(self, exchange: Exchange) -> None:
        """Reads the small rest of a body that nobody wanted, then goes on."""
        if not exchange.framing.done and self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            used = exchange.framing.decode(memoryview(data), _ignore)
            self._buffer += data[used:]
        if not exchange.framing.done:
            self._set_deadline(LINGER_IDLE)
            if self._eof:
                self.transport.close()
            else:
                self._resume()
            return
        self._exchange = None
        if self._eof and not self._buffer:
            self.transport.close()
            return
        self._set_deadline(self.limits.keep_alive_timeout)
        self._head_begun = bool(self._buffer)
        if self._buffer:
            self._set_deadline(self.limits.head_timeout)
            self.loop.call_soon(self._next_request)
        else:
            self._resume()

    def _next_request(self) -> None:
        """A pipelined one. By way of the loop, so that a long pipeline is no deep recursion."""
        if self._exchange is None and self._lingering is None and not self.transport.is_closing():
            self._read_head()
            if self._exchange is None:
                if self._eof:
                    self.transport.close()
                self._resume()

    def _log_access(self, exchange: Exchange) -> None:
        scope = exchange.scope
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(cast(Any, scope)),
            scope["method"],
            target.decode("latin-1"),
            scope["http_version"],
            exchange.status,
        )

    # --- the end -------------------------------------------------------------------------------

    def _refuse(self, error: UploadError) -> None:
        """An answer of the connection itself, to what is not a request; then the end."""
        answer = render(error, fields.first(self._headers, b"accept"))
        lines = [STATUS_LINES[answer.status], self.default_head()[0]]
        for name, value in answer.headers:
            lines += (name, b": ", value, b"\r\n")
        lines += (b"connection: close\r\n\r\n", answer.body)
        self.write(b"".join(lines))
        self._exchange = None
        self._close_gently(unread=True)

    def _close_gently(self, *, unread: bool) -> None:
        """Closes so that the peer can read the answer although it is still sending.

        Closing a socket with unread data resets the connection, and a reset throws away what
        the peer has not read yet (RFC 9112, section 9.6). So: half-close, then read on for a
        bounded time and amount.
        """
        self._buffer.clear()
        if not unread or self._eof or self.transport.is_closing():
            self.transport.close()
            return
        self._lingering = 0
        seconds = self.limits.linger_timeout
        self._set_deadline(min(seconds, LINGER_IDLE) if self._shutting_down else seconds)
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
        self._resume()


def _wants_close(headers: list[tuple[bytes, bytes]]) -> bool:
    """RFC 9112, section 9.6. The parser's own answer is lost with a request without a body."""
    options = b",".join(fields.every(headers, b"connection")).lower().split(b",")
    return any(option.strip() == b"close" for option in options)


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target (RFC 9112, section 3.2), still percent-encoded."""
    if url == b"*":
        return b"*", b""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise InvalidRequest("The request target is malformed.") from error
    return parsed.path or b"/", parsed.query or b""


def _ignore(_: memoryview) -> None:
    return None
