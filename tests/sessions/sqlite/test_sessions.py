"""What only the SQLite backend promises: batches, its file, its processes' ends."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import (
    AlreadyExists,
    DiskFull,
    InvalidField,
    SessionsUnavailable,
    StorageFailed,
    TooLarge,
)
from forebay.model import Durability, UploadState
from forebay.sessions.base import Sessions
from forebay.sessions.sqlite import batch_thread, database
from forebay.sessions.sqlite import sessions as sqlite

from ..contract import DurableContract, SessionsContract
from ..samples import make, opened, query, record, sqlite_error


class TestRelaxed(SessionsContract, DurableContract):
    def make(self, folder: Path) -> Sessions:
        return make(folder, Durability.RELAXED)


class TestStrict(SessionsContract, DurableContract):
    def make(self, folder: Path) -> Sessions:
        return make(folder, Durability.STRICT)


# --- batches ---


def test_many_advances_at_once_share_few_commits(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await asyncio.gather(*(sessions.create(record(f"u{n}")) for n in range(200)))
            before = sessions.commits
            await asyncio.gather(*(sessions.advance(f"u{n}", n, None) for n in range(200)))
            assert 1 <= sessions.commits - before <= 20
            for n in range(200):
                assert (await sessions.load(f"u{n}")).offset == n

    asyncio.run(main())


def test_a_commit_that_fails_fails_its_whole_batch_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: database.Writer, connection: sqlite3.Connection) -> None:
        monkeypatch.undo()
        raise sqlite_error(sqlite3.SQLITE_FULL)

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record("old"))
            monkeypatch.setattr(database.Writer, "_commit", fail)
            outcomes = await asyncio.gather(
                sessions.create(record("a")),
                sessions.create(record("a")),  # not AlreadyExists: there is none after all
                sessions.advance("old", 5, None),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [DiskFull] * 3
            assert len({id(outcome) for outcome in outcomes}) == 3  # one each: tracebacks grow
            assert await sessions.load("old") == record("old")
            await sessions.create(record("a"))

    asyncio.run(main())


def hold_commits(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """From now on commits wait for the second event; the first says that one has begun."""
    commit, started, go_on = database.Writer._commit, threading.Event(), threading.Event()

    def held(self: database.Writer, connection: sqlite3.Connection) -> None:
        started.set()
        assert go_on.wait(60)
        commit(self, connection)

    monkeypatch.setattr(database.Writer, "_commit", held)
    return started, go_on


def test_a_read_does_not_wait_for_a_slow_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record())
            started, go_on = hold_commits(monkeypatch)
            advance = asyncio.ensure_future(sessions.advance("a", 5, None))
            try:
                while not started.is_set():
                    await asyncio.sleep(0.001)
                assert (await sessions.load("a")).offset == 0  # and not what is not committed
            finally:
                go_on.set()
            await advance
            assert (await sessions.load("a")).offset == 5

    asyncio.run(main())


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_thread, "_MAX_PENDING", 5)

    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            outcomes = await asyncio.gather(
                *(sessions.create(record(f"u{n}")) for n in range(9)), return_exceptions=True
            )
            assert outcomes[:5] == [None] * 5
            assert {type(outcome) for outcome in outcomes[5:]} == {SessionsUnavailable}
            await sessions.create(record("later"))

    asyncio.run(main())


def test_a_bug_in_one_operation_fails_only_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            outcomes = await asyncio.gather(
                sessions.create(record("a")),
                sessions.create(record("b", length=2**63)),
                sessions.create(record("c", name="\udcff")),
                sessions.create(record("d", name=None)),
                sessions.create(record("e", metadata=object())),
                sessions.create(record("f", length=2**63 - 1)),
                return_exceptions=True,
            )
            kinds = [type(outcome) for outcome in outcomes]
            nothing = type(None)
            failed = [TooLarge, InvalidField, StorageFailed, StorageFailed]
            assert kinds == [nothing, *failed, nothing]
            assert [found.id for found in await sessions.page()] == ["a", "f"]

    asyncio.run(main())


# --- the file ---


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record())
            for name in ("state.db", "state.db-wal", "state.db-shm", "state.db.lock"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
            assert stat.S_IMODE((tmp_path / "wake").stat().st_mode) == 0o700

    asyncio.run(main())


@pytest.mark.parametrize(("durability", "level"), [(Durability.STRICT, 2), (Durability.RELAXED, 1)])
def test_strict_syncs_every_commit(tmp_path: Path, durability: Durability, level: int) -> None:
    def settings(connection: sqlite3.Connection) -> tuple[Any, ...]:
        names = ("synchronous", "journal_mode")
        return tuple(connection.execute(f"PRAGMA {name}").fetchall()[0][0] for name in names)

    def break_down(connection: sqlite3.Connection) -> None:
        raise sqlite_error(sqlite3.SQLITE_IOERR)

    async def main() -> None:
        async with opened(make(tmp_path, durability)) as sessions:
            assert await sessions._write(settings) == (level, "wal")
            with pytest.raises(StorageFailed):
                await sessions._write(break_down)
            assert await sessions._write(settings) == (level, "wal")  # a new connection too

    asyncio.run(main())


def test_a_strange_path_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1?mode=memory&ü"

    async def main() -> None:
        async with opened(make(folder)) as sessions:
            await sessions.create(record())

    asyncio.run(main())
    assert query(folder / "state.db", "SELECT count(*) FROM uploads") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (sqlite._EXPIRED, (1.0, 1)),
        (sqlite._PAGE, ("", 1)),
        (sqlite._PAGE_OF_STATE, (UploadState.OPEN.value, "", 1)),
        (sqlite._LOAD, ("a",)),
        (sqlite._ADVANCE, (1, None, "a")),
    ],
)
def test_every_statement_costs_what_it_returns(
    tmp_path: Path, statement: str, arguments: tuple[Any, ...]
) -> None:
    def plan(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments).fetchall()
        return [row[3] for row in rows]

    async def main() -> list[str]:
        async with opened(make(tmp_path)) as sessions:
            return await sessions._read(plan)

    steps = asyncio.run(main())
    assert len(steps) == 1  # no sorting step
    assert steps[0].startswith("SEARCH uploads USING INDEX"), steps


def test_two_backends_of_one_process_see_each_other_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as one, opened(make(tmp_path)) as two:
            for n in range(50):
                await one.create(record(f"u{n}"))
                await two.advance(f"u{n}", 5, None)
                assert (await one.load(f"u{n}")).offset == 5
            with pytest.raises(AlreadyExists):
                await two.create(record("u0"))

    asyncio.run(main())


def test_an_awaiter_may_go_while_its_write_is_being_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with opened(make(tmp_path)) as sessions:
            await sessions.create(record())
            started, go_on = hold_commits(monkeypatch)
            call = asyncio.ensure_future(sessions.advance("a", 5, None))
            while not started.is_set():
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            go_on.set()
            await sessions.advance("a", 6, None)
        assert faults == []

    asyncio.run(main())


FORGETFUL = """
import asyncio, sys
sys.path.append({tests!r})
from sessions.samples import make, record
from pathlib import Path

async def main():
    sessions = make(Path({folder!r}))
    await sessions.open()
    await sessions.create(record())
    call = asyncio.ensure_future(sessions.advance("a", 5, None))
    await asyncio.sleep(0)
    {leave}
    call.cancel()

asyncio.run(main())
"""


@pytest.mark.parametrize("leave", ["pass", "sys.exit(0)"])
def test_a_process_that_forgets_to_close_ends_quietly_and_commits(
    tmp_path: Path, leave: str
) -> None:
    tests = str(Path(__file__).parents[2])
    program = FORGETFUL.format(tests=tests, folder=str(tmp_path), leave=leave)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert query(tmp_path / "state.db", 'SELECT "offset" FROM uploads') == [(5,)]
    assert os.listdir(tmp_path / "wake") == []


def in_child(action: Callable[[], None]) -> int:
    """Forks, acts in the child, returns its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads, from 3.12
def test_it_opens_in_a_forked_child(tmp_path: Path) -> None:
    sessions = make(tmp_path)

    async def main() -> None:
        async with opened(sessions):
            await sessions.create(record())

    assert in_child(lambda: asyncio.run(main())) == 0
    assert query(tmp_path / "state.db", "SELECT id FROM uploads") == [("a",)]
