"""After a failed sync an upload is dead: its data goes, and nothing is synced again."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.gate import Gate
from engine.running import Wire, at, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.errors import Gone, SessionsUnavailable, SyncFailed
from forebay.model import Durability, UploadState


class Disk:
    """Counts the syncs of data, and fails the first."""

    def __init__(self, patch: pytest.MonkeyPatch, call: str) -> None:
        self.calls = 0
        self.gate: Gate | None = None
        self._real = getattr(os, call)
        patch.setattr(os, call, self._sync)

    def _sync(self, fd: int) -> None:
        if "/.forebay/uploads/" not in os.readlink(f"/proc/self/fd/{fd}"):
            return self._real(fd)  # type: ignore[no-any-return]
        self.calls += 1
        if self.calls > 1:
            return None  # as Linux does: the error is told once, and the pages count as clean
        if self.gate is not None:
            self.gate.wait()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@asynccontextmanager
async def strict(folder: Path) -> AsyncIterator[Engine]:
    async with running(folder, durability=Durability.STRICT) as engine:
        yield engine


async def assert_dead(engine: Engine, disk: Disk, upload_id: str) -> None:
    uploads = resumables(engine)
    assert (await uploads.peek(upload_id)).state is UploadState.FAILED
    assert list(engine.store.remains()) == []
    with pytest.raises(Gone):
        await uploads.append(at(upload_id, 0), body(b"abc"))
    with pytest.raises(Gone):
        await uploads.offset(upload_id)
    assert disk.calls == 1
    assert not [path for path in Path(engine.settings.dir).iterdir() if path.is_file()]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@on_a_loop
async def test_a_failed_sync_at_the_end_of_a_request_ends_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """Bug: only a sync that failed while more bytes came ended it. After the last of a request it
    went on as if it had never been, and was synced again.
    """
    async with strict(tmp_path) as engine:
        record, wire = await resumables(engine).create(wish(9)), Wire(6)
        disk = Disk(monkeypatch, "fdatasync")
        wire.send(b"abc")
        if cut:
            wire.cut()
        else:
            wire.send(b"def", last=True)
        with pytest.raises(SyncFailed):
            await resumables(engine).append(at(record.id, 0), wire.source)
        await assert_dead(engine, disk, record.id)


@on_a_loop
async def test_a_failed_sync_of_a_request_that_is_cancelled_ends_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: nobody took notice of it."""
    async with strict(tmp_path) as engine:
        record = await resumables(engine).create(wish(9))
        disk, gate = Disk(monkeypatch, "fdatasync"), Gate()
        disk.gate = gate
        request = asyncio.create_task(resumables(engine).append(at(record.id, 0), body(b"abc")))
        await gate.reached()
        request.cancel()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await request
        await assert_dead(engine, disk, record.id)


@on_a_loop
async def test_a_failed_sync_before_publication_ends_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the next question synced again, believed it, and published the file."""
    async with strict(tmp_path) as engine:
        record = await resumables(engine).create(wish(3))
        disk = Disk(monkeypatch, "fsync")
        with pytest.raises(SyncFailed):
            await resumables(engine).append(at(record.id, 0), body(b"abc"))
        await assert_dead(engine, disk, record.id)


@on_a_loop
async def test_data_that_cannot_be_trusted_goes_even_if_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it stayed, and was trusted by whoever came next."""
    async with strict(tmp_path) as engine:
        record = await resumables(engine).create(wish(9))
        disk = Disk(monkeypatch, "fdatasync")

        async def update(upload_id: str, **changes: Any) -> None:
            raise SessionsUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(engine.sessions, "update", update)
            with pytest.raises(SessionsUnavailable):
                await resumables(engine).append(at(record.id, 0), body(b"abc"))
        with pytest.raises(Gone):
            await resumables(engine).offset(record.id)
        await assert_dead(engine, disk, record.id)


@on_a_loop
async def test_a_failed_sync_ends_what_is_being_made_of_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with strict(tmp_path) as engine:
        uploads = resumables(engine)
        part = await uploads.create(wish(3, partial=True))
        await uploads.append(at(part.id, 0), body(b"abc"))
        disk = Disk(monkeypatch, "fdatasync")
        with pytest.raises(SyncFailed):
            await uploads.create(wish(parts=(part.id,)))
        assert engine.sessions is not None
        [final] = [r for r in await engine.sessions.page() if r.id != part.id]
        assert final.state is UploadState.FAILED
        assert list(engine.store.remains()) == [part.id]
        assert disk.calls == 1
