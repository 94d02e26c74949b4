"""tus 1.0 with the clients that people use: tuspy, aiotus, tus-js-client."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiotus
import pytest
from tusclient.client import TusClient

from e2e.server import ServerProcess
from javascript import node_modules
from raw_http import content
from tus.client import ask, head

Start = Callable[..., ServerProcess]
RELAXED = ("--durability", "relaxed")
DATA = content(2_500_000)


# --- tuspy -----------------------------------------------------------------------------------


def tuspy(server: ServerProcess, data: bytes = DATA, **options: Any) -> Any:
    options.setdefault("metadata", {"filename": "f.bin", "filetype": "application/x-thing"})
    client = TusClient(f"{server.url}/uploads/")
    return client.uploader(file_stream=io.BytesIO(data), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 400_000},
        {"chunk_size": 500_000, "upload_checksum": True},
        {"chunk_size": 10**9},
        {"chunk_size": 500_000, "metadata": {}},
    ],
    ids=str,
)
def test_tuspy_sends_a_file_in_chunks(reuse_server: Start, options: dict[str, Any]) -> None:
    """Items 26, 45, 49 and 90: with an empty Upload-Metadata as well."""
    server = reuse_server()
    tuspy(server, **options).upload()
    (name,) = server.published()
    assert (server.folder / name).read_bytes() == DATA
    assert (name == "f.bin") is ("metadata" not in options)


def test_tuspy_goes_on_after_a_restart(start_server: Start) -> None:
    """Items 22 and 28."""
    server = start_server(*RELAXED)
    first = tuspy(server, chunk_size=600_000)
    first.upload(stop_at=1_200_000)
    path = "/uploads/" + first.url.rpartition("/")[2]
    server.kill()
    server = start_server(*RELAXED)
    second = tuspy(server, chunk_size=600_000, url=f"{server.url}{path}")
    assert second.offset == 1_200_000
    second.upload()
    assert (server.folder / "f.bin").read_bytes() == DATA


def test_tuspy_is_told_of_a_refusal(reuse_server: Start) -> None:
    """Item 46."""
    from tusclient.exceptions import TusCommunicationError

    with pytest.raises(TusCommunicationError) as caught:
        tuspy(reuse_server("--max-size", "1000")).upload()
    assert caught.value.status_code == 413


# --- aiotus ----------------------------------------------------------------------------------


def test_aiotus_sends_a_file_and_reads_its_metadata_back(reuse_server: Start) -> None:
    """Items 13, 19, 45 and 48: it needs the whole URL as Location."""
    server = reuse_server("--absolute-location")

    async def main() -> Any:
        place = await aiotus.upload(
            f"{server.url}/uploads/",
            io.BytesIO(DATA),
            {"filename": "größe.bin".encode(), "empty": None},
            chunksize=700_000,
        )
        assert place is not None
        return await aiotus.metadata(place)

    assert asyncio.run(main()) == {"filename": "größe.bin".encode(), "empty": None}
    assert (server.folder / "größe.bin").read_bytes() == DATA


def test_aiotus_sends_parts_at_once(reuse_server: Start) -> None:
    """Items 102 to 107."""
    server = reuse_server("--absolute-location")
    parts = [io.BytesIO(DATA[i : i + 1_000_000]) for i in range(0, len(DATA), 1_000_000)]
    place = asyncio.run(
        aiotus.upload_multiple(f"{server.url}/uploads/", parts, {"filename": b"all.bin"})
    )
    assert place is not None
    assert server.published() == {"all.bin": len(DATA)}
    assert (server.folder / "all.bin").read_bytes() == DATA


# --- tus-js-client ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder that tus-js-client is installed in; installs it once."""
    return node_modules()


class JsClient:
    """`tus-js-client` in a process of its own."""

    def __init__(self, modules: Path, tmp_path: Path) -> None:
        self._modules = modules
        self._file = tmp_path / "data"
        self._file.write_bytes(DATA)

    def start(self, server: ServerProcess, **options: Any) -> subprocess.Popen[str]:
        asked = {
            "modules": str(self._modules),
            "endpoint": f"{server.url}/uploads/",
            "file": str(self._file),
            "metadata": {"filename": "f.bin", "filetype": "application/x-thing"},
            **options,
        }
        script = Path(__file__).with_name("upload.js")
        command = ["node", str(script), json.dumps(asked)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(self, server: ServerProcess, **options: Any) -> dict[str, str]:
        """Its last word."""
        with self.start(server, **options) as process:
            try:
                told, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        found: dict[str, str] = json.loads(told.splitlines()[-1])
        return found


@pytest.fixture
def js(modules: Path, tmp_path: Path) -> JsClient:
    return JsClient(modules, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": 500_000},
        {"chunkSize": 700_000, "parallel": 3},
        {"chunkSize": 600_000, "stream": True},
        {"chunkSize": 700_000, "early": True},
        {"chunkSize": 700_000, "override": True},
    ],
    ids=str,
)
def test_tus_js_client_sends_a_file(
    reuse_server: Start, js: JsClient, options: dict[str, Any]
) -> None:
    """Items 9, 26, 44, 58, 66 and 102: each of its ways."""
    server = reuse_server()
    assert "url" in js.run(server, **options)
    assert server.published() == {"f.bin": len(DATA)}
    assert (server.folder / "f.bin").read_bytes() == DATA


def test_tus_js_client_goes_on_after_it_stopped_and_the_server_restarted(
    start_server: Start, js: JsClient
) -> None:
    """Items 13 and 28."""
    server = start_server(*RELAXED)
    stopped = js.run(server, chunkSize=400_000, abortAt=1_000_000)
    path = "/uploads/" + stopped["aborted"].rpartition("/")[2]
    server.kill()
    server = start_server(*RELAXED)
    assert 0 < head(server, path).offset < len(DATA)
    assert "url" in js.run(server, uploadUrl=f"{server.url}{path}", chunkSize=400_000)
    assert (server.folder / "f.bin").read_bytes() == DATA


def quiet_port() -> int:
    """A free port that no connection of a neighbour is given meanwhile: below their range."""
    for _ in range(200):
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port was found")


def test_tus_js_client_waits_for_a_server_that_restarts(start_server: Start, js: JsClient) -> None:
    """Items 28 and 36: killed while it sends; it retries by itself."""
    port = quiet_port()
    server = start_server(*RELAXED, "--port", str(port))
    delays = [100, 200, 500, 1000, 2000, 3000]
    with js.start(server, chunkSize=50_000, retryDelays=delays) as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())["available"]
        server.kill()
        server = start_server(*RELAXED, "--port", str(port))
        told = process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert json.loads(told[-1]) == {"url": place}
    assert (server.folder / "f.bin").read_bytes() == DATA


def test_tus_js_client_ends_an_upload(reuse_server: Start, js: JsClient) -> None:
    """Item 96."""
    server = reuse_server()
    place = js.run(server, chunkSize=400_000, abortAt=1_000_000)["aborted"]
    assert js.run(server, uploadUrl=place, terminate=True) == {"terminated": place}
    assert head(server, "/uploads/" + place.rpartition("/")[2]).status == 404
    assert ask(server, "DELETE", "/uploads/" + place.rpartition("/")[2]).status == 404


def test_many_clients_at_once(reuse_server: Start) -> None:
    """Item 36 the other way: uploads of their own do not get into each other's way."""
    server = reuse_server()
    failed: list[BaseException] = []

    def send(number: int) -> None:
        try:
            tuspy(
                server,
                content(300_000, number),
                chunk_size=90_000,
                metadata={"filename": f"{number}.bin"},
            ).upload()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(8):
        assert (server.folder / f"{number}.bin").read_bytes() == content(300_000, number)
