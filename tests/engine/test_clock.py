"""A clock that is set while uploads live: none ends before it had its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.running import at, body, resumables, running, wish
from forebay.engine import clock
from forebay.engine.clock import ExpiryClock, Notes
from forebay.engine.engine import Engine
from forebay.engine.maintenance import housekeeping, operator
from forebay.engine.maintenance.housekeeping import Housekeeping
from forebay.engine.maintenance.sweep import Sweeper
from forebay.engine.uploads import access, by_name, commits
from forebay.errors import Gone, NotFound

RETENTION = 3600.0
YEAR = 365 * 86400.0


class Clocks:
    """The two clocks of a machine; `pass_time` moves both, `set` the one on the wall."""

    def __init__(self) -> None:
        self.wall = 1_000_000_000.0
        self.running = 500.0

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds

    def set(self, by: float) -> None:
        self.wall += by

    def made(self) -> ExpiryClock:
        made = ExpiryClock(lambda: self.wall, lambda: self.running)
        made.retention = RETENTION
        return made


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    """Those that the engine goes by."""
    clocks = Clocks()
    made = clocks.made()
    for module in (clock, housekeeping, operator):
        monkeypatch.setattr(module, "CLOCK", made)
    for module in (clock, commits, access, by_name):
        if hasattr(module, "time"):
            monkeypatch.setattr(module.time, "time", lambda: clocks.wall)
    yield clocks


def test_time_that_did_not_pass_does_not_count_until_all_had_theirs() -> None:
    clocks = Clocks()
    made = clocks.made()
    begun = made.now()
    clocks.pass_time(100)
    assert made.now() == begun + 100
    clocks.set(YEAR)
    assert made.now() == begun + 100
    clocks.pass_time(RETENTION)
    assert made.now() == begun + 100 + RETENTION
    clocks.pass_time(1)
    assert made.now() == clocks.wall


def test_a_machine_that_slept_has_passed_the_time() -> None:
    clocks = Clocks()
    made = clocks.made()
    begun = made.now()
    clocks.pass_time(YEAR)
    assert made.now() == begun + YEAR


@pytest.mark.parametrize("by", [-YEAR, -5.0, 5.0, 59.0])
def test_a_clock_set_back_or_slewed_is_believed(by: float) -> None:
    clocks = Clocks()
    made = clocks.made()
    clocks.set(by)
    assert made.now() == clocks.wall


def test_a_mistake_that_is_put_right_leaves_nothing() -> None:
    clocks = Clocks()
    made = clocks.made()
    clocks.set(YEAR)
    made.now()
    clocks.pass_time(10)
    clocks.set(-YEAR)
    assert made.now() == clocks.wall
    clocks.pass_time(10)
    assert made.now() == clocks.wall


def swept_by(engine: Engine) -> Sweeper:
    return Sweeper(
        engine.store,
        engine.sessions,
        engine.workers,
        engine.context.locks,
        engine.state.notify_soon,
        engine.state.accesses,
    )


def test_uploads_outlive_a_clock_that_is_set_past_their_end(tmp_path: Path, clocks: Clocks) -> None:
    """Also those that nobody holds just then: their client's next request is on its way."""

    async def main() -> None:
        async with running(tmp_path, retention=RETENTION) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(6))
            await uploads.append(at(record.id, 0), body(b"abc"))
            assert isinstance(engine.store, Notes)
            housekeeper = Housekeeping(engine.context, swept_by(engine))
            clocks.set(YEAR)
            await housekeeper.clean()
            assert (await uploads.offset(record.id)).offset == 3
            clocks.pass_time(RETENTION / 2)
            await housekeeper.clean()
            await uploads.append(at(record.id, 3), body(b"def"))
            assert (tmp_path / "f.bin").read_bytes() == b"abcdef"
            left = await uploads.create(wish(6))
            clocks.pass_time(RETENTION / 2)
            await housekeeper.clean()
            assert (await uploads.offset(left.id)).offset == 0
            clocks.pass_time(RETENTION + 1)  # now it has had its time
            with pytest.raises(Gone):
                await uploads.offset(left.id)
            await housekeeper.clean()
            with pytest.raises(NotFound):
                await uploads.offset(left.id)

    asyncio.run(main())


def test_a_start_and_a_sweep_by_hand_know_of_a_clock_that_was_set(
    tmp_path: Path, clocks: Clocks
) -> None:
    async def main() -> None:
        async with running(tmp_path, retention=RETENTION) as engine:
            assert isinstance(engine.store, Notes)
            housekeeper = Housekeeping(engine.context, swept_by(engine))
            begun = clock.CLOCK.now()
            await housekeeper.clean()
            clocks.set(YEAR)
            clocks.pass_time(10)
            another = clocks.made()
            assert another.now() == clocks.wall
            another.restore(engine.store)
            assert another.now() == begun + 10
            another.save(engine.store)
            third = clocks.made()
            third.restore(engine.store)
            assert third.now() == begun + 10
            (tmp_path / ".forebay" / "clock").write_bytes(b"{}")
            third.restore(engine.store)
            assert third.now() == begun + 10

    asyncio.run(main())
