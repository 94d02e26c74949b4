"""The application of `forebay serve`: its routes, and its lifespan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from forebay.errors import MethodNotAllowed, NotFound
from forebay.http import scope_keys
from forebay.http.answers import Receive, Send, answer_error, send_answer, text_answer
from forebay.http.cors import CorsSend, add_origins_of
from forebay.http.dialects import dialects
from forebay.http.files import FilesApp
from forebay.http.ietf import Ietf
from forebay.http.partial import Partial
from forebay.http.tus_files import TusAtFiles
from forebay.http.uploads import UploadsApp
from forebay.http.urls import mount_of, outside_of
from forebay.protocol import origin
from forebay.protocol.status import Answer

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

Hook = Callable[[], Awaitable[None]]

_METHODS = b"GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"

_WELCOME = """Forebay takes files of any size.

  curl -T FILE            {base}/files/       (curl adds the name)
  curl -T FILE            {base}/files/NAME
  curl --data-binary @FILE -H 'X-Filename: NAME' {base}/files/
  curl                    {base}/files/       (what is here)
"""


class ServerApp:
    """All routes. `on_startup` and `on_shutdown` run in uvicorn's lifespan."""

    def __init__(
        self,
        engine: Engine,
        *,
        listening_on_loopback: bool,
        on_startup: Hook | None = None,
        on_shutdown: Hook | None = None,
    ) -> None:
        self.engine = engine
        add_origins_of(engine)
        offers = engine.settings.resumable
        self.creator = Ietf(engine) if offers else None
        self.files = FilesApp(
            engine,
            listening_on_loopback=listening_on_loopback,
            creator=self.creator,
            partial=Partial(engine) if offers else None,
            tus=TusAtFiles(engine) if offers else None,
        )
        self.uploads = (
            UploadsApp(engine, dialects(engine), listening_on_loopback=listening_on_loopback)
            if offers
            else None
        )
        self._on_startup = on_startup
        self._on_shutdown = on_shutdown

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"Forebay serves http, not {scope['type']}.")
        cors_send = CorsSend(send, scope["headers"], self.engine.settings.allow_origin)
        try:
            await self._serve(scope, receive, cors_send)
        except Exception as error:
            if cors_send.started:  # too late for another answer
                raise
            await send_answer(cors_send, answer_error(error, scope))

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path: bytes = scope["raw_path"]
        root = mount_of(scope)
        scope[scope_keys.BASE] = root
        scope[scope_keys.FILES], scope[scope_keys.UPLOADS] = f"{root}/files", f"{root}/uploads"
        if path.startswith(b"/files/") or path == b"/files":
            scope["root_path"] += "/files"
            await self.files(scope, receive, send)
            return
        if self.uploads is not None and (path.startswith(b"/uploads/") or path == b"/uploads"):
            scope["root_path"] += "/uploads"
            await self.uploads(scope, receive, send)
            return
        await self._own(scope, send, path)

    async def _own(self, scope: dict[str, Any], send: Send, path: bytes) -> None:
        if path == b"*" and scope["method"] == "OPTIONS":  # RFC 9110, section 9.3.7
            offered = self.creator.offer(scope) if self.creator is not None else ()
            await send_answer(send, Answer(204, ((b"allow", _METHODS), *offered)))
            return
        if origin.is_preflight(scope["method"], scope["headers"]):
            allowed = self.engine.settings.allow_origin
            await send_answer(send, origin.preflight(scope["headers"], allowed, ("GET", "HEAD")))
            return
        if path not in (b"/", b"/healthz", b"/readyz"):
            raise NotFound("There is nothing here; files are under /files/.")
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(allow=("GET", "HEAD"))
        no_store = ((b"cache-control", b"no-store"),)
        if path == b"/readyz":
            reason = await self.engine.why_not_ready()
            answer = text_answer(503 if reason else 200, f"{reason or 'ready'}\n", no_store)
        elif path == b"/healthz":
            answer = text_answer(200, "ok\n", no_store)
        else:
            host = next((v for k, v in scope["headers"] if k == b"host"), b"HOST")
            outside = outside_of(scope, self.engine.settings)
            base = outside.origin(scope["scheme"], host.decode("ascii", "replace"))
            base += outside.prefix
            answer = text_answer(200, _WELCOME.format(base=base), no_store)
        await send_answer(send, answer)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if self._on_startup is not None:
                await self._on_startup()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._on_shutdown is not None:
            await self._on_shutdown()
        await send({"type": "lifespan.shutdown.complete"})
