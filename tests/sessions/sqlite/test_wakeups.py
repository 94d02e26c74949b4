"""Datagrams between sockets of one folder; most of it within one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from forebay.errors import ConfigError
from forebay.sessions.sqlite.wakeups import Wakeups

from ..samples import LOOPS

LIMIT = 60.0


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[Wakeups]:
    wakeups = Wakeups(str(folder))
    wakeups.join()
    try:
        yield wakeups
    finally:
        wakeups.leave()


@contextlib.asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[tuple[Wakeups, asyncio.Queue[str]]]:
    loop, asked = asyncio.get_running_loop(), asyncio.Queue[str]()
    with joined(folder) as wakeups:
        wakeups.listen(loop, asked.put_nowait)
        try:
            yield wakeups, asked
        finally:
            wakeups.stop_listening(loop)


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(main: Callable[[], object]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


def test_everybody_else_is_asked(run: Callable[..., None], tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            listening(tmp_path) as (one, asked_one),
            listening(tmp_path) as (_, asked_two),
            listening(tmp_path) as (three, asked_three),  # joined after the others
        ):
            one.ask("by-one_1")
            assert await asyncio.wait_for(asked_two.get(), LIMIT) == "by-one_1"
            assert await asyncio.wait_for(asked_three.get(), LIMIT) == "by-one_1"
            three.ask("by-three")
            assert await asyncio.wait_for(asked_one.get(), LIMIT) == "by-three"
            assert asked_three.empty()

    run(main)


def test_what_is_no_id_is_ignored(run: Callable[..., None], tmp_path: Path) -> None:
    async def main() -> None:
        async with listening(tmp_path) as (wakeups, asked):
            address = str(next(tmp_path.iterdir()))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
                stranger.setblocking(True)
                for garbage in (b"", b"a" * 65, b"a" * 5000, b"../etc", b"a\n", b"\xff", b"a b"):
                    stranger.sendto(garbage, address)
                    await asyncio.sleep(0)  # its queue may hold as few as ten
                stranger.sendto(b"a" * 64, address)
            assert await asyncio.wait_for(asked.get(), LIMIT) == "a" * 64
            assert asked.empty()
            for name in ("", "../etc", "é", "a" * 65, "\udcff"):
                wakeups.ask(name)

    run(main)


def test_ones_own_datagram_is_ignored(run: Callable[..., None], tmp_path: Path) -> None:
    async def main() -> None:
        async with listening(tmp_path) as (one, asked), listening(tmp_path) as (two, _):
            assert one._socket is not None
            one._socket.sendto(b"mine", one._address(one._name))
            two.ask("theirs")
            assert await asyncio.wait_for(asked.get(), LIMIT) == "theirs"

    run(main)


def test_a_callback_that_raises_does_not_cost_the_others(
    run: Callable[..., None], tmp_path: Path
) -> None:
    async def main() -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Queue[str]()
        faults: list[object] = []
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))

        def callback(upload_id: str) -> None:
            asked.put_nowait(upload_id)
            raise ValueError(upload_id)

        with joined(tmp_path) as one, joined(tmp_path) as two:
            two.listen(loop, callback)
            one.ask("a")
            one.ask("b")
            assert await asyncio.wait_for(asked.get(), LIMIT) == "a"
            assert await asyncio.wait_for(asked.get(), LIMIT) == "b"
            await asyncio.sleep(0)
            two.stop_listening(loop)
        assert [str(fault) for fault in faults] == ["a", "b"]

    run(main)


def leave_dead_socket(folder: Path, name: str) -> Path:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder / name))
    return folder / name


def test_sockets_of_the_dead_are_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    dead = leave_dead_socket(tmp_path, "1-0123456789abcdef.sock")
    foreign = leave_dead_socket(tmp_path, "mine.sock")
    (tmp_path / "note.txt").touch()
    with joined(tmp_path) as wakeups:
        assert not dead.exists()
        dead = leave_dead_socket(tmp_path, "2-0123456789abcdef.sock")
        wakeups.ask("a")
        assert not dead.exists()
        assert len(list(tmp_path.iterdir())) == 3
    assert sorted(tmp_path.iterdir()) == [foreign, tmp_path / "note.txt"]


def test_a_sibling_whose_queue_is_full_is_passed_over(tmp_path: Path) -> None:
    with joined(tmp_path) as one, joined(tmp_path):
        for _ in range(5000):  # far beyond what a queue of datagrams holds
            one.ask("a")
        assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_vanished_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "wake"
    with joined(folder) as one:
        for name in os.listdir(folder):
            (folder / name).unlink()
        folder.rmdir()
        one.ask("a")


def test_leaving_and_asking_after_it_is_harmless(tmp_path: Path) -> None:
    with joined(tmp_path) as wakeups:
        wakeups.leave()
        wakeups.ask("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Linux's way around")
def test_a_long_path_works_where_descriptors_have_names(
    run: Callable[..., None], tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 120) / "wake"

    async def main() -> None:
        async with listening(folder) as (_, asked), listening(folder) as (two, _):
            two.ask("far")
            assert await asyncio.wait_for(asked.get(), LIMIT) == "far"
        assert list(folder.iterdir()) == []

    run(main)


def test_a_long_path_is_refused_clearly_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    with pytest.raises(ConfigError, match="too long"):
        Wakeups(str(tmp_path / ("x" * 120))).join()
