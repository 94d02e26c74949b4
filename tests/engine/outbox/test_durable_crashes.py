"""Whole uploads of which somebody is told: at least once, whenever the process dies.

As a program it is a process that dies: `python -m engine.outbox.test_durable_crashes FOLDER POINT`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.completion import PACKED
from engine.crashes import crash_at, crashed_in
from engine.notifications import call_all
from engine.recorded import Told, files, sweep_twice, watch
from engine.running import body, resumables, running
from forebay.engine.outbox.pending import WholeUpload
from forebay.errors import NameTaken, TooLarge
from forebay.hooks.base import Completion
from forebay.model import Conflict, Principal, Receive

BODY = b"whole" * 1000
WISH = Receive("a.bin", Conflict.REFUSE, wanted=("sha-256",))
NAMED, UNNAMED = Receive("a.bin", Conflict.REFUSE), Receive("", Conflict.REFUSE)
POINTS = 8  # before and after: create, publish, tell, delete


async def die_at(folder: Path, wanted: int) -> None:
    async with running(folder) as engine:
        watch(engine, folder, crash_at(wanted))
        await engine.receive_file(WISH, body(BODY))


def die(folder: Path, point: int) -> str | None:
    return crashed_in("engine.outbox.test_durable_crashes", folder, point)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
@pytest.mark.parametrize("packed", [False, True])
def test_a_crash_at_any_step_tells_of_every_file_that_is_there(
    tmp_path: Path, packed: bool, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packed:
        monkeypatch.setenv(PACKED, "1")
    where = die(tmp_path, point)
    assert where is not None

    asyncio.run(sweep_twice(tmp_path))
    lines = Told(tmp_path).lines()
    for path in tmp_path.glob("a.bin"):
        assert (path.stat().st_size < len(BODY)) is packed
    if not where.endswith((" tell", " delete")) and where != "after publish":
        assert (files(tmp_path), lines) == ({}, [])
    else:
        assert files(tmp_path) == {"a.bin": BODY}
        assert len(lines) == (2 if where in ("after tell", "before delete") else 1)
        assert len(set(lines)) == 1  # the same id each time
        assert lines[0].endswith(f" a.bin {len(BODY)} 1")


def test_there_are_no_more_steps_than_are_crashed_at(tmp_path: Path) -> None:
    assert die(tmp_path, POINTS + 1) is None


def test_it_leaves_no_record_and_a_refused_one_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[Completion] = []
        async with running(tmp_path, max_size=len(BODY)) as engine:
            engine.hooks.completers.append(heard.append)  # type: ignore[attr-defined]
            stored = await engine.receive_file(WISH, body(BODY))
            assert [each.stored for each in heard] == [stored]
            with pytest.raises(NameTaken):
                await engine.receive_file(WISH, body(BODY))
            other = Receive("b.bin", Conflict.REFUSE)
            with pytest.raises(TooLarge):
                await engine.receive_file(other, body(BODY + b"."))
            assert len(heard) == 1
            assert await resumables(engine)._sessions.count() == 0
            assert list(engine.store.remains()) == []
            assert engine.context.admission.running == 0

    asyncio.run(main())
    assert files(tmp_path) == {"a.bin": BODY}


def test_a_name_taken_while_the_body_came_is_told_and_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            heard: list[Any] = []

            async def take(candidate: object) -> None:
                (tmp_path / "a.bin").write_bytes(b"quicker")

            engine.hooks.completers.append(heard.append)  # type: ignore[attr-defined]
            engine.hooks.verifiers.append(take)  # type: ignore[attr-defined]
            with pytest.raises(NameTaken):
                await engine.receive_file(WISH, body(BODY))
            assert heard == []
            assert await resumables(engine)._sessions.count() == 0
            assert list(engine.store.remains()) == []

    asyncio.run(main())
    assert files(tmp_path) == {"a.bin": b"quicker"}


def test_a_callback_is_called_at_least_once_about_a_body_that_is_published_later(
    tmp_path: Path,
) -> None:
    """Received without a destination, and given one by the application."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)

            def fails(completion: Completion) -> None:
                raise ValueError

            engine.hooks.completers.append(fails)  # type: ignore[attr-defined]

            async def publish(data: bytes, upload_id: str) -> None:
                upload = WholeUpload(upload_id, NAMED, Principal(), None, time.perf_counter())
                async with engine.receive_body(body(data), UNNAMED) as received:
                    await (await engine.publish_body(received, upload)).notify()

            await publish(BODY, "an-id-of-the-test")
            engine.hooks.completers[:] = [Told(tmp_path).tell]  # type: ignore[attr-defined]
            await call_all(uploads.notifier)
            assert Told(tmp_path).lines() == [f"an-id-of-the-test a.bin {len(BODY)} 0"]
            with pytest.raises(NameTaken):
                await publish(b"another", "another-id-of-it")
            assert len(Told(tmp_path).lines()) == 1
            assert list(engine.store.remains()) == []

    asyncio.run(main())
    assert files(tmp_path) == {"a.bin": BODY}


if __name__ == "__main__":
    asyncio.run(die_at(Path(sys.argv[1]), int(sys.argv[2])))
