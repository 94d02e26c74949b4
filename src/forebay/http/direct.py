"""`DirectProtocol`: HTTP/1.1 for uvicorn, with bodies that workers drain from the socket.

    IDLE ──bytes──> HEAD ──whole head──> CYCLE ──response, body read──> IDLE
                      │                     └──response, body unread──> LINGER ──> closed
                      └──malformed, too long, too slow──> answer ──> LINGER

uvicorn gives sockets, TLS, workers, signals, logging and lifespan; this class replaces its
`HttpToolsProtocol` (versions as pinned in pyproject.toml). It serves any ASGI application:
`uvicorn --http forebay.http.direct:DirectProtocol app:app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from forebay.errors import MalformedBody, UploadError
from forebay.http import cors, head, logs, scope_keys
from forebay.http.answers import Headers
from forebay.http.deadline import Deadline
from forebay.http.default_head import DefaultHead
from forebay.http.drain import duplicate_socket
from forebay.http.flow_control import FlowControl
from forebay.http.head_reader import HeadReader, HeadRefused, Request
from forebay.http.limits import ConnectionLimits
from forebay.http.loop_queue import LoopQueue
from forebay.http.request_body import RequestBody
from forebay.http.request_cycle import RequestCycle
from forebay.http.response_encoder import encode
from forebay.http.sendfile import FileSender, Runner, ThreadRunner
from forebay.protocol import fields, names
from forebay.protocol.status import render

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = logging.getLogger("uvicorn.error")
access_logger = logging.getLogger("uvicorn.access")

SMALL_BODY = 16 << 10
"""Bytes. A body of which no more than this is missing is read before the application asks."""
LINGER_BYTES = 1 << 30
"""Most bytes that are read and dropped after the last answer."""
LINGER_AT_ONCE = 1 << 20
"""Bytes after which a lingering connection waits for its turn with others."""
SKIP_TIMEOUT = 5.0
"""Seconds for the rest of an unwanted body, and for lingering while the server drains."""


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
        self.flow: FlowControl = cast(FlowControl, None)
        self._paused = False
        self._buffer = bytearray()
        """What was read and not used yet: of the next head, or of the body after a head."""
        self._heads = HeadReader(self._buffer)
        self._head_begun = False
        self._cycle: RequestCycle | None = None
        self._lingering: int | None = None
        """Bytes that were dropped since the last answer; None before it."""
        self._eof = False
        self._shutting_down = False
        self._deadline = Deadline(self.loop, self._late)

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        cls = type(self)  # whose limits may be replaced; `self` would be a reference cycle
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
            cycle.body.disconnect()
        self.flow.lost()
        self._buffer.clear()

    def eof_received(self) -> bool | None:
        self._eof = True
        cycle = self._cycle
        if self._lingering is not None:
            return None
        if cycle is None:
            if self._heads.too_long:
                self._refuse_head(self._heads.cut_off())
                return self.can_drain
            # A pipelined request that is about to be read still gets its answer.
            return self.can_drain and head.END in self._buffer
        if cycle.complete:
            return None  # the rest of an unwanted body will not come
        cycle.body.eof_received()
        # The other direction stays open for the answer; TLS cannot do that.
        return self.can_drain

    def data_received(self, data: bytes) -> None:
        cycle = self._cycle
        if self._lingering is not None:
            self._drop(len(data))
        elif cycle is None:
            if not self._head_begun:  # once for each head, however many empty lines come first
                self._head_begun = True
                self._deadline.set(self.limits.head_timeout)
            self._buffer += data
            self._read_head()
        elif cycle.complete:
            self._buffer += data
            self._skip_rest(cycle)
        else:
            cycle.body.data_received(data)

    def pause_writing(self) -> None:
        self.flow.pause()

    def resume_writing(self) -> None:
        self.flow.resume()

    def shutdown(self) -> None:
        """The server drains: an idle connection closes now, a busy one after its response."""
        self._shutting_down = True
        if self._cycle is not None:
            self._cycle.response.keep_alive = False
        elif self._lingering is None:
            self.flow.finish()
        else:
            self._deadline.set(1.0)  # the answer is out; the shutdown must not wait for readers

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._cycle is not None or self._lingering is not None:
            self.transport.abort()  # skipping or lingering: the answer has been sent
            return
        refused = self._heads.cut_off()
        if refused is None:
            self.flow.finish()
        else:
            self._refuse_head(refused)

    # --- requests --------------------------------------------------------------------------------

    def _read_head(self) -> None:
        try:
            request = self._heads.read(self.limits.max_head)
        except HeadRefused as refused:
            self._refuse_head(refused)
            return
        if request is None:
            return
        if request.head.wants_websocket and self.config.ws_protocol_class is not None:
            self._upgrade(request.raw)
        else:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        framing, given = request.framing, request.head
        due = not framing.done and not self._buffer and given.expects_continue
        cycle = RequestCycle(
            self,
            self._scope(request),
            RequestBody(self, framing, self._buffer, continue_due=due),
            keep_alive=given.keep_alive and not self._shutting_down,
        )
        self._cycle = cycle
        self._deadline.clear()
        rest = framing.remaining
        if not framing.done and (rest is None or rest - len(self._buffer) > SMALL_BODY):
            self.pause()  # until the application reads, the body waits in the kernel
        task = self.loop.create_task(cycle.run(self._app_now()))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _app_now(self) -> Any:
        """The application, or uvicorn's answer when its `--limit-concurrency` is reached."""
        limit, state = self.config.limit_concurrency, self.server_state
        if limit is not None and max(len(state.connections), len(state.tasks)) >= limit:
            return _unavailable
        return self.app

    def _scope(self, request: Request) -> dict[str, Any]:
        path = request.path.decode("latin-1")
        if "%" in path:
            path = names.unescape(request.path).decode("utf-8", "replace")
        root = self.config.root_path
        extensions: dict[str, Any] = {scope_keys.INFORMATIONAL: {}, scope_keys.PEER: self.client}
        if self.can_drain:
            extensions["http.response.zerocopysend"] = {}
        return {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": request.head.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": request.head.method,
            "root_path": root,
            "path": root + path,
            "raw_path": root.encode("latin-1") + request.path if root else request.path,
            "query_string": request.query,
            "headers": request.head.headers,
            "state": self.app_state.copy(),
            "extensions": extensions,
        }

    def _upgrade(self, raw: bytes) -> None:
        self.server_state.connections.discard(self)
        self._deadline.clear()
        assert self.config.ws_protocol_class is not None
        protocol = self.config.ws_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        protocol.data_received(raw + bytes(self._buffer))
        self.transport.set_protocol(protocol)

    # --- for a request and its body --------------------------------------------------------------

    @property
    def at_eof(self) -> bool:
        """The client sends no more; it may be gone."""
        return self._eof

    def pause(self) -> None:
        """Stops reading."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def duplicate(self) -> socket.socket:
        """The same connection under a descriptor of its own. Raises NoDescriptors,
        IncompleteBody.
        """
        return duplicate_socket(self.transport.get_extra_info("socket"))

    def default_head(self) -> DefaultHead:
        """Date and Server as bytes, made once a second for all connections."""
        headers = self.server_state.default_headers
        cls = type(self)
        if cls._default_head.fields is not headers:
            cls._default_head = DefaultHead(headers)
        return cls._default_head

    def write(self, data: bytes) -> None:
        """Sends these bytes, unless the connection is closing."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def send_file(
        self, start: bytes, file: tuple[int, int, int], runner: Runner | None
    ) -> bool:
        """Sends `start` and a part of a file (descriptor, offset, size) past the transport, whose
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
            # As text: a log record that is stored must not hold the connection by the traceback.
            logger.info("a download broke off: %s", str(error))
            self.transport.abort()
            return False
        finally:
            duplicate.close()
        return True

    def abort(self) -> None:
        """Breaks the connection."""
        self.transport.abort()

    # --- after a response ------------------------------------------------------------------------

    def on_response_complete(self, cycle: RequestCycle) -> None:
        """Ends the connection, or makes it ready for the next request."""
        self.server_state.total_requests += 1
        if self.access_log:
            logs.log_access(cycle.scope, cycle.status)
        if self.transport.is_closing():
            return
        if cycle.response.keep_alive:
            self._skip_rest(cycle)
            return
        self._cycle = None
        self._close_gently(unread=not cycle.body.framing.done or bool(self._buffer))

    def _skip_rest(self, cycle: RequestCycle) -> None:
        """Reads the small rest of an unwanted body, then goes on with the next request."""
        if not cycle.body.skip():
            self._deadline.set(SKIP_TIMEOUT)
            if self._eof:
                self.flow.finish()
            else:
                self.resume()
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
            self.resume()

    def _next_request(self) -> None:
        """A pipelined one. By way of the loop, so that a long pipeline is no deep recursion."""
        if self._cycle is None and self._lingering is None and not self.transport.is_closing():
            self._read_head()
            if self._cycle is None:
                if self._eof:
                    self.flow.finish()
                self.resume()

    # --- the end ---------------------------------------------------------------------------------

    def refuse_body(self, error: MalformedBody) -> None:
        """Answers a request whose body is malformed; breaks off when its response has started."""
        cycle = self._cycle
        if cycle is None or cycle.started:
            self.transport.abort()
        else:
            cycle.started = cycle.complete = True
            self._refuse(error, cycle.scope["headers"])

    def _refuse_head(self, refused: HeadRefused | None) -> None:
        if refused is not None:
            self._refuse(refused.error, refused.fields)

    def _refuse(self, error: UploadError, request: Headers) -> None:
        """Answers what is not a request, without the application; then the connection ends.

        `request`: what is known of its fields.
        """
        answer = render(error, fields.first(request, b"accept"))
        self.write(encode(answer, cors.cors_of_connection(request), self.default_head()))
        self._cycle = None
        self._close_gently(unread=True)

    def _close_gently(self, *, unread: bool) -> None:
        """Closes so that the client can read the answer even while it is still sending.

        Closing a socket with unread data resets the connection, and a reset throws away what
        the client has not read yet (RFC 9112, section 9.6). So this half-closes, then reads on for
        a bounded time and amount.
        """
        self._buffer.clear()
        patient = self.limits.linger_timeout > 0
        if not unread or self._eof or self.transport.is_closing() or not patient:
            self.flow.finish()
            return
        self._lingering = 0
        seconds = self.limits.linger_timeout
        self._deadline.set(min(seconds, SKIP_TIMEOUT) if self._shutting_down else seconds)
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
        self.resume()

    def _drop(self, size: int) -> None:
        """Counts what was read after the last answer. Of all lingering connections together, the
        event loop reads only so much at once that others do not wait for it.
        """
        assert self._lingering is not None
        self._lingering += size
        if self._lingering > LINGER_BYTES:
            self.transport.abort()
        elif self._lingering > LINGER_AT_ONCE and not self._paused:
            self.pause()
            LoopQueue.of(self.loop).add(self.resume)


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    send = cors.CorsSend(send, scope["headers"], cors.origins_of_process())
    await service_unavailable(scope, receive, cast(Any, send))
