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
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.utils import get_client_addr, get_local_addr, get_remote_addr, is_ssl

from forebay.errors import (
    HeadTimeout,
    HeadTooLarge,
    InvalidRequest,
    MalformedBody,
    UploadError,
)
from forebay.http import cors, head, scope_keys
from forebay.http.answers import Headers
from forebay.http.deadline import Deadline
from forebay.http.default_head import DefaultHead
from forebay.http.drain import duplicate_socket
from forebay.http.flow_control import FlowControl
from forebay.http.framing import framing_of
from forebay.http.limits import ConnectionLimits
from forebay.http.long_head import LongHead
from forebay.http.loop_queue import LoopQueue
from forebay.http.request_cycle import HIGH_WATER, STATUS_LINES, RequestCycle
from forebay.http.sendfile import FileSender, Runner, ThreadRunner
from forebay.protocol import fields, names, origin
from forebay.protocol.status import render

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = logging.getLogger("uvicorn.error")
access_logger = logging.getLogger("uvicorn.access")

SMALL_BODY = 16 << 10
"""A body with no more than this to come is read before anybody asks for it."""
MOST_EMPTY_LINES = 1000
"""Between two requests. Some clients send one after a body; none sends many."""
LINGER_BYTES = 1 << 30
LINGER_AT_ONCE = 1 << 20
LINGER_IDLE = 5.0


class DirectProtocol(asyncio.Protocol):
    """One connection. See the module."""

    limits = ConnectionLimits()
    """Replaced whole by the server when settings change; shared by all connections."""

    _default_head = DefaultHead([])

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
        self.flow: FlowControl = cast(FlowControl, None)
        self._buffer = bytearray()
        self._scanned = 0
        self._head_begun = False
        self._empty_lines = 0
        self._feeding = False
        self._long_head: LongHead | None = None
        self._cycle: RequestCycle | None = None
        self._lingering: int | None = None
        self._eof = False
        self._shutting_down = False
        self._deadline = Deadline(self.loop, self._late)
        self._accept: bytes | None = None
        self._served = 0

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        cls = type(self)  # whose limits may be replaced; not self, which would be a cycle
        self.flow = FlowControl(self.loop, self.transport, lambda: cls.limits.send_timeout)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.server = get_local_addr(self.transport)
        self.client = get_remote_addr(self.transport)
        tls = is_ssl(self.transport)
        self.scheme = "https" if tls else "http"
        self.can_drain = not tls and self.transport.get_extra_info("socket") is not None
        self._deadline.set(self.limits.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self._deadline.close()
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnect()
        self.flow.lost()
        self._buffer.clear()

    def eof_received(self) -> bool | None:
        self._eof = True
        cycle = self._cycle
        if self._lingering is not None:
            return None
        if self._long_head is not None:
            self._refuse(HeadTooLarge(), self._long_head.origins)
            return self.can_drain
        if cycle is None:
            # A pipelined request that is about to be read still gets its answer.
            return self.can_drain and head.END in self._buffer
        if cycle.complete:
            return None  # the rest of its body, which nobody wants, will not come
        if cycle.framing.done:
            cycle.wake()  # an application that waits for the client to leave
        elif cycle.hungry and not self._buffer:
            cycle.disconnect()
        # The other direction stays open for the answer; TLS cannot do that.
        return self.can_drain

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering += len(data)
            if self._lingering > LINGER_BYTES:
                self.transport.abort()
            elif self._lingering > LINGER_AT_ONCE and not self.paused:
                self._pause()  # however many linger, nobody waits for more than one of them
                LoopQueue.of(self.loop).add(self._resume)
            return
        cycle = self._cycle
        if cycle is None:
            if not self._head_begun:  # once a head, however many empty lines come first
                self._head_begun = True
                self._deadline.set(self.limits.head_timeout)
            if self._long_head is not None:
                self._read_long_head(self._long_head, data)
                return
            self._buffer += data
            self._read_head()
            return
        if cycle.hungry and not self._buffer and cycle.framing.take_all(len(data)):
            cycle.give(data)
            return
        self._buffer += data
        if cycle.complete:
            self._skip_rest(cycle)
            return
        if cycle.hungry and not cycle.framing.done:
            self.feed_cycle()
        if len(self._buffer) > HIGH_WATER:
            self._pause()

    def pause_writing(self) -> None:
        self.flow.pause()

    def resume_writing(self) -> None:
        self.flow.resume()

    def shutdown(self) -> None:
        """The server drains: an idle connection goes now, a busy one after its response."""
        self._shutting_down = True
        if self._cycle is None:
            if self._lingering is None:
                self.flow.finish()
            else:
                self._deadline.set(1.0)  # the answer is out; the end must not wait for readers
        else:
            self._cycle.keep_alive = False

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._cycle is not None or self._lingering is not None:
            self.transport.abort()  # skipping or lingering: the answer has been sent
        elif self._long_head is not None:
            self._refuse(HeadTooLarge(), self._long_head.origins)
        elif self._buffer:
            self._refuse(HeadTimeout(), origin.origins_in(self._buffer))
        else:
            self.flow.finish()

    # --- the head ------------------------------------------------------------------------------

    def _read_head(self) -> None:
        buffer = self._buffer
        if buffer[:2] == b"\r\n":  # RFC 9112, section 2.2: at least one empty line is ignored
            empty = head.EMPTY_LINES.match(buffer)
            assert empty is not None
            size = empty.end()
            del empty  # it holds the buffer
            del buffer[:size]
            self._empty_lines += size // 2
            if self._empty_lines > MOST_EMPTY_LINES:
                self._refuse(InvalidRequest("There are too many empty lines before a request."), [])
                return
        if not buffer:
            return
        end = buffer.find(head.END, max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > self.limits.max_head:
                data = bytes(buffer)
                buffer.clear()
                self._read_long_head(LongHead(), data)
            elif head.cannot_become_one(buffer):
                known = origin.origins_in(buffer)
                self._refuse(InvalidRequest("That is not HTTP/1.1."), known)
            return
        self._scanned = self._empty_lines = 0
        end += len(head.END)
        data = bytes(buffer[:end])
        del buffer[:end]
        self._accept = None
        try:
            if end > self.limits.max_head:
                raise HeadTooLarge
            self._begin(head.Head(data), data)
        except UploadError as error:
            self._refuse(error, origin.origins_in(data))

    def _read_long_head(self, long_head: LongHead, data: bytes) -> None:
        """Nothing of it is kept; only a page that may use this server is worth the reading."""
        self._long_head = long_head
        if long_head.feed(data) or not cors.origins_of_process():
            self._refuse(HeadTooLarge(), long_head.origins)

    def _begin(self, request: head.Head, data: bytes) -> None:
        self._accept = fields.first(request.headers, b"accept")
        framing = framing_of(request.headers, request.version)
        if request.wants_websocket and self.config.ws_protocol_class is not None:
            self._upgrade(data)
            return
        cycle = RequestCycle(
            self,
            self._scope(request),
            framing,
            keep_alive=request.keep_alive and not self._shutting_down,
            continue_due=not framing.done and not self._buffer and request.expects_continue,
        )
        self._cycle = cycle
        self._deadline.clear()
        rest = framing.remaining
        if not framing.done and (rest is None or rest - len(self._buffer) > SMALL_BODY):
            self._pause()  # until somebody takes it, it waits in the kernel and not here
        task = self.loop.create_task(cycle.run(self._app_now()))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _app_now(self) -> Any:
        """The application, or uvicorn's answer where its `--limit-concurrency` is reached."""
        limit, state = self.config.limit_concurrency, self.server_state
        if limit is not None and max(len(state.connections), len(state.tasks)) >= limit:
            return _unavailable
        return self.app

    def _scope(self, request: head.Head) -> dict[str, Any]:
        raw_path, query = request.target()
        path = raw_path.decode("latin-1")
        if "%" in path:
            path = names.unescape(raw_path).decode("utf-8", "replace")
        root_path = self.config.root_path
        extensions: dict[str, Any] = {scope_keys.INFORMATIONAL: {}, scope_keys.PEER: self.client}
        if self.can_drain:
            extensions["http.response.zerocopysend"] = {}
        return {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": request.method,
            "root_path": root_path,
            "path": root_path + path,
            "raw_path": root_path.encode("latin-1") + raw_path if root_path else raw_path,
            "query_string": query,
            "headers": request.headers,
            "state": self.app_state.copy(),
            "extensions": extensions,
        }

    def _upgrade(self, data: bytes) -> None:
        self.server_state.connections.discard(self)
        self._deadline.clear()
        assert self.config.ws_protocol_class is not None
        protocol = self.config.ws_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        protocol.data_received(data + bytes(self._buffer))
        self.transport.set_protocol(protocol)

    # --- the body ------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def at_eof(self) -> bool:
        """The client sends no more; it may have gone altogether."""
        return self._eof

    def watch_for_end(self) -> None:
        """Reads on, so that the end of the connection is seen."""
        if len(self._buffer) <= HIGH_WATER:
            self._resume()

    def send_continue(self) -> None:
        cycle = self._cycle
        if cycle is not None and cycle.continue_due:
            cycle.continue_due = False
            if not self._buffer and not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def feed_cycle(self) -> None:
        """Gives what has arrived to an cycle whose application waits in `receive()`.

        Not more at a time than is decoded in a moment; what takes long waits for its turn.
        """
        cycle = self._cycle
        if cycle is None:
            return
        if not (cycle.framing.costly and self._buffer):
            self._feed_now()
        elif not self._feeding:
            self._feeding = True
            LoopQueue.of(self.loop).add(self._feed_in_turn)

    def _feed_in_turn(self) -> None:
        self._feeding = False
        cycle = self._cycle
        if cycle is not None and cycle.hungry and not cycle.complete:
            self._feed_now()

    def _feed_now(self) -> None:
        cycle = self._cycle
        assert cycle is not None
        if self._buffer:
            size = cycle.framing.slice(len(self._buffer))
            data = bytes(self._buffer) if size == len(self._buffer) else bytes(self._buffer[:size])
            del self._buffer[:size]
            try:
                used = cycle.framing.decode(memoryview(data), cycle.feed)
            except MalformedBody as error:
                cycle.disconnect()
                if not cycle.started:
                    self._answer_malformed(cycle, error)
                else:
                    self.transport.abort()
                return
            self._buffer[:0] = data[used:]
            cycle.hungry = False
            cycle.wake()
        if cycle.framing.done:
            cycle.wake()
        elif self._eof and not self._buffer:
            cycle.disconnect()
        if len(self._buffer) <= HIGH_WATER:
            self._resume()

    def _answer_malformed(self, cycle: RequestCycle, error: UploadError) -> None:
        cycle.started = cycle.complete = True
        self._refuse(error, cycle.scope["headers"])

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

    def default_head(self) -> DefaultHead:
        """Date and Server as bytes, made once a second for all connections."""
        headers = self.server_state.default_headers
        cls = type(self)
        if cls._default_head.fields is not headers:
            cls._default_head = DefaultHead(headers)
        return cls._default_head

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def send_file(
        self, start: bytes, file: tuple[int, int, int], runner: Runner | None
    ) -> bool:
        """Sends `start` and a file's part (descriptor, offset, size) past the transport, whose
        own buffer must be empty for that; False when the connection has broken.
        """
        await self.flow.empty()
        if self.transport.is_closing():
            return False
        duplicate = self.duplicate()
        sender = FileSender(duplicate, self.loop, self.limits.send_timeout)
        try:
            await sender.send(start, *file, runner or ThreadRunner())
        except (OSError, EOFError) as error:
            logger.info("a download broke off: %s", error)
            self.transport.abort()
            return False
        finally:
            duplicate.close()
        return True

    def abort(self) -> None:
        self.transport.abort()

    def on_response_complete(self, cycle: RequestCycle) -> None:
        self.server_state.total_requests += 1
        self._served += 1
        if self.access_log:
            self._log_access(cycle)
        if self.transport.is_closing():
            return
        if not cycle.keep_alive:
            self._cycle = None
            self._close_gently(unread=not cycle.framing.done or bool(self._buffer))
            return
        self._skip_rest(cycle)

    def _skip_rest(self, cycle: RequestCycle) -> None:
        """Reads the small rest of a body that nobody wanted, then goes on."""
        if not cycle.framing.done and self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            used = cycle.framing.decode(memoryview(data), _ignore)
            self._buffer += data[used:]
        if not cycle.framing.done:
            self._deadline.set(LINGER_IDLE)
            if self._eof:
                self.flow.finish()
            else:
                self._resume()
            return
        self._cycle = None
        if self._shutting_down:  # since its answer was sent
            self._close_gently(unread=bool(self._buffer))
            return
        if self._eof and not self._buffer:
            self.flow.finish()
            return
        keep = self.limits.keep_alive_timeout
        self._deadline.set(self.config.timeout_keep_alive if keep is None else keep)
        self._head_begun = bool(self._buffer)
        if self._buffer:
            self._deadline.set(self.limits.head_timeout)
            self.loop.call_soon(self._next_request)
        else:
            self._resume()

    def _next_request(self) -> None:
        """A pipelined one. By way of the loop, so that a long pipeline is no deep recursion."""
        if self._cycle is None and self._lingering is None and not self.transport.is_closing():
            self._read_head()
            if self._cycle is None:
                if self._eof:
                    self.flow.finish()
                self._resume()

    def _log_access(self, cycle: RequestCycle) -> None:
        scope = cycle.scope
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(cast(Any, scope)),
            scope["method"],
            target.decode("latin-1"),
            scope["http_version"],
            cycle.status,
        )

    # --- the end -------------------------------------------------------------------------------

    def _refuse(self, error: UploadError, request: Headers) -> None:
        """An answer of the connection itself, to what is not a request; then the end.

        `request`: what is known of its fields.
        """
        answer = render(error, self._accept)
        lines = [STATUS_LINES[answer.status], self.default_head().lines]
        for name, value in (*answer.headers, *cors.cors_of_connection(request)):
            lines += (name, b": ", value, b"\r\n")
        if cors.CHECKED:
            cors.check_lines(answer.status, lines[1:])
        lines += (b"connection: close\r\n\r\n", answer.body)
        self.write(b"".join(lines))
        self._cycle = self._long_head = None
        self._close_gently(unread=True)

    def _close_gently(self, *, unread: bool) -> None:
        """Closes so that the peer can read the answer although it is still sending.

        Closing a socket with unread data resets the connection, and a reset throws away what
        the peer has not read yet (RFC 9112, section 9.6). So: half-close, then read on for a
        bounded time and amount.
        """
        self._buffer.clear()
        patient = self.limits.linger_timeout > 0
        if not unread or self._eof or self.transport.is_closing() or not patient:
            self.flow.finish()
            return
        self._lingering = 0
        self._deadline.set(self._linger_seconds())
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
        self._resume()

    def _linger_seconds(self) -> float:
        seconds = self.limits.linger_timeout
        return min(seconds, LINGER_IDLE) if self._shutting_down else seconds


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    leaving = cors.CorsSend(send, scope["headers"], cors.origins_of_process())
    await service_unavailable(scope, receive, cast(Any, leaving))


def _ignore(_: memoryview) -> None:
    return None
