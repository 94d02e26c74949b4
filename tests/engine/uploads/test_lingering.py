"""An upload is kept open and locked for a moment after a request that ended well."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.completion import on_a_loop
from engine.running import Wire, at, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.engine.uploads import lingering
from forebay.errors import (
    DigestMismatch,
    Gone,
    IncompleteBody,
    Interrupted,
    NotFound,
    OffsetMismatch,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import AppendUpload, Digest, UploadState


def is_locked(engine: Engine, upload_id: str) -> bool:
    """As another process sees it."""
    try:
        engine.store.claim(upload_id).close()
    except UploadBusy:
        return True
    return False


async def eventually(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not met():
            await asyncio.sleep(0.01)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@on_a_loop
async def test_the_next_request_finds_it_open_and_later_it_is_let_go(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        assert not is_locked(engine, made.id)
        for start, piece in ((0, b"abc"), (3, b"def")):
            standing = await uploads.append(at(made.id, start), body(piece))
            assert standing.record.offset == start + 3
            assert is_locked(engine, made.id)
        await eventually(lambda: not is_locked(engine, made.id))
        assert (await uploads.append(at(made.id, 6), body(b"ghi"))).complete
        assert (tmp_path / "f.bin").read_bytes() == b"abcdefghi"
        assert os.listdir(tmp_path / ".forebay/uploads") == []


@on_a_loop
async def test_another_process_gets_it_at_once_and_it_is_not_kept_again(tmp_path: Path) -> None:
    async with running(tmp_path) as one, running(tmp_path) as other:
        made = await resumables(one).create(wish(9))
        await resumables(one).append(at(made.id, 0), body(b"abc"))
        assert is_locked(one, made.id)
        assert (await resumables(other).append(at(made.id, 3), body(b"def"))).record.offset == 6
        assert is_locked(one, made.id)  # kept by the other, which has not been asked yet
        assert (await resumables(one).append(at(made.id, 6), body(b"g"))).record.offset == 7
        assert not is_locked(one, made.id)  # its requests wander
        assert (await resumables(other).append(at(made.id, 7), body(b"hi"))).complete
    assert (tmp_path / "f.bin").read_bytes() == b"abcdefghi"


@on_a_loop
async def test_what_broke_off_is_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        wrong = Digest("sha-256", hashlib.sha256(b"other").digest())
        with pytest.raises(DigestMismatch):
            await uploads.append(at(made.id, 0, expected=(wrong,)), body(b"abc"))
        assert not is_locked(engine, made.id)
        wire = Wire(9)
        wire.send(b"abc")
        wire.cut()
        with pytest.raises(IncompleteBody):
            await uploads.append(at(made.id, 0), wire.source)
        assert not is_locked(engine, made.id)
        with pytest.raises(OffsetMismatch):
            await uploads.append(at(made.id, 0), body(b"abc"))
        assert not is_locked(engine, made.id)


@on_a_loop
async def test_every_question_but_an_append_looks_at_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        await uploads.append(at(made.id, 0), body(b"abc"))
        assert (await uploads.offset(made.id)).offset == 3
        assert not is_locked(engine, made.id)
        await uploads.append(at(made.id, 3), body(b"def"))
        assert (await uploads.cancel(made.id)).offset == 6
        assert os.listdir(tmp_path / ".forebay/uploads") == []
        with pytest.raises(NotFound):
            await uploads.append(at(made.id, 6), body(b"ghi"))


@on_a_loop
async def test_only_its_owner_goes_on_and_only_in_its_dialect(tmp_path: Path) -> None:
    asking = "ann"
    async with running(tmp_path) as engine:
        engine.hooks.authoriser = lambda access: asking  # type: ignore[attr-defined]
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        await uploads.append(at(made.id, 0), body(b"abc"))
        asking = "bob"
        with pytest.raises(NotFound):
            await uploads.append(at(made.id, 3), body(b"xyz"))
        asking = "ann"
        with pytest.raises(WrongState):
            await uploads.append(AppendUpload(made.id, "ietf", 3), body(b"xyz"))
        assert is_locked(engine, made.id)  # they disturbed nobody
        assert (await uploads.append(at(made.id, 3), body(b"defghi"))).complete
        assert (tmp_path / "f.bin").read_bytes() == b"abcdefghi"


@on_a_loop
async def test_it_expires_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER", 60.0)
    async with running(tmp_path, retention=1.0) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        record = (await uploads.append(at(made.id, 0), body(b"abc"))).record
        assert is_locked(engine, made.id)
        assert record.expires_at is not None
        await eventually(lambda: time.time() > record.expires_at)
        with pytest.raises(Gone):
            await uploads.append(at(made.id, 3), body(b"def"))
        assert not is_locked(engine, made.id)


@on_a_loop
async def test_of_two_that_go_on_at_once_one_writes(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        await uploads.append(at(made.id, 0), body(b"abc"))
        found = await asyncio.gather(
            uploads.append(at(made.id, 3), body(b"def")),
            uploads.append(at(made.id, 3), body(b"xyz")),
            return_exceptions=True,
        )
        # Both, if the second ended the first when its bytes were here already.
        failed = [type(result) for result in found if isinstance(result, UploadError)]
        assert failed in ([Interrupted], [OffsetMismatch], [Interrupted, OffsetMismatch])
        assert (await uploads.offset(made.id)).offset == 6
        won = b"def" if isinstance(found[1], UploadError) else b"xyz"
        assert (await uploads.append(at(made.id, 6), body(b"ghi"))).complete
        assert (tmp_path / "f.bin").read_bytes() == b"abc" + won + b"ghi"


@on_a_loop
async def test_no_more_than_so_many_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = [await uploads.create(wish(2)) for _ in range(lingering.MOST + 5)]
        before = descriptors()
        for record in made:
            await uploads.append(at(record.id, 0), body(b"a"))
            assert descriptors() <= before + lingering.MOST + 1  # and one that is being closed
        await eventually(lambda: descriptors() <= before)
        for record in made:
            assert (await uploads.append(at(record.id, 1), body(b"b"))).complete


@on_a_loop
async def test_nothing_is_kept_beyond_the_end(tmp_path: Path) -> None:
    before = descriptors()
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        await uploads.append(at(made.id, 0), body(b"abc"))
        await uploads.accesses.locks.close()
        assert not is_locked(engine, made.id)
        await uploads.append(at(made.id, 3), body(b"def"))
        assert not is_locked(engine, made.id)
        assert (await uploads.peek(made.id)).state is UploadState.OPEN
    assert descriptors() == before


@pytest.mark.parametrize("command", ["offset", "cancel"])
@on_a_loop
async def test_another_process_that_asks_anything_gets_it(tmp_path: Path, command: str) -> None:
    async with running(tmp_path) as one, running(tmp_path) as other:
        made = await resumables(one).create(wish(9))
        await resumables(one).append(at(made.id, 0), body(b"abc"))
        assert is_locked(one, made.id)
        assert (await getattr(resumables(other), command)(made.id)).offset == 3
        if command == "cancel":
            with pytest.raises(NotFound):
                await resumables(one).append(at(made.id, 3), body(b"def"))
        else:
            rest = await resumables(one).append(at(made.id, 3), body(b"defghi"))
            assert rest.complete
        assert list(one.store.remains()) == []


@on_a_loop
async def test_a_refused_request_gives_back_the_room_that_it_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(8 << 20))
        await uploads.append(at(made.id, 0), body(b"abc"))
        wire = Wire((8 << 20) - 3)
        wire.send(b"def")
        wire.cut()
        with pytest.raises(IncompleteBody):
            await uploads.append(at(made.id, 3), wire.source)
        data = tmp_path / ".forebay/uploads" / made.id
        assert data.stat().st_blocks * 512 < 1 << 20
        assert (await uploads.offset(made.id)).offset == 6
