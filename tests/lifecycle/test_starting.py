"""What is told before anything is served."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durability.missing import need, no_program, no_root
from e2e.server import ServerProcess
from lifecycle.uploading import ready

Start = Callable[..., ServerProcess]
FOREBAY = [sys.executable, "-m", "forebay"]


def forebay(*arguments: str, wrap: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
    return subprocess.run(
        [*(wrap or []), *FOREBAY, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean,
    )


def test_a_port_in_use_is_told_with_the_flags_that_choose_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = forebay("serve", str(tmp_path), "--port", str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--host" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_not_of_this_machine_is_told(tmp_path: Path) -> None:
    done = forebay("serve", str(tmp_path), "--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 2
    assert "--host" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "sweep"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    done = forebay(command, str(tmp_path / "file"))
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def read_only(folder: Path) -> list[str]:
    """What wraps a program so that it finds a read-only filesystem in `folder`, with a file."""
    need(no_root() or no_program("unshare", "mount"))
    script = (
        f'mount -t tmpfs tmpfs "{folder}" && echo old > "{folder}/old.txt" && '
        f'mount -o remount,ro "{folder}" && exec "$0" "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script]


def test_a_sweep_of_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    done = forebay("sweep", str(tmp_path), wrap=read_only(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "may not write" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_may_not_be_written_is_served(tmp_path: Path, start_server: Start) -> None:
    server = start_server(wrap=read_only(tmp_path), folder=tmp_path)
    assert server.request("GET", "/files/old.txt")[2] == b"old\n"
    status, _, answer = server.request("PUT", "/files/new.txt", b"new")
    assert (status, b"FB_STORAGE_DENIED" in answer) == (500, True)
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    assert server.request("POST", "/uploads/", b"", tus)[0] == 503
    status, _, reason = server.request("GET", "/readyz")
    assert status == 503
    assert b"may not write" in reason
    assert "may not write" in server.log
    assert "Traceback" not in server.log


def test_listening_beyond_this_machine_is_warned_about(start_server: Start) -> None:
    server = start_server("--host", "0.0.0.0", "--durability", "relaxed")
    assert "anyone who can reach it" in server.wait_for_log("WARNING")
    server.host = "127.0.0.1"
    assert ready(server).request("PUT", "/files/a.bin", b"abc")[0] == 201


def test_listening_on_this_machine_alone_is_not_warned_about(server: ServerProcess) -> None:
    ready(server)
    assert "WARNING" not in server.log
