"""Every middleware that frameworks ship, around one `Forebay`, each alone and each two together."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from litestar import Litestar, asgi
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.logging import LoggingConfig
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.middleware import DefineMiddleware as Define
from litestar.middleware.compression import CompressionMiddleware
from litestar.middleware.csrf import CSRFMiddleware
from litestar.middleware.logging import LoggingMiddlewareConfig
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from forebay import Forebay


class Somebody(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(), SimpleUser("somebody")


class SomebodyHere(AbstractAuthenticationMiddleware):
    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
        return AuthenticationResult(user="somebody", auth=None)


async def passing_on(request: Any, call_next: Any) -> Any:
    return await call_next(request)


async def reading_first(request: Any, call_next: Any) -> Any:
    await request.body()
    return await call_next(request)


class Counting:
    """An application's own: counts what goes through it, both ways."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        counts = {"in": 0, "out": 0}

        async def counted_receive() -> Any:
            message = await receive()
            counts["in"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Any) -> None:
            counts["out"] += len(message.get("body", b""))
            await send(message)

        await self.app(scope, counted_receive, counted_send)
        if scope["type"] == "http" and scope["method"] == "GET":
            COUNTED.append(counts["out"])
        elif scope["type"] == "http" and scope["method"] == "PUT":
            COUNTED.append(counts["in"])


COUNTED: list[int] = []

STARLETTE: dict[str, Middleware] = {
    "authentication": Middleware(AuthenticationMiddleware, backend=Somebody()),
    "base": Middleware(BaseHTTPMiddleware, dispatch=passing_on),
    "base that reads": Middleware(BaseHTTPMiddleware, dispatch=reading_first),
    "cors": Middleware(CORSMiddleware, allow_origins=["*"]),
    "errors": Middleware(ServerErrorMiddleware),
    "exceptions": Middleware(ExceptionMiddleware),
    "gzip": Middleware(GZipMiddleware),
    "https": Middleware(HTTPSRedirectMiddleware),
    "hosts": Middleware(TrustedHostMiddleware, allowed_hosts=["*"]),
    "counting": Middleware(Counting),
}
try:
    from starlette.middleware.sessions import SessionMiddleware

    STARLETTE["sessions"] = Middleware(SessionMiddleware, secret_key="secret")
except ImportError:  # needs itsdangerous
    pass
try:
    from starlette.middleware.body_limit import RequestBodyLimitMiddleware

    STARLETTE["body limit"] = Middleware(RequestBodyLimitMiddleware, max_body_size=10**7)
except ImportError:  # before Starlette 1.1
    pass
try:
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

    STARLETTE["telemetry"] = Middleware(OpenTelemetryMiddleware)
except ImportError:
    pass
try:
    from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware

    STARLETTE["exit stack"] = Middleware(AsyncExitStackMiddleware)
except ImportError:
    pass

CSRF = CSRFConfig(secret="secret", safe_methods={"GET", "HEAD", "PUT"})
LITESTAR: dict[str, Any] = {
    "authentication": Define(SomebodyHere),
    "gzip": Define(CompressionMiddleware, config=CompressionConfig(backend="gzip")),
    "brotli": Define(CompressionMiddleware, config=CompressionConfig(backend="brotli")),
    "csrf": Define(CSRFMiddleware, config=CSRF),
    "logging": LoggingMiddlewareConfig(
        request_log_fields=("path",), response_log_fields=("status_code",)
    ).middleware,
    "rate": RateLimitConfig(rate_limit=("second", 100_000)).middleware,
    "sessions": ServerSideSessionConfig().middleware,
}
LOGGING = LoggingConfig(
    handlers={"queue_listener": {"class": "logging.NullHandler"}}, configure_root_logger=False
)


def starlette_app(uploads: Forebay, *middleware: Middleware) -> Any:
    return Starlette(routes=[Mount("/files", uploads.files)], middleware=list(middleware))


def litestar_app(uploads: Forebay, *middleware: Any) -> Any:
    @asgi("/files", is_mount=True, copy_scope=True)
    async def files(scope: Any, receive: Any, send: Any) -> None:
        await uploads.files(scope, receive, send)

    return Litestar(
        [files],
        middleware=list(middleware),
        cors_config=CORSConfig(allow_origins=["*"]),
        allowed_hosts=AllowedHostsConfig(allowed_hosts=["*"]),
        openapi_config=None,
        logging_config=LOGGING,
    )


def twos(found: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """None, each alone, and each two in either order."""
    names: list[tuple[str, ...]] = [(), *((name,) for name in found)]
    names += itertools.permutations(found, 2)
    return {" + ".join(group): tuple(found[name] for name in group) for group in names}


class Stacks:
    """An ASGI application with all of them, by `/KIND/NUMBER`."""

    def __init__(self, uploads: Forebay) -> None:
        self.uploads = uploads
        self.names: list[tuple[str, str]] = []
        self._apps: dict[str, Any] = {}
        self._add("starlette", STARLETTE, starlette_app)
        self._add("litestar", LITESTAR, litestar_app)

    def _add(self, kind: str, found: dict[str, Any], make: Callable[..., Any]) -> None:
        for name, middleware in twos(found).items():
            path = f"/{len(self.names)}"
            self._apps[path] = lambda m=middleware: make(self.uploads, *m)
            self.names.append((kind, name))

    def path(self, kind: str, name: str) -> str:
        return f"/{self.names.index((kind, name))}/files"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.uploads.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        number = "/" + scope["path"].split("/")[1]
        app = self._apps[number]
        if getattr(app, "__name__", "") == "<lambda>":
            app = self._apps[number] = app()
        below = dict(scope)
        below["scheme"] = "https"  # for those that redirect what is not
        below["path"] = scope["path"][len(number) :]
        below["raw_path"] = (scope.get("raw_path") or scope["path"].encode())[len(number) :]
        await app(below, receive, send)
