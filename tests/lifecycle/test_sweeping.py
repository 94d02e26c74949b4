"""`forebay sweep DIR`: what the dead left goes, what the living hold stays."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from lifecycle.test_starting import forebay
from lifecycle.uploading import HeldUpload, ready

Start = Callable[..., ServerProcess]
BODY = bytes(range(256)) * 10_000
NAME = "0123456789abcdef0123456789abcdef"


def sweep(folder: Path) -> dict[str, int]:
    """What it says it did."""
    done = forebay("sweep", str(folder))
    assert done.returncode == 0, done.stderr
    found = re.match(
        r"removed (\d+) temporary files, (\d+) expired uploads and (\d+) pieces of data without "
        r"an upload; repaired (\d+) interrupted completions; left (\d+)",
        done.stdout,
    )
    assert found, done.stdout
    names = ("temporaries", "expired", "orphans", "repaired", "busy")
    return {name: int(value) for name, value in zip(names, found.groups(), strict=True)}


def own(folder: Path) -> Path:
    return folder / ".forebay"


@pytest.fixture
def dead(start_server: Start, store_folder: Path) -> Path:
    """A folder that was served, with what a crash could leave in it."""
    server = ready(start_server("--durability", "relaxed"))
    assert server.request("PUT", "/files/kept.bin", BODY)[0] == 201
    server.kill()
    (own(store_folder) / "tmp" / NAME).write_bytes(BODY)
    (own(store_folder) / "tmp" / f"{NAME}.new").write_bytes(BODY)
    (own(store_folder) / "uploads" / NAME).write_bytes(BODY)
    return store_folder


def test_what_a_dead_server_left_goes_and_files_stay(dead: Path) -> None:
    done = sweep(dead)
    assert (done["temporaries"], done["orphans"], done["busy"]) == (2, 1, 0)
    assert list((own(dead) / "tmp").iterdir()) == []
    assert list((own(dead) / "uploads").iterdir()) == []
    assert (dead / "kept.bin").read_bytes() == BODY
    assert set(sweep(dead).values()) == {0}


def test_a_starting_server_sweeps_as_well(dead: Path, start_server: Start) -> None:
    server = ready(start_server("--durability", "relaxed"))
    assert "removed 2 temporary files" in server.wait_for_log("swept")
    server.wait_for_log("1 pieces of data without an upload")  # behind the serving
    assert server.leftovers() == []
    assert server.published() == {"kept.bin": len(BODY)}


def test_what_somebody_holds_is_left(dead: Path) -> None:
    temporary = own(dead) / "tmp" / NAME
    upload = own(dead) / "uploads" / NAME
    with temporary.open("rb") as first, upload.open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)
        done = sweep(dead)
        assert (done["temporaries"], done["orphans"], done["busy"]) == (1, 0, 1)
        assert temporary.exists()
        assert upload.exists()
    done = sweep(dead)
    assert (done["temporaries"], done["orphans"]) == (1, 1)


@pytest.mark.parametrize("conflict", ["auto", "replace"])
def test_a_living_server_is_not_disturbed(start_server: Start, conflict: str) -> None:
    server = ready(start_server("--durability", "relaxed", "--on-conflict", conflict))
    running = HeldUpload(server, "running.bin", BODY, 1000)
    (own(server.folder) / "tmp" / NAME).write_bytes(BODY)
    assert sweep(server.folder)["temporaries"] == 1
    running.send(100_000)
    assert sweep(server.folder)["temporaries"] == 0
    assert running.finish()[0] == 201
    assert (server.folder / "running.bin").read_bytes() == BODY
    assert server.leftovers() == []


def test_what_belongs_to_nobody_in_the_servers_folder_does_not_stop_it(
    start_server: Start, store_folder: Path
) -> None:
    """An operator's own folder or link: no upload's, so it is neither followed nor a failure."""
    server = ready(start_server("--durability", "relaxed"))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    (store_folder / "precious").write_bytes(BODY)
    (own(store_folder) / "tmp" / "folder").mkdir()
    (own(store_folder) / "tmp" / "link").symlink_to(store_folder / "precious")
    (own(store_folder) / "uploads" / "folder-of-an-operator").mkdir()
    (own(store_folder) / "uploads" / "link-of-an-operator").symlink_to(store_folder / "precious")
    sweep(store_folder)
    assert (store_folder / "precious").read_bytes() == BODY
    assert ready(start_server("--durability", "relaxed")).stop() == 0


def test_sweeping_a_mistyped_folder_makes_none(tmp_path: Path):
    missing = tmp_path / "typo"
    done = subprocess.run(
        [sys.executable, "-m", "forebay", "sweep", str(missing)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "typo" in done.stderr
    assert not missing.exists()
