"""`forebay uploads`, beside a server that runs and after it ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient
from tus.client import create, head, metadata, patch_head, reply_of, upload

Start = Callable[..., ServerProcess]


def forebay(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "forebay", "uploads", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def printed(*arguments: str) -> str:
    result = forebay(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def test_uploads_are_listed_and_shown_beside_the_server(server: ServerProcess) -> None:
    folder = str(server.folder)
    going = id_of(create(server, 9, Upload_Metadata=metadata(filename="going.bin")))
    done = id_of(upload(server, b"abc", Upload_Metadata=metadata(filename="done.bin")))
    lines = printed("list", folder).splitlines()
    assert lines[0].split()[:2] == ["ID", "STATE"]
    assert {tuple(line.split()[:2]) for line in lines[1:]} == {(going, "open"), (done, "complete")}
    (told,) = json.loads(printed("list", "--state", "complete", "--json", folder))
    assert (told["id"], told["name"], told["offset"]) == (done, "done.bin", 3)
    assert json.loads(printed("show", going, folder))["length"] == 9
    server.stop()
    assert json.loads(printed("show", done, folder))["state"] == "complete"


def test_an_upload_is_cancelled_while_it_is_written(server: ServerProcess) -> None:
    path = create(server, 9)
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Content-Length: 9") + b"abc")
        data = server.folder / ".forebay/uploads" / id_of(path)
        deadline = time.monotonic() + 20
        while data.stat().st_size < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "cancelled" in printed("cancel", id_of(path), str(server.folder))
        assert reply_of(client).status in (404, 410, 503)
    assert head(server, path).status == 404
    assert server.leftovers() == []


def test_a_finished_upload_is_not_cancelled(server: ServerProcess) -> None:
    path = upload(server, b"abc", Upload_Metadata=metadata(filename="done.bin"))
    result = forebay("cancel", id_of(path), str(server.folder))
    assert result.returncode == 1
    assert "FB_FORBIDDEN" in result.stderr
    assert server.published() == {"done.bin": 3}


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_what_is_not_there_is_told(tmp_path: Path, command: str) -> None:
    result = forebay(command, "x" * 32, str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert "FB_NOT_FOUND" in result.stderr
    assert printed("list", "--json", str(tmp_path)) == "[]\n"
    assert forebay("list", str(tmp_path / "missing")).returncode == 2
