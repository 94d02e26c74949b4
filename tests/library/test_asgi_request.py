"""Limits of a framework hold for uploads, and the rest of a body is never taken for the whole."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from litestar import Litestar, post
from litestar import Request as LitestarRequest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from forebay import Forebay, Upload
from library.inside import Serving, serving
from raw_http import RawClient, head

body_limit = pytest.importorskip("starlette.middleware.body_limit")
LIMIT = 100_000
Make = Callable[[Forebay], Any]


def fastapi_app(uploads: Forebay, *, route: int | None = None, **options: Any) -> Any:
    app = FastAPI(lifespan=uploads.lifespan, **options)
    limit = {} if route is None else {"max_body_size": route}

    @app.post("/in", **limit)
    async def take(upload: Upload = uploads.receive("in/")) -> None: ...

    @app.post("/by-hand", **limit)
    async def by_hand(request: Request) -> None:
        async with uploads.create_upload(request, "in/") as upload:
            await upload.body()

    app.mount("/files", uploads.files)
    return app


def starlette_app(uploads: Forebay) -> Any:
    limit = Middleware(body_limit.RequestBodyLimitMiddleware, max_body_size=LIMIT)
    routes = [Mount("/files", uploads.files)]
    return Starlette(routes=routes, middleware=[limit], lifespan=uploads.lifespan)


def litestar_app(uploads: Forebay, app: int | None = None, route: int | None = None) -> Any:
    of_route = {} if route is None else {"request_max_body_size": route}

    @post("/in", **of_route)
    async def take(request: LitestarRequest[Any, Any, Any]) -> None:
        async with uploads.received(request, to="in/"):
            pass

    of_app = {} if app is None else {"request_max_body_size": app}
    return Litestar([take], lifespan=[uploads.lifespan], openapi_config=None, **of_app)


STACKS: dict[str, tuple[Make, list[str]]] = {
    "starlette": (starlette_app, ["/files/"]),
    "litestar": (lambda u: litestar_app(u, app=LIMIT), ["/in"]),
    "litestar route": (lambda u: litestar_app(u, route=LIMIT), ["/in"]),
}
if "max_body_size" in inspect.signature(FastAPI).parameters:
    STACKS["fastapi"] = (
        lambda u: fastapi_app(u, max_body_size=LIMIT),
        ["/in", "/by-hand", "/files/"],
    )
    STACKS["fastapi route"] = (lambda u: fastapi_app(u, route=LIMIT), ["/in", "/by-hand"])


@contextlib.contextmanager
def stack(make: Make, folder: Path, server: str) -> Iterator[Serving]:
    with serving(make(Forebay(folder, durability="relaxed")), server) as found:
        yield found


def stored(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if ".forebay" not in path.parts)
    return [path.name for path in found if path.is_file()]


def chunked(size: int) -> Iterator[bytes]:
    for start in range(0, size, 10_000):
        yield b"x" * min(10_000, size - start)


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
@pytest.mark.parametrize("name", STACKS)
def test_a_limit_of_the_framework_holds_with_a_length_and_without(
    tmp_path: Path, name: str, server: str
):
    make, paths = STACKS[name]
    with stack(make, tmp_path, server) as found:
        for path in paths:
            for content in (b"x" * (LIMIT + 1), chunked(LIMIT * 3)):
                with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # uvicorn resets
                    answer = httpx.post(found.url + path, content=content)
                    assert answer.status_code == 413, (path, answer.text)
                assert stored(tmp_path) == []
        for number, path in enumerate(paths):
            for content in (b"x" * LIMIT, chunked(LIMIT)):
                assert httpx.post(found.url + path, content=content).status_code in (200, 201)
            assert len(stored(tmp_path)) == 2 * (number + 1)


def test_the_default_of_litestar_is_no_limit_for_uploads(tmp_path: Path):
    with stack(litestar_app, tmp_path, "direct") as found:
        assert httpx.post(f"{found.url}/in", content=b"x" * 10_000_001).status_code == 201
    assert len(stored(tmp_path)) == 1


class TooMuch(Exception):
    pass


class LimitOfItsOwn:
    """Middleware as it is often written: it raises where it counts, and answers where it began."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        received = 0

        async def counted() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LIMIT:
                raise TooMuch
            return message

        try:
            await self.app(scope, counted, send)
        except TooMuch:
            await PlainTextResponse("too much", 413)(scope, receive, send)


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
def test_a_limit_that_raises_where_it_counts_answers_for_itself(tmp_path: Path, server: str):
    uploads = Forebay(tmp_path, durability="relaxed")
    app = FastAPI(lifespan=uploads.lifespan)
    app.add_middleware(LimitOfItsOwn)
    app.mount("/files", uploads.files)
    app.mount("/uploads", uploads.resumable)

    @app.post("/in")
    async def take(upload: Upload = uploads.receive("in/")) -> None: ...

    body = b"x" * (LIMIT + 1)
    form = {"files": {"file": ("a.bin", body)}}
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(body))}
    tus["Content-Type"] = "application/offset+octet-stream"
    with serving(app, server) as found, httpx.Client(base_url=found.url) as client:
        answers = [
            client.put("/files/a", content=body),
            client.put("/files/a", content=chunked(len(body))),
            client.post("/files/", **form),
            client.post("/in", content=chunked(len(body))),
            client.post("/uploads/", content=body, headers=tus),
        ]
        assert [(answer.status_code, answer.text) for answer in answers] == [
            (413, "too much")
        ] * len(answers)
        assert client.put("/files/b", content=b"abc").status_code == 201
    assert stored(tmp_path) == ["b"]


async def reads_it(request: Any, call_next: Any) -> Any:
    async for _ in request.stream():
        pass
    return await call_next(request)


class ReadsSome:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
        await self.app(scope, receive, send)


class ReadsSomeBehindAFunction(ReadsSome):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def passed_on() -> Any:
            return await receive()

        if scope["type"] == "http":
            await receive()
        await self.app(scope, passed_on, send)


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
@pytest.mark.parametrize(
    "reader",
    [
        Middleware(BaseHTTPMiddleware, dispatch=reads_it),
        Middleware(ReadsSome),
        Middleware(ReadsSomeBehindAFunction),
    ],
    ids=["a dispatch function", "directly", "behind a function"],
)
def test_the_rest_of_a_body_is_never_taken_for_the_whole(
    tmp_path: Path, reader: Middleware, server: str
):
    uploads = Forebay(tmp_path, durability="relaxed")
    app = Starlette(
        routes=[Mount("/files", uploads.files)], middleware=[reader], lifespan=uploads.lifespan
    )
    with serving(app, server) as found, RawClient(found) as client:
        request = head("PUT", "/files/a", "Connection: close", length=400_000)
        client.send(request + b"x" * 400_000)
        # 400 where a rest was left, which looks like a client that went away.
        assert client.head()[0] in (400, 500)
    assert stored(tmp_path) == []


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
@pytest.mark.parametrize("reader", [ReadsSome, ReadsSomeBehindAFunction])
def test_the_rest_of_a_body_moves_no_bytes_of_an_upload(
    tmp_path: Path, reader: type[ReadsSome], server: str
):
    """What is left after middleware has read the beginning belongs elsewhere in the file."""
    uploads = Forebay(tmp_path, durability="relaxed")
    app = Starlette(
        routes=[Mount("/uploads", uploads.resumable)],
        middleware=[Middleware(reader)],
        lifespan=uploads.lifespan,
    )
    tus = {"Tus-Resumable": "1.0.0"}
    with serving(app, server) as found, httpx.Client(base_url=found.url) as client:
        made = client.post("/uploads/", headers={**tus, "Upload-Length": "400000"})
        place = made.headers["location"]
        kind = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        assert client.patch(place, content=b"x" * 400_000, headers=kind).status_code in (400, 500)
        assert client.head(place, headers=tus).headers["upload-offset"] == "0"


@pytest.mark.filterwarnings("ignore:.*Reserved kwarg")
@pytest.mark.parametrize("server", ["direct", "uvicorn"])
def test_data_of_litestar_beside_an_upload_is_an_error_and_no_wait(tmp_path: Path, server: str):
    uploads = Forebay(tmp_path, durability="relaxed")

    @post("/bytes")
    async def with_bytes(request: LitestarRequest[Any, Any, Any], body: bytes) -> None:
        async with uploads.received(request, to="in/"):
            pass

    @post("/json")
    async def with_json(request: LitestarRequest[Any, Any, Any], data: dict[str, Any]) -> None:
        async with uploads.received(request, to="in/"):
            pass

    @post("/streamed")
    async def streamed(request: LitestarRequest[Any, Any, Any]) -> None:
        async for _ in request.stream():
            pass
        async with uploads.received(request, to="in/"):
            pass

    app = Litestar(
        [with_bytes, with_json, streamed], lifespan=[uploads.lifespan], openapi_config=None
    )
    with serving(app, server) as found:
        for path in ("/bytes", "/json", "/streamed"):
            kind = {"content-type": "application/json"}
            answer = httpx.post(found.url + path, content=b'{"a": 1}', headers=kind, timeout=20)
            assert answer.status_code == 500, path
    assert stored(tmp_path) == []
