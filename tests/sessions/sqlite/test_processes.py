"""Real processes that share a database, and one that is killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.model import Durability

from ..samples import LOOPS, make, opened, query, record

WORKER = Path(__file__).parent / "worker.py"
LIMIT = 60.0
"""Seconds after which a wait is a failure; nothing is measured with it."""


@contextlib.contextmanager
def worker(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def nudge(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("durability", list(Durability))
def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, durability: Durability) -> None:
    async def main() -> None:
        async with opened(make(tmp_path, durability)) as sessions:
            await sessions.create(record("shared"))
            with contextlib.ExitStack() as stack:
                names = ("x", "y", "z")
                started = [
                    stack.enter_context(worker(tmp_path, durability.value, "write", name, "40"))
                    for name in names
                ]
                assert [await asyncio.to_thread(line, each) for each in started] == ["ready"] * 3
                for each in started:
                    nudge(each)
                for n in range(40):
                    await sessions.create(record(f"w-{n}"))
                    await sessions.advance(f"w-{n}", 5, None)
                assert [await asyncio.to_thread(line, each) for each in started] == ["done"] * 3
            for name in (*names, "w"):
                for n in range(40):
                    assert (await sessions.load(f"{name}-{n}")).offset == 5
            assert await sessions.count() == 161
            assert (await sessions.load("shared")).version == 1 + 3 * 40 * 5

    asyncio.run(main())
    assert query(tmp_path / "state.db", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("loop", list(LOOPS))
def test_a_wake_up_reaches_the_other_process_and_not_its_sender(tmp_path: Path, loop: str) -> None:
    async def main() -> None:
        async with opened(make(tmp_path)) as sessions:
            asked: asyncio.Queue[str] = asyncio.Queue()
            sessions.on_release_asked(asked.put_nowait)
            with worker(tmp_path, "relaxed", "listen") as child:
                assert await asyncio.to_thread(line, child) == "ready"
                await sessions.ask_release("from-the-parent")
                assert await asyncio.to_thread(line, child) == "asked from-the-parent"
                nudge(child)
                assert await asyncio.wait_for(asked.get(), LIMIT) == "from-the-child"
                nudge(child)
            assert asked.empty()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


@pytest.mark.parametrize("durability", list(Durability))
def test_what_a_killed_process_acknowledged_is_there(
    tmp_path: Path, durability: Durability
) -> None:
    for _ in range(3):
        acknowledged: dict[str, int] = {}
        with worker(tmp_path, durability.value, "advance", "8") as process:
            for _ in range(200):
                upload_id, offset = line(process).split()
                acknowledged[upload_id] = int(offset)
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            for text in process.stdout:  # what it had said until then
                upload_id, offset = text.split()
                acknowledged[upload_id] = int(offset)

        async def main(acknowledged: dict[str, int] = acknowledged) -> None:
            async with opened(make(tmp_path, durability)) as sessions:
                assert len(acknowledged) == 8
                for upload_id, offset in acknowledged.items():
                    assert (await sessions.load(upload_id)).offset >= offset
                    await sessions.delete(upload_id)
                # The dead one's socket went when this one joined.
                assert len(list((tmp_path / "wake").iterdir())) == 1

        asyncio.run(main())
        assert query(tmp_path / "state.db", "PRAGMA integrity_check") == [("ok",)]


def test_many_processes_may_create_one_database_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(worker(tmp_path, "strict", "listen")) for _ in range(6)]
        assert [line(each) for each in started] == ["ready"] * 6
