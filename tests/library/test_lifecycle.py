"""Start and stop: by a lifespan, by a call, by the first request; again and again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from forebay import ConfigError, Forebay
from library.conftest import Start
from raw_http import RawClient, head
from waiting import wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the newest Starlette prefers another client than httpx
    from starlette.testclient import TestClient

TUS = {"Tus-Resumable": "1.0.0"}

pytestmark = pytest.mark.filterwarnings("default::starlette.exceptions.StarletteDeprecationWarning")


def make(folder: Path, **more: Any) -> tuple[Forebay, FastAPI]:
    uploads = Forebay(folder / "data", durability="relaxed")
    app = FastAPI(**{"lifespan": uploads.lifespan, **more})
    app.mount("/uploads", uploads.resumable)
    app.mount("/files", uploads.files)

    @app.post("/seen")
    async def seen(request: Request) -> int:
        async with uploads.received(request) as upload:
            return len(await upload.read())

    return uploads, app


def use(client: Any, number: int) -> None:
    assert client.put(f"/files/{number}.bin", content=b"abc").status_code == 201
    assert client.post("/seen", content=b"abcd").json() == 4
    begun = client.post("/uploads/", headers={**TUS, "Upload-Length": "3"})
    assert begun.status_code == 201
    assert client.head(begun.headers["location"], headers=TUS).headers["upload-offset"] == "0"


def test_an_application_may_be_started_again(tmp_path: Path):
    uploads, app = make(tmp_path)
    for number in range(3):
        with TestClient(app) as client:
            use(client, number)
    assert {p.name for p in (tmp_path / "data").glob("*.bin")} == {"0.bin", "1.bin", "2.bin"}
    assert uploads.settings.durability == "relaxed"


def test_without_a_lifespan_the_first_request_starts_it(tmp_path: Path):
    uploads, app = make(tmp_path, lifespan=None)

    async def all_of_it() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            first, second = await asyncio.gather(
                client.put("/files/a", content=b"a"), client.put("/files/b", content=b"b")
            )
            assert first.status_code == second.status_code == 201
            begun = await client.post("/uploads/", headers={**TUS, "Upload-Length": "3"})
            assert begun.status_code == 201
        await uploads.stop()
        await uploads.stop()

    asyncio.run(all_of_it())
    asyncio.run(all_of_it_again(app, uploads))


async def all_of_it_again(app: Any, uploads: Forebay) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/files/a")).content == b"a"
    await uploads.stop()


def test_after_its_loop_was_closed_it_starts_in_another(tmp_path: Path):
    """As a TestClient without `with` does: every request has a loop of its own."""
    uploads, app = make(tmp_path, lifespan=None)
    client = TestClient(app)
    for number in range(3):
        assert client.put(f"/files/{number}.bin", content=b"abc").status_code == 201
        assert client.post("/seen", content=b"abcd").json() == 4
        begun = client.post("/uploads/", headers={**TUS, "Upload-Length": "3"})
        assert begun.status_code == 201
        found = client.head(begun.headers["location"], headers=TUS)
        assert found.headers["upload-offset"] == "0"
    names = [thread.name for thread in threading.enumerate()]
    threads = [name for name in names if name.startswith("forebay-sessions")]
    assert len(threads) == 2  # those of the last loop, and of no other
    asyncio.run(uploads.stop())


def test_a_lock_that_a_closed_loop_held_is_released(tmp_path: Path):
    """Bug: an upload that was held for the next request stayed locked, as the timer that releases
    it belonged to the loop: the next request waited for 15 s, and was refused.
    """
    uploads, app = make(tmp_path, lifespan=None)
    client = TestClient(app)
    begun = client.post("/uploads/", headers={**TUS, "Upload-Length": "6"})
    where = begun.headers["location"]
    for start, piece in ((0, b"ab"), (2, b"cd"), (4, b"ef")):
        headers = {**TUS, "Upload-Offset": f"{start}"}
        headers["Content-Type"] = "application/offset+octet-stream"
        answer = client.patch(where, headers=headers, content=piece)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, f"{start + 2}")
    asyncio.run(uploads.stop())


def test_of_two_loops_that_begin_at_once_one_is_refused(tmp_path: Path):
    """Both began the same run, and the answers of its threads went to the wrong loop."""
    uploads, app = make(tmp_path)
    together = threading.Barrier(2, timeout=30)
    answers: list[str] = []

    async def begin() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            together.wait()
            try:
                answer = await client.post("/seen", content=b"abcd")
                answers.append(f"{answer.status_code}")
            except RuntimeError as error:
                answers.append(f"{error}")
            await asyncio.to_thread(together.wait)  # until now both loops are there
            with contextlib.suppress(RuntimeError):
                await client.post("/seen", content=b"abcd")

    threads = [threading.Thread(target=asyncio.run, args=(begin(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == ["200", "This Forebay runs in another event loop; make one for each."]
    asyncio.run(uploads.stop())


def test_the_applications_own_lifespan_runs_inside(tmp_path: Path):
    seen: list[str] = []
    uploads = Forebay(tmp_path / "data", durability="relaxed")

    @contextlib.asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        seen.append(f"start {uploads.engine.draining}")
        yield {"answer": 42}
        seen.append("end")

    app = FastAPI(lifespan=uploads.lifespan_with(own))

    @app.get("/state")
    async def state(request: Request) -> int:
        answer: int = request.state.answer
        return answer

    with TestClient(app) as client:
        assert client.get("/state").json() == 42
    assert seen == ["start False", "end"]


@pytest.mark.parametrize("to", ["../out/", "/etc/", "a//b/", ".hidden/", "a/../b/"])
def test_a_destination_is_below_the_folder(tmp_path: Path, to: str):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    with pytest.raises(ConfigError, match="is not a destination"):
        uploads.receive(to=to)
    with pytest.raises(ConfigError, match="is not a destination"):
        uploads.form(files={"clip": to})
    uploads.close()


def test_a_destination_that_is_a_file_or_a_link_is_refused(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    (tmp_path / "data/file").write_bytes(b"")
    (tmp_path / "data/link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(ConfigError, match=f"destination '{name}' cannot be used.*not a folder"):
            uploads.receive(to=f"{name}/")
    uploads.close()


def test_a_destination_on_another_filesystem_is_refused_at_the_start(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    uploads.receive(to="elsewhere/")
    elsewhere = tmp_path / "data/elsewhere"
    elsewhere.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(elsewhere)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with pytest.raises(ConfigError, match=r"elsewhere.*another filesystem"):
            asyncio.run(uploads.start())
    finally:
        subprocess.run(["umount", str(elsewhere)], check=True)
    asyncio.run(started_and_stopped(uploads))
    assert list(elsewhere.iterdir()) == []


async def started_and_stopped(uploads: Forebay) -> None:
    await uploads.start()
    await uploads.stop()


def test_wrong_options_are_refused_where_they_are_written(tmp_path: Path):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    for options in ({"digest": "sha3"}, {"max_size": 0}, {"conflict": "overwrite"}):
        with pytest.raises(ConfigError):
            uploads.receive(to="in/", **options)
    with pytest.raises(ConfigError, match=r"no setting max_sise\. Did you mean max_size\?"):
        Forebay(tmp_path / "data", max_sise=3)
    assert Forebay(tmp_path / "data", max_size="5GB").settings.max_size == 5 * 10**9
    uploads.close()


def test_several_processes_serve_one_folder(own_application: Start):
    app = own_application("library.odd_app:app", "direct", "--workers", "2")
    headers = {**TUS, "Upload-Length": "1000", "Upload-Metadata": "filename dw=="}
    begun = httpx.post(f"{app.url}/way/down/resumable/", headers=headers)
    url = app.url + begun.headers["location"]
    kind = {**TUS, "Content-Type": "application/offset+octet-stream", "Connection": "close"}
    for offset in range(0, 1000, 50):  # over many connections, and so over both processes
        answer = httpx.patch(url, content=bytes(50), headers={**kind, "Upload-Offset": str(offset)})
        assert answer.status_code == 204
    assert (app.folder / "w").read_bytes() == bytes(1000)
    assert app.stop() in (0, -15)


@pytest.mark.parametrize("way", ["/in", "/files/"])
def test_on_complete_is_called_again_after_a_kill_during_the_call(
    own_application: Start, tmp_path: Path, way: str
):
    app = own_application("library.notified_app:app")
    client = RawClient(app)
    client.send(head("POST", way, "X-Filename: once.bin", length=5) + b"hello")
    notes = tmp_path / "told"
    wait_for(lambda: notes.exists() and notes.read_text().endswith("\n"))
    app.kill()
    client.socket.close()
    again = own_application("library.notified_app:app")
    wait_for(lambda: len(notes.read_text().splitlines()) == 2)
    first, second = notes.read_text().splitlines()
    assert first == second
    assert list(again.published().values()) == [5]
    wait_for(lambda: not again.leftovers())
