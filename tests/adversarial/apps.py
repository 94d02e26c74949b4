"""`app`: Starlette, with nothing of Forebay in it; `bare`: what ASGI itself promises."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

left: list[str] = []
done: list[str] = []


class Noted(StreamingResponse):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            left.append("endless")


class Marked(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        return response


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"began": "with lifespan"}


async def digest(request: Request) -> Response:
    found = hashlib.sha256()
    async for piece in request.stream():
        found.update(piece)
    return JSONResponse({"sha256": found.hexdigest(), "began": request.state.began})


async def body(request: Request) -> Response:
    return Response(await request.body())


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"%d\n" % number

    return StreamingResponse(pieces())


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)
            await asyncio.sleep(0.001)

    return Noted(pieces())


async def background(request: Request) -> Response:
    async def later() -> None:
        await asyncio.sleep(0.05)
        done.append("background")

    return Response("now", background=BackgroundTask(later))


async def told(request: Request) -> Response:
    return JSONResponse({"left": left, "done": done})


async def url(request: Request) -> Response:
    scope = request.scope
    names = ("root_path", "path", "http_version", "method", "scheme", "query_string", "raw_path")
    found = {n: v.decode() if isinstance(v := scope[n], bytes) else v for n in names}
    return JSONResponse({**found, "url": str(request.url)})


async def fails(request: Request) -> Response:
    raise ZeroDivisionError


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    with contextlib.suppress(Exception):
        while True:
            await socket.send_text(await socket.receive_text())


app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(Marked)],
    routes=[
        Route("/digest", digest, methods=["PUT"]),
        Route("/body", body, methods=["PUT"]),
        Route("/stream", stream),
        Route("/endless", endless),
        Route("/background", background),
        Route("/told", told),
        Route("/url/{rest:path}", url),
        Route("/fails", fails),
        WebSocketRoute("/echo", echo),
    ],
)
