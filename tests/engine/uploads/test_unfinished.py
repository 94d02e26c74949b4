"""Uploads that are begun and never sent lock nobody out."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from engine.running import Wire, at, body, running, wish
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.uploads import unfinished
from forebay.errors import NotFound, TooManyUnfinished
from forebay.protocol.names import numbered
from objects.service import ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.store import ObjectStore

LIMIT = 5


@pytest.mark.parametrize("sqlite", [True, False])
def test_uploads_without_a_byte_give_way_to_new_ones_and_others_stay(
    tmp_path: Path, sqlite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, sqlite=sqlite, max_unfinished=LIMIT) as engine:
            uploads = engine.uploads
            begun = await uploads.create(wish(10))
            await uploads.append(at(begun.id, 0), body(b"hello"))
            final = await uploads.create(wish(10, partial=True))
            empty = [await uploads.create(wish(10, f"{n}.bin")) for n in range(LIMIT - 2)]
            with pytest.raises(TooManyUnfinished):  # all are young
                await uploads.create(wish(10))
            monkeypatch.setattr(unfinished, "_EMPTY_FOR", 0.0)
            made = await asyncio.gather(*(uploads.create(wish(10)) for _ in range(3)))
            assert (await uploads.peek(begun.id)).offset == 5
            for gone in (*empty, final):
                with pytest.raises(NotFound):
                    await uploads.peek(gone.id)
            for record in made:
                assert (await uploads.offset(record.id)).offset == 0

    asyncio.run(main())


def test_an_upload_that_is_being_written_does_not_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "_EMPTY_FOR", 0.0)

    async def main() -> None:
        async with running(tmp_path, max_unfinished=1) as engine:
            uploads = engine.uploads
            record = await uploads.create(wish(5))
            wire = Wire(5)
            writing = asyncio.create_task(uploads.append(at(record.id, 0), wire.source))
            await asyncio.sleep(0.3)
            with pytest.raises(TooManyUnfinished):
                await uploads.create(wish(10))
            wire.send(b"hello", last=True)
            assert (await writing).complete

    asyncio.run(main())


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_that_create_at_once_keep_to_the_limit_together(
    tmp_path: Path, processes: int
) -> None:
    """Bug: each of them could make as many as the limit says before it counted again."""
    limit = 60

    async def main() -> int:
        async with contextlib.AsyncExitStack() as stack:
            engines = [
                await stack.enter_async_context(
                    running(tmp_path, sqlite=True, max_unfinished=limit, workers=processes)
                )
                for _ in range(processes)
            ]
            for number in range(4 * limit):
                with contextlib.suppress(TooManyUnfinished):
                    await engines[number % processes].uploads.create(wish(10, f"{number}.bin"))
            return len(list(engines[0].store.remains()))

    made = asyncio.run(main())
    assert limit <= made < limit * 1.5


def test_where_nothing_is_locked_new_uploads_count_from_their_creation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: data at an object service is listed only when it is old; nothing was counted."""

    async def main() -> None:
        store: Any = ObjectStore(ObjectService(), numbered=numbered)
        engine = Engine(Settings(dir=str(tmp_path), min_free=0, max_unfinished=LIMIT), store)
        state: Any = LeasedSessions(SharedState())
        await engine.open_uploads(state)
        try:
            for number in range(LIMIT):
                await engine.uploads.create(wish(10, f"{number}.bin"))
            with pytest.raises(TooManyUnfinished):
                await engine.uploads.create(wish(10))
            other = Engine(engine.settings, store)  # it knows the records alone
            await other.open_uploads(LeasedSessions(state.state, "other"))  # type: ignore[arg-type]
            with pytest.raises(TooManyUnfinished):
                await other.uploads.create(wish(10))
            monkeypatch.setattr(unfinished, "_EMPTY_FOR", 0.0)
            await other.uploads.create(wish(10))
            await other.close_uploads()
            other.close()
        finally:
            await engine.close_uploads()
            engine.close()
            store.close()

    asyncio.run(main())
