"""A server whose state cannot be opened, or is taken away: files are served all the same."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durability.disk import Disk
from durability.missing import need, no_loop_mounts
from e2e.server import ServerProcess
from raw_http import Answer
from waiting import wait_for

Start = Callable[..., ServerProcess]
TUS = {"Tus-Resumable": "1.0.0"}
CREATE = {**TUS, "Upload-Length": "5", "Upload-Metadata": "filename Zi5iaW4="}
IETF = {"Upload-Complete": "?0", "Upload-Draft-Interop-Version": "6"}


def create(server: ServerProcess) -> Answer:
    return server.request("POST", "/uploads/", b"", CREATE)


def code(answer: Answer) -> str:
    return str(json.loads(answer[2])["code"])


def refuses_resumable(server: ServerProcess) -> None:
    answers = [create(server), server.request("POST", "/files/", b"abc", IETF)]
    answers.append(server.request("HEAD", "/uploads/" + "x" * 32, headers=TUS))
    part = {"Content-Range": "bytes 0-2/9"}
    answers.append(server.request("PATCH", "/files/p.bin", b"abc", part))
    for status, headers, _ in answers:
        assert (status, int(headers["retry-after"]) > 0) == (503, True)
    assert code(answers[0]) == "FB_SESSIONS_UNAVAILABLE"


def serves(server: ServerProcess, name: str = "old.bin") -> None:
    assert server.request("GET", f"/files/{name}")[2] == b"old"
    assert name in str(server.request("GET", "/files/")[2])


def database(folder: Path) -> Path:
    return folder / ".forebay" / "state.db"


@pytest.fixture
def folder(store_folder: Path) -> Path:
    (store_folder / "old.bin").write_bytes(b"old")
    (store_folder / ".forebay").mkdir(mode=0o700)
    return store_folder


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_database_leaves_files_served(
    folder: Path, start_server: Start, workers: str
) -> None:
    """Bug: the start ended with 3, and a worker that died could not be replaced."""
    database(folder).write_bytes(b"no database at all" * 1000)
    server = start_server("--durability", "relaxed", "--workers", workers)
    serves(server)
    refuses_resumable(server)
    status, _, reason = server.request("GET", "/readyz")
    assert status == 503
    for text in (str(database(folder)), "damaged", "move it away", "recover"):
        assert text in reason.decode()
        assert text in server.log
    assert server.request("PUT", "/files/new.bin", b"new")[0] == 201  # it needs no state
    assert database(folder).read_bytes() == b"no database at all" * 1000
    database(folder).rename(folder / ".forebay" / "damaged.db")
    wait_for(lambda: server.request("GET", "/readyz")[0] == 200)
    wait_for(lambda: create(server)[0] == 201)
    assert server.log.count("it is tried again") == int(workers)  # once in each process
    assert server.stop() == 0


def test_a_database_of_a_newer_version_is_told_and_not_touched(
    folder: Path, start_server: Start
) -> None:
    with sqlite3.connect(database(folder)) as connection:
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'FBAY', 'big')}")
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("CREATE TABLE uploads (id TEXT)")
    connection.close()
    before = database(folder).read_bytes()
    server = start_server("--durability", "relaxed")
    serves(server)
    refuses_resumable(server)
    assert b"newer Forebay" in server.request("GET", "/readyz")[2]
    assert database(folder).read_bytes() == before


def test_a_database_that_another_program_locks_holds_nothing_else_up(
    folder: Path, start_server: Start
) -> None:
    other = sqlite3.connect(database(folder), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    server = start_server("--durability", "relaxed")
    serves(server)
    refuses_resumable(server)
    assert server.request("GET", "/readyz")[0] == 503
    other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: create(server)[0] == 201)
    assert server.request("GET", "/readyz")[0] == 200


def test_readiness_turns_false_while_another_program_locks_the_database(
    folder: Path, start_server: Start
) -> None:
    server = start_server("--durability", "relaxed")
    assert create(server)[0] == 201
    other = sqlite3.connect(database(folder), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wait_for(lambda: server.request("GET", "/readyz")[0] == 503)
    serves(server)
    other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: server.request("GET", "/readyz")[0] == 200)
    assert create(server)[0] == 201


def test_nothing_is_acknowledged_into_a_database_that_was_removed(
    folder: Path, start_server: Start
) -> None:
    """Bug: 201s went on, and after a restart all was 404."""
    server = start_server("--durability", "relaxed")
    status, headers, _ = create(server)
    assert status == 201
    upload = headers["location"].removeprefix(server.url)
    aside = folder / ".forebay" / "aside"
    database(folder).rename(aside)
    refused = create(server)
    assert (refused[0], code(refused)) == (503, "FB_SESSIONS_UNAVAILABLE")
    patch = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert server.request("PATCH", upload, b"12345", patch)[0] == 503
    wait_for(lambda: b"was removed" in server.request("GET", "/readyz")[2])
    server.wait_for_log("was removed while the server runs")
    serves(server)
    aside.rename(database(folder))  # put back, it is gone on with
    wait_for(lambda: server.request("GET", "/readyz")[0] == 200)
    offset = server.request("HEAD", upload, headers=TUS)[1]["upload-offset"]
    rest = b"12345"[int(offset) :]
    assert server.request("PATCH", upload, rest, {**patch, "Upload-Offset": offset})[0] == 204
    assert server.request("GET", "/files/f.bin")[2] == b"12345"


def test_a_database_that_was_damaged_while_the_server_runs_is_not_ready(
    folder: Path, start_server: Start
) -> None:
    server = start_server("--durability", "relaxed")
    assert create(server)[0] == 201
    with sqlite3.connect(database(folder)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database(folder).open("r+b") as file:
        file.write(b"\xff" * 4096)
    wait_for(lambda: server.request("GET", "/readyz")[0] == 503)
    serves(server)


def test_a_served_folder_made_anew_is_served_with_new_state(
    folder: Path, start_server: Start
) -> None:
    """Bug: it stayed 500 until a restart."""
    server = start_server("--durability", "relaxed")
    assert create(server)[0] == 201
    shutil.rmtree(folder)
    assert server.request("GET", "/readyz")[0] == 503
    folder.mkdir()
    (folder / "old.bin").write_bytes(b"old")
    wait_for(lambda: server.request("GET", "/readyz")[0] == 200)
    serves(server)
    assert server.request("PUT", "/files/new.bin", b"new")[0] == 201
    wait_for(lambda: create(server)[0] == 201)
    assert database(folder).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("durability", ["relaxed", "strict"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_at_the_start_leaves_files_served_and_deleted(
    full_disk: Path, start_server: Start, durability: str, workers: str
) -> None:
    """Bug: the start ended with 3: nothing could be downloaded, nor deleted to make room."""
    server = start_server(
        "--durability",
        durability,
        "--workers",
        workers,
        "--allow-delete",
        "--min-free",
        "1MiB",
        folder=full_disk,
    )
    serves(server)
    refuses_resumable(server)
    answer = server.request("PUT", "/files/new.bin", b"x" * 100_000)
    assert (answer[0], code(answer)) == (507, "FB_DISK_FULL")
    assert (
        b"FB_DISK_FULL" in server.request("GET", "/readyz")[2]
        or b"room" in server.request("GET", "/readyz")[2]
    )
    assert server.request("DELETE", "/files/filler.bin")[0] == 204
    wait_for(lambda: server.request("GET", "/readyz")[0] == 200)
    wait_for(lambda: create(server)[0] == 201)
    assert server.request("PUT", "/files/new.bin", b"x" * 100_000)[0] == 201


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk without any room, that no server has used yet."""
    need(no_loop_mounts())
    disk = Disk(tmp_path, 64 << 20)
    (disk.place / "old.bin").write_bytes(b"old")
    with (disk.place / "filler.bin").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    yield disk.place
    disk.close()
