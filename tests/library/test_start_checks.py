"""Mistakes of an application are errors at its start, which say what to change."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Request, UploadFile
from pydantic import BaseModel

from forebay import ConfigError, Durability, Forebay, Upload
from forebay.errors import StorageError
from library.inside import serving


class Item(BaseModel):
    name: str


def started(uploads: Forebay, app: Any = None) -> None:
    async def start() -> None:
        async with uploads.lifespan(app):
            pass

    asyncio.run(start())


@pytest.mark.parametrize("where", ["app", "router", "mounted"])
@pytest.mark.parametrize("kind", ["model", "body", "file"])
def test_a_body_beside_an_upload_is_refused_with_route_and_parameter(
    tmp_path: Path, where: str, kind: str
):
    uploads = Forebay(tmp_path / "data")
    app, router = FastAPI(), APIRouter()
    inner = {"app": app, "router": router, "mounted": FastAPI()}[where]

    async def with_model(item: Item, upload: Upload = uploads.receive("in/")) -> None: ...

    async def with_body(item: str = Body(), upload: Upload = uploads.receive("in/")) -> None: ...

    async def with_file(item: UploadFile, upload: Upload = uploads.receive("in/")) -> None: ...

    inner.post("/route")({"model": with_model, "body": with_body, "file": with_file}[kind])
    if where == "router":
        app.include_router(router)
    elif where == "mounted":
        app.mount("/below", inner)
    with pytest.raises(ConfigError, match=r"'/route' takes an upload .* has item in its body"):
        started(uploads, app)
    uploads.close()


@pytest.mark.parametrize("second", ["upload", "form"])
def test_a_second_upload_or_form_beside_one_is_refused_too(tmp_path: Path, second: str):
    uploads = Forebay(tmp_path / "data")
    app = FastAPI()
    other: Any = uploads.form("in/") if second == "form" else uploads.receive("in/")

    @app.post("/route")
    async def take(one: Upload = uploads.receive("in/"), two: Any = other) -> None: ...

    with pytest.raises(ConfigError, match="'/route' takes 2 uploads or forms"):
        started(uploads, app)
    uploads.close()


def test_one_upload_may_be_asked_for_in_two_places(tmp_path: Path):
    uploads = Forebay(tmp_path / "data")
    app = FastAPI(lifespan=uploads.lifespan)
    taken = uploads.receive("in/")

    def named(upload: Upload = taken) -> str:
        return upload.name

    @app.post("/route")
    async def take(upload: Upload = taken, name: str = Depends(named)) -> bool:
        return upload.name == name

    with serving(app, "uvicorn") as found:
        assert httpx.post(f"{found.url}/route", content=b"abc").json() is True


def test_what_is_not_in_the_body_may_stand_beside_an_upload(tmp_path: Path):
    uploads = Forebay(tmp_path / "data")
    app = FastAPI()

    @app.post("/in/{number}")
    async def take(
        number: int, query: str = "", upload: Upload = uploads.receive("in/")
    ) -> None: ...

    @app.post("/json")
    async def json(item: Item) -> None: ...

    started(uploads, app)


def test_a_file_name_that_looks_like_a_folder_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    uploads = Forebay(tmp_path / "data")
    for to in ("videos", "in/videos", "a.bin", "in/", "in/b.txt"):
        uploads.options(to)
    uploads.form_options({"f": "clips"})
    with caplog.at_level(logging.WARNING, "forebay"):
        started(uploads)
    told = [record.getMessage() for record in caplog.records]
    assert [message.split("'")[1] for message in told] == ["clips", "in/videos", "videos"]
    assert "'videos/'" in told[-1]


def test_a_name_that_is_first_given_with_a_request_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    app = FastAPI(lifespan=uploads.lifespan)

    @app.post("/in")
    async def take(request: Request) -> None:
        async with uploads.received(request, to="videos", conflict="rename"):
            pass

    with caplog.at_level(logging.WARNING, "forebay"), serving(app) as found:
        for _ in range(2):
            assert httpx.post(f"{found.url}/in", content=b"x").status_code == 200
    assert [record.getMessage().count("'videos/'") for record in caplog.records] == [1]


def test_a_file_that_is_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "data/videos").mkdir(parents=True)
    uploads = Forebay(tmp_path / "data")
    uploads.options("videos")
    with pytest.raises(ConfigError, match="'videos/'"):
        started(uploads)
    uploads.close()


def test_the_error_of_a_folder_that_cannot_be_made_names_it():
    with pytest.raises(StorageError, match="'/proc/forebay/here'"):
        Forebay("/proc/forebay/here")


def test_settings_may_be_replaced_as_text_and_only_those_that_can_change(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", memory_threshold="1MB")
    settings = uploads.settings.replace(memory_threshold="4MB", retention="2h")
    assert (settings.memory_threshold, settings.retention, settings.max_size) == (
        4 * 10**6,
        7200,
        None,
    )
    uploads.settings = settings
    assert uploads.settings.memory_threshold == 4 * 10**6
    with pytest.raises(ConfigError, match="Did you mean max_size"):
        uploads.settings.replace(max_sise="4MB")
    with pytest.raises(ConfigError, match="memory_threshold cannot be '4 apples'"):
        uploads.settings.replace(memory_threshold="4 apples")
    for fixed in ({"dir": "elsewhere"}, {"durability": Durability.RELAXED}, {"threads": 3}):
        with pytest.raises(ConfigError, match=next(iter(fixed))):
            uploads.settings = settings.replace(**fixed)
    with pytest.raises(ConfigError, match="settings cannot be"):
        uploads.settings = {"max_size": 3}  # type: ignore[assignment]
    assert uploads.settings is settings
    uploads.close()


def test_errors_speak_of_the_limits_of_the_route_and_not_of_flags(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", max_size="2kB", durability="relaxed")
    app = FastAPI(lifespan=uploads.lifespan)
    uploads.install(app)
    app.mount("/files", uploads.files)

    @app.post("/narrow")
    async def narrow(
        upload: Upload = uploads.receive("in/", max_size=10, types=["a/b"]),
    ) -> None: ...

    @app.post("/wide")
    async def wide(upload: Upload = uploads.receive("in/", max_size="1GB")) -> None: ...

    def chunks() -> Any:
        yield b"x" * 3000

    ab = {"content-type": "a/b"}
    with serving(app) as found:
        told = [
            httpx.post(f"{found.url}/narrow", content=b"x" * 11, headers=ab),
            httpx.post(f"{found.url}/narrow", content=chunks(), headers=ab),
            httpx.post(f"{found.url}/narrow", content=b"x", headers={"content-type": "c/d"}),
            httpx.post(f"{found.url}/wide", content=b"x" * 2001),
            httpx.post(f"{found.url}/wide", content=chunks()),
            httpx.put(f"{found.url}/files/a", content=b"x" * 2001),
        ]
    assert [answer.status_code for answer in told] == [413, 413, 415, 413, 413, 413]
    details = [answer.json()["detail"] for answer in told]
    assert not [detail for detail in details if "--" in detail]
    assert ["max_size" in details[number] for number in (0, 1, 2, 3, 5)] == [False] * 3 + [True] * 2
    assert [answer.json().get("limit") for answer in told] == [10, 10, None, 2000, 2000, 2000]


def test_trio_is_refused_with_a_reason(tmp_path: Path):
    pytest.importorskip("trio")
    code = (
        "import trio, forebay\n"
        f"uploads = forebay.Forebay({str(tmp_path / 'data')!r})\n"
        "async def main():\n"
        "    async with uploads.lifespan(): pass\n"
        "try: trio.run(main)\n"
        "except RuntimeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "--worker-class trio" in done.stdout, done.stderr
