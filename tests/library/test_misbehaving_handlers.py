"""Handlers that cancel, spawn, race or ignore: nothing is stored by mistake, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import httpx
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path as url
from django.views.decorators.csrf import csrf_exempt
from fastapi import FastAPI, Request

from forebay import Forebay
from forebay.errors import UploadError
from library.inside import Serving, serving
from waiting import wait_for

DATA = b"some bytes" * 100_000


class Rough:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uploads = Forebay(folder, durability="relaxed")
        self.outcomes: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.serving: Serving

    def app(self) -> FastAPI:
        uploads, app = self.uploads, FastAPI(lifespan=self.uploads.lifespan)

        async def take(request: Request) -> None:
            try:
                async with uploads.received(request, to="in/"):
                    self.outcomes.append("received")
            except (UploadError, RuntimeError, Exception) as error:
                self.outcomes.append(type(error).__name__)

        @app.post("/spawns")
        async def spawns(request: Request) -> None:
            self.tasks.append(asyncio.ensure_future(take(request)))

        @app.post("/races")
        async def races(request: Request) -> None:
            await asyncio.gather(take(request), take(request))

        @app.post("/ignores")
        async def ignores() -> str:
            return "no body was needed"

        @app.post("/gives-up")
        async def gives_up(request: Request) -> None:
            async with asyncio.timeout(0.05), uploads.received(request, to="in/"):
                pass

        @app.post("/cancels-itself")
        async def cancels_itself(request: Request) -> None:
            async with uploads.received(request, to="in/"):
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

        return app

    def stored(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if ".forebay" not in path.parts)
        return [path.name for path in found if path.is_file()]

    def post(self, path: str, content: Any = DATA) -> int:
        try:
            return httpx.post(self.serving.url + path, content=content, timeout=20).status_code
        except httpx.HTTPError:
            return 0


@pytest.fixture(params=["direct", "uvicorn"])
def rough(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rough]:
    found = Rough(tmp_path / "data")
    with serving(found.app(), request.param) as found.serving:
        yield found


def slowly() -> Iterator[bytes]:
    for _ in range(20):
        yield DATA[:1000]
        time.sleep(0.02)


def test_a_task_that_reads_on_after_the_answer_gets_an_error_or_all(rough: Rough):
    rough.post("/spawns", slowly())
    wait_for(lambda: rough.outcomes)
    assert rough.outcomes != ["received"] or len(rough.stored()) == 1
    assert rough.outcomes == ["received"] or rough.stored() == []


def test_of_two_that_read_one_body_one_gets_it(rough: Rough):
    assert rough.post("/races") == 200
    assert sorted(rough.outcomes) == ["RuntimeError", "received"]
    assert len(rough.stored()) == 1


def test_a_handler_that_never_reads_delays_no_other_request(rough: Rough):
    for _ in range(3):
        assert rough.post("/ignores") == 200
    assert rough.stored() == []


@pytest.mark.parametrize("path", ["/gives-up", "/cancels-itself"])
def test_what_is_cancelled_leaves_nothing_and_the_next_works(rough: Rough, path: str):
    assert rough.post(path, slowly()) in (0, 500)
    assert rough.stored() == []
    assert rough.post("/races") == 200
    assert len(rough.stored()) == 1
    wait_for(lambda: rough.uploads.engine.context.admission.running == 0)


def test_one_forebay_in_two_loops_is_an_error_in_the_second_alone(tmp_path: Path):
    before = threading.active_count()  # other tests may have left some
    rough = Rough(tmp_path / "data")
    other = FastAPI()
    other.mount("/files", rough.uploads.files)
    with (
        serving(rough.app()) as rough.serving,
        serving(other, lifespan="off") as second,
    ):
        assert httpx.put(f"{second.url}/files/a", content=b"x").status_code == 500
        assert rough.post("/races") == 200
    assert threading.active_count() < before + 50


def test_without_a_lifespan_the_first_request_starts_it(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    app = FastAPI()
    app.mount("/files", uploads.files)
    with serving(app, lifespan="off") as found:
        assert httpx.put(f"{found.url}/files/a", content=b"x").status_code == 201
    uploads.close()


# --- Django: every middleware that it ships, in twos -----------------------------------------

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
FOUND: list[Forebay] = []


@csrf_exempt
def take(request: Any) -> HttpResponse:
    upload = FOUND[-1].upload_of(request)
    return HttpResponse(upload.name * 100, status=409 if request.GET.get("refuse") else 200)


urlpatterns = [url("in", take)]


@pytest.fixture(scope="module")
def with_django() -> None:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="secret", ALLOWED_HOSTS=["*"])
        django.setup()


@pytest.mark.parametrize("server", ["direct", "uvicorn"])
def test_files_beside_django_come_and_go_through_every_two_middlewares(
    tmp_path: Path, server: str, with_django: None
):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    FOUND.append(uploads)
    stacks = [()] + [(one,) for one in MIDDLEWARE] + list(itertools.permutations(MIDDLEWARE, 2))
    inner: list[Any] = []

    async def current(scope: Any, receive: Any, send: Any) -> None:
        await inner[-1](scope, receive, send)

    app = uploads.in_front_of(current, {"/in": uploads.options("in/"), "/files": uploads.files})
    with serving(app, server) as found, httpx.Client(base_url=found.url) as client:
        for number, stack in enumerate(stacks):
            with contextlib.ExitStack() as changed:
                options = {"MIDDLEWARE": list(stack), "ROOT_URLCONF": __name__}
                changed.enter_context(override_settings(**options))
                inner.append(get_asgi_application())
                name = {"x-filename": f"{number}.txt"}
                assert client.post("/in", content=DATA[:50_000], headers=name).status_code == 200
                refused = client.post("/in?refuse=1", content=b"x", headers={"x-filename": "no"})
                assert (refused.status_code, (tmp_path / "data/in/no").exists()) == (409, False)
        kind = {"accept-encoding": "gzip", "range": "bytes=10-49"}
        part = client.get("/files/in/0.txt", headers=kind)
        assert (part.status_code, part.content) == (206, DATA[10:50])
    assert len(list((tmp_path / "data/in").iterdir())) == len(stacks)
