"""Records whose JSON is damaged: each is an error of its own upload alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.completion import on_a_loop
from engine.running import at, body, resumables, running, wish
from forebay.engine.maintenance.sweep import Sweeper
from forebay.engine.uploads import unfinished
from forebay.errors import NotFound, StorageFailed, TooManyUnfinished
from forebay.model import UploadState

DAMAGED = (b"{", b"[]", b'"text"')


@pytest.mark.parametrize("field", ["extra", "outcome"])
@pytest.mark.parametrize("damage", DAMAGED)
@on_a_loop
async def test_a_damaged_record_is_a_storage_error_and_stops_no_sweep(
    tmp_path: Path, damage: bytes, field: str
) -> None:
    """Bug: the sweep ended at it with an error of the program, and others were never swept."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        made = await uploads.create(wish(3))
        other = await uploads.create(wish(3))
        done = await uploads.create(wish(3, partial=True))
        await uploads.append(at(done.id, 0), body(b"abc"))
        failed = UploadState.FAILED
        await sessions.update(made.id, expires_at=1.0, state=failed, **{field: damage})
        await sessions.update(other.id, expires_at=2.0)
        await sessions.update(done.id, **{field: damage})
        if field == "outcome":
            with pytest.raises(StorageFailed):
                await sessions.update(made.id, expires_at=time.time() + 60)
                await uploads.offset(made.id)
        sweeper = Sweeper(engine.store, sessions, engine.context.workers, engine.context.locks)
        await sweeper.run(time.time())
        with pytest.raises(NotFound):
            await sessions.load(other.id)
        assert done.id in set(engine.store.remains())


@on_a_loop
async def test_a_damaged_record_is_no_error_of_whoever_creates_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with too many unfinished uploads, one that could not be read refused all creations."""
    monkeypatch.setattr(unfinished, "_EMPTY_FOR", 0.0)
    async with running(tmp_path, max_unfinished=2) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        damaged = await uploads.create(wish(3))
        await sessions.update(damaged.id, extra=b"{", expires_at=time.time() + 1000)
        empty = await uploads.create(wish(3))
        await uploads.create(wish(3))  # the empty one that can be read gives way
        with pytest.raises(NotFound):
            await sessions.load(empty.id)
        assert (await sessions.load(damaged.id)).extra == b"{"
        await uploads.append(at((await uploads.create(wish(3))).id, 0), body(b"a"))
        with pytest.raises(TooManyUnfinished):
            await uploads.create(wish(3))
