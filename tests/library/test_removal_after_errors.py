"""A file whose answer is an error is removed before the client sees that, whoever answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from litestar import Litestar, post
from litestar import Request as LitestarRequest
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from forebay import Forebay, Form, Upload
from library.inside import Serving, serving
from waiting import wait_for

DATA = b"some bytes" * 5000


class Turning:
    """Middleware that turns every success into `status`, and says what was there just then."""

    def __init__(self, app: Any, status: int, folder: Path) -> None:
        self.app, self.status, self.folder = app, status, folder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def turned(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "status": self.status}
            await send(message)

        await self.app(scope, receive, turned if scope["type"] == "http" else send)


class Raising:
    """Middleware that fails when it sees the answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def failing(message: Any) -> None:
            raise RuntimeError("this middleware is broken")

        await self.app(scope, receive, failing if scope["type"] == "http" else send)


class BrokenResponse(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("cannot be sent")


def endless() -> Iterator[bytes]:
    raise RuntimeError("nothing to send")
    yield b""


class Case:
    """Routes that answer in every way, in FastAPI, with or without middleware around them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uploads = Forebay(folder, durability="relaxed", on_conflict="rename")
        self.told: list[str] = []
        self.uploads.on_complete(lambda upload: self.told.append(upload.name))
        self.serving: Serving
        self.answers = {
            "fine": lambda: Response(),
            "moved": lambda: Response(status_code=303, headers={"location": "/"}),
            "refused": lambda: Response(status_code=409),
            "failed": lambda: Response(status_code=503),
            "no file": lambda: FileResponse(folder / "missing"),
            "cannot be sent": BrokenResponse,
            "begins and breaks": lambda: StreamingResponse(endless()),
        }
        self.later: list[int] = []

    def app(self) -> FastAPI:
        uploads, app = self.uploads, FastAPI(lifespan=self.uploads.lifespan)
        one, several = uploads.receive("in/"), uploads.form({"f": "in/"})

        @app.post("/one/{kind}")
        async def take_one(kind: str, upload: Upload = one) -> Any:
            return self.answers[kind]()

        @app.post("/form/{kind}")
        async def take_form(kind: str, form: Form = several) -> Any:
            return self.answers[kind]()

        @app.post("/by-hand/{kind}")
        async def take_by_hand(kind: str, request: Request) -> Any:
            async with uploads.create_upload(request, "in/") as upload:
                await upload.body()
            return self.answers[kind]()

        @app.post("/after/{kind}")
        async def raise_after(kind: str, request: Request) -> Any:
            async with uploads.received(request, to="in/"):
                pass
            raise HTTPException(409) if kind == "refused" else RuntimeError("after the block")

        @app.post("/wrong")
        async def wrong_type(upload: Upload = one) -> int:
            return "not a number"  # type: ignore[return-value]

        @app.post("/background")
        async def background(upload: Upload = one) -> Any:
            size = lambda: self.later.append(len(Path(upload.path or "").read_bytes()))  # noqa: E731
            return JSONResponse({"name": upload.name}, background=BackgroundTask(size))

        app.mount("/files", uploads.files)
        return app

    def stored(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if ".forebay" not in path.parts)
        return sorted(path.name for path in found if path.is_file())

    def post(self, path: str) -> int:
        """The status; 0 for a connection that ended without an answer."""
        body: dict[str, Any] = {"content": DATA}
        if path.startswith("/form") or path == "/files/form/":
            body = {"files": {"f": ("a", DATA)}}
            path = path.replace("/files/form/", "/files/")
        try:
            with httpx.Client() as client:
                return client.post(self.serving.url + path, **body).status_code
        except httpx.HTTPError:
            return 0


@contextlib.contextmanager
def running(case: Case, app: Any, server: str) -> Iterator[Case]:
    with serving(app, server) as case.serving:
        yield case


@pytest.fixture(scope="module", params=["direct", "uvicorn", "hypercorn"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    found = Case(tmp_path_factory.mktemp("data"))
    with running(found, found.app(), request.param):
        yield found


@pytest.fixture(autouse=True)
def nothing_there(request: pytest.FixtureRequest) -> None:
    if "case" in request.fixturenames:
        case = request.getfixturevalue("case")
        for path in case.folder.rglob("*"):
            if path.is_file() and ".forebay" not in path.parts:
                path.unlink()
        case.told.clear()


MADE = ["/one/fine", "/form/fine", "/by-hand/fine", "/files/", "/files/form/"]
WAYS = ["/one", "/form", "/by-hand"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["fine", "moved"])
def test_a_file_whose_answer_is_no_error_stays_and_completes_before_it(
    case: Case, way: str, kind: str
):
    assert case.post(f"{way}/{kind}") in (200, 303)
    assert len(case.stored()) == len(case.told) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "kind", ["refused", "failed", "no file", "cannot be sent", "begins and breaks"]
)
def test_a_file_whose_answer_is_an_error_or_never_comes_is_removed(case: Case, way: str, kind: str):
    status = case.post(f"{way}/{kind}")
    # hypercorn has sent the head of what breaks only then
    assert status >= 400 or kind == "begins and breaks"
    assert (case.stored(), case.told) == ([], [])


@pytest.mark.parametrize("path", ["/after/refused", "/after/broken", "/wrong"])
def test_an_error_after_the_block_removes_the_file_too(case: Case, path: str):
    assert case.post(path) >= 400
    assert (case.stored(), case.told) == ([], [])


def test_a_background_task_finds_the_file(case: Case):
    assert case.post("/background") == 200
    assert case.post("/one/fine") == 200  # the task has run when its connection is used again
    wait_for(lambda: case.later)
    assert case.later.pop() == len(DATA)


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
@pytest.mark.parametrize("path", MADE)
def test_middleware_may_turn_the_answer_into_an_error(tmp_path: Path, server: str, path: str):
    case = Case(tmp_path / "data")
    app = case.app()
    app.add_middleware(Turning, status=413, folder=case.folder)
    with running(case, app, server):
        assert case.post(path) == 413
        assert (case.stored(), case.told) == ([], [])


@pytest.mark.parametrize("path", ["/one/fine", "/files/", "/files/form/"])
def test_what_is_outside_of_the_application_counts_on_our_server(tmp_path: Path, path: str):
    case = Case(tmp_path / "data")
    app = Turning(Raising(case.app()), 418, case.folder)
    with running(case, app, "direct"):
        assert case.post(path) in (418, 500)
        assert (case.stored(), case.told) == ([], [])


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
def test_litestar_removes_the_file_too(tmp_path: Path, server: str):
    case = Case(tmp_path / "data")

    @post("/one/{kind:str}")
    async def take(request: LitestarRequest[Any, Any, Any]) -> None:
        async with case.uploads.received(request, to="in/"):
            pass
        if request.path_params["kind"] != "fine":
            raise RuntimeError("after the block")

    app = Litestar([take], lifespan=[case.uploads.lifespan], openapi_config=None)
    with running(case, app, server):
        assert (case.post("/one/fine"), len(case.stored()), len(case.told)) == (201, 1, 1)
        assert (case.post("/one/bad"), len(case.stored()), len(case.told)) == (500, 1, 1)


@pytest.mark.parametrize("server", ["direct", "uvicorn", "hypercorn"])
@pytest.mark.parametrize("path", ["/options", "/form"])
def test_in_front_of_an_application_the_file_is_gone_before_the_client_sees_the_error(
    tmp_path: Path, server: str, path: str
):
    case = Case(tmp_path / "data")
    seen: list[list[str]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(case.stored())
        await send({"type": "http.response.start", "status": 409, "headers": []})
        await send({"type": "http.response.body", "body": b"n", "more_body": True})
        seen.append(case.stored())
        await send({"type": "http.response.body", "body": b"o", "more_body": False})

    app = case.uploads.in_front_of(
        inner,
        {"/options": case.uploads.options("in/"), "/form": case.uploads.form_options({"f": "in/"})},
    )
    with running(case, app, server):
        assert case.post(path) == 409
    assert (len(seen[0]), seen[1]) == (1, [])
    assert (case.stored(), case.told) == ([], [])


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
def test_a_client_that_leaves_before_its_answer_keeps_its_file(tmp_path: Path, server: str):
    case = Case(tmp_path / "data")
    app = FastAPI(lifespan=case.uploads.lifespan)

    @app.post("/slow")
    async def slow(request: Request) -> dict[str, str]:
        async with case.uploads.received(request, to="in/"):
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        return {}

    with running(case, app, server):
        host, port = case.serving.address
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("POST", "/slow", DATA)
        wait_for(case.stored)
        connection.close()
        wait_for(lambda: case.told)
        assert len(case.stored()) == len(case.told) == 1
