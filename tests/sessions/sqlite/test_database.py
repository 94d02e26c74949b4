"""When the database or its disk says no: which error, and that the rest goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from forebay.errors import (
    ConfigError,
    DiskFull,
    NoDescriptors,
    NotFound,
    SessionsUnavailable,
    StorageDenied,
    StorageFailed,
)
from forebay.sessions.sqlite import database, writelock
from forebay.sessions.sqlite.writelock import WriteLock

from ..samples import make, opened, record, sqlite_error


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_BUSY, SessionsUnavailable, "try again"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, SessionsUnavailable, "try again"),
        (sqlite3.SQLITE_LOCKED, SessionsUnavailable, "try again"),
        (sqlite3.SQLITE_FULL, DiskFull, "room"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFull, "room"),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailed, "as SQLite words it"),
        (sqlite3.SQLITE_CORRUPT, SessionsUnavailable, "Stop the server"),
        (sqlite3.SQLITE_NOTADB, SessionsUnavailable, "Stop the server"),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageDenied, "may not write"),
        (sqlite3.SQLITE_CANTOPEN, StorageDenied, "folder"),
    ],
)
def test_faults_of_the_database_have_errors_of_their_own(
    code: int, kind: type[Exception], words: str
) -> None:
    error = database.translate(sqlite_error(code), "/state.db")
    assert type(error) is kind
    assert words in str(error)
    if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        assert error.detail["retry_after"] == 1


def test_no_descriptors_left_is_not_taken_for_a_missing_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "open", none_left)
    error = database.translate(sqlite_error(sqlite3.SQLITE_CANTOPEN), "/state.db")
    assert type(error) is NoDescriptors


def test_a_lock_that_others_keep_ends_in_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path, busy_timeout=0.02)) as sessions:
            await sessions.create(record())
            other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
            with contextlib.closing(other):
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(SessionsUnavailable) as refusal:
                    await sessions.advance("a", 1, None)
                assert refusal.value.detail["retry_after"] == 1
                assert (await sessions.load("a")).offset == 0  # reading goes on
                other.execute("ROLLBACK")
            lock = WriteLock(str(tmp_path / "state.db.lock"), 10)
            lock.open()
            with contextlib.closing(lock), lock.held():
                with pytest.raises(SessionsUnavailable) as refusal:
                    await sessions.advance("a", 1, None)
                assert refusal.value.detail["retry_after"] == 1
            await sessions.advance("a", 1, None)

    asyncio.run(main())


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_stopped_process_that_keeps_the_lock_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: beside a stopped worker each batch waited ten seconds, one after the other."""
    path = str(tmp_path / "state.db.lock")
    stopped, lock = WriteLock(path, 10), WriteLock(path, 10)
    clock = Clock()
    monkeypatch.setattr(writelock, "time", clock)

    def waited() -> float:
        before = clock.now
        with contextlib.suppress(SessionsUnavailable), lock.held():
            pass
        return clock.now - before

    with contextlib.closing(stopped), contextlib.closing(lock):
        stopped.open()
        lock.open()
        with stopped.held():
            assert waited() >= 10
            assert waited() < 1
            assert waited() < 1
        assert waited() == 0
        with stopped.held():
            assert waited() >= 10


def test_a_database_that_others_keep_is_waited_for_once(tmp_path: Path) -> None:
    statements: list[str] = []

    async def main() -> None:
        async with opened(make(tmp_path, busy_timeout=0.5)) as sessions:
            await sessions.create(record())
            await sessions._write(
                lambda connection: connection.set_trace_callback(statements.append)
            )
            other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
            with contextlib.closing(other):
                other.execute("BEGIN IMMEDIATE")
                for _ in range(2):
                    with pytest.raises(SessionsUnavailable):
                        await sessions.advance("a", 1, None)
                other.execute("ROLLBACK")
            await sessions.advance("a", 1, None)

    asyncio.run(main())
    patience = [each for each in statements if "busy_timeout" in each]
    assert patience == ["PRAGMA busy_timeout = 250", "PRAGMA busy_timeout = 500"]


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchall()[0][0]
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record())
            await sessions._write(limit)
            with pytest.raises(DiskFull):
                await sessions.create(record("big", metadata=bytes(100_000)))
            await sessions.advance("a", 5, None)
            assert (await sessions.load("a")).offset == 5
            with pytest.raises(NotFound):
                await sessions.load("big")

    asyncio.run(main())


def test_after_a_fault_of_the_connection_a_new_one_is_made(tmp_path: Path) -> None:
    def break_down(connection: sqlite3.Connection) -> None:
        raise sqlite_error(sqlite3.SQLITE_IOERR)

    def itself(connection: sqlite3.Connection) -> sqlite3.Connection:
        return connection

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            for call in (sessions._write, sessions._read):
                before = await call(itself)
                with pytest.raises(StorageFailed):
                    await call(break_down)
                assert await call(itself) is not before
            await sessions.create(record())
            assert await sessions.load("a") == record()
            with pytest.raises(StorageDenied):  # nobody writes beside the writer
                await sessions._read(lambda connection: connection.execute("DELETE FROM uploads"))

    asyncio.run(main())


def test_a_damaged_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database at all" * 1000)
    with pytest.raises(SessionsUnavailable, match="Stop the server"):
        asyncio.run(make(tmp_path).open())
    assert (tmp_path / "state.db").read_bytes().startswith(b"this is no")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageDenied):
        asyncio.run(make(tmp_path).open())


def test_a_path_that_leads_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed):
        asyncio.run(make(tmp_path / "file").open())


def test_wake_ups_that_cannot_be_joined_fail_the_opening_and_leave_nothing_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "wake").touch()
    with pytest.raises(StorageFailed):
        asyncio.run(make(tmp_path).open())
    (tmp_path / "wake").unlink()

    async def main() -> None:
        sessions = make(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions._wakeups, "join", lambda: (_ for _ in ()).throw(ConfigError()))
            with pytest.raises(ConfigError):
                await sessions.open()
        async with opened(sessions):  # the same one may be opened later
            await sessions.create(record())

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("forebay-sessions"):
            thread.join(60)  # it may be on its last lines
            assert not thread.is_alive()


def test_opening_may_be_cancelled_and_a_closing_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        for turns in range(8):
            sessions = make(tmp_path)
            opening = asyncio.ensure_future(sessions.open())
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await sessions.close()
        sessions = make(tmp_path)
        await sessions.open()
        closing = asyncio.ensure_future(sessions.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await sessions.close()
        assert os.listdir(tmp_path / "wake") == []

    asyncio.run(main())
