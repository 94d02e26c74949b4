"""Claims of uploads when a call is cancelled, fails, or loses its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.running import at, body, resumables, running, wish
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.claims import LeasedClaims
from forebay.errors import DigestMismatch, DiskFull, SessionsUnavailable, StorageFailed
from forebay.model import Digest, UploadRecord, UploadState
from forebay.protocol.names import numbered
from objects.service import ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.store import ObjectStore
from stores.samples import ID, record_of

PART = 2048


class Node:
    """A node of several that share their state, whose store is an object service."""

    def __init__(self, state: SharedState, service: ObjectService, *, direct: bool) -> None:
        self.state = state
        store: Any = ObjectStore(
            service, numbered=numbered, direct=direct, assume_sealable=not direct, inline=100
        )
        self.store = store
        self.sessions: Any = LeasedSessions(state)
        self.engine = Engine(Settings(dir="/none", min_free=0, threads=4), store)

    @property
    def uploads(self) -> Any:
        return self.engine.uploads


@asynccontextmanager
async def node(*, direct: bool = False) -> AsyncIterator[Node]:
    made = Node(SharedState(), ObjectService(least_part=PART // 2), direct=direct)
    await made.engine.open_uploads(made.sessions)
    try:
        yield made
    finally:
        await made.engine.close_uploads()
        made.engine.close()
        made.store.close()


async def known(_: UploadRecord) -> bool:
    return True


@on_a_loop
async def test_a_lease_that_cannot_be_released_changes_no_answer() -> None:
    """Bug: an append that was committed was answered with an error."""
    async with node() as one:
        made = await one.uploads.create(wish(9))
        one.sessions.fail("release", "before")
        assert (await one.uploads.append(at(made.id, 0), body(b"abc"))).record.offset == 3
        one.sessions.fail("release", "before")
        assert (await one.uploads.append(at(made.id, 3), body(b"defghi"))).complete


@on_a_loop
async def test_a_request_that_is_cancelled_while_it_takes_a_lease_releases_it() -> None:
    """Bug: other nodes took it for held, and their sweeps left the upload alone."""
    async with node() as one:
        made = await one.uploads.create(wish(9))
        one.sessions.stall()
        request = asyncio.create_task(one.uploads.append(at(made.id, 0), body(b"abc")))
        await asyncio.sleep(0.01)
        one.sessions.go_on()
        ask, taken = one.sessions._ask, asyncio.Event()

        async def asked(method: str, do: Any) -> Any:
            result = await ask(method, do)
            if method == "acquire":
                taken.set()
                await asyncio.sleep(0.01)  # the answer is on its way
            return result

        one.sessions._ask = asked
        await asyncio.wait_for(taken.wait(), 10)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert one.state.held[made.id].holder is None


@on_a_loop
async def test_a_request_that_is_cancelled_while_its_data_is_closed_releases_its_lease() -> None:
    """Bug: as above."""
    async with node() as one:
        made = await one.uploads.create(wish(9))
        run, closing = one.engine.workers.run, asyncio.Event()

        async def ran(call: Any, *args: Any, **more: Any) -> Any:
            if "close" in getattr(call, "__name__", ""):
                closing.set()
                await asyncio.sleep(0.01)
            return await run(call, *args, **more)

        one.uploads.accesses.claims._run = ran
        request = asyncio.create_task(one.uploads.append(at(made.id, 0), body(b"abc")))
        await asyncio.wait_for(closing.wait(), 10)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert one.state.held[made.id].holder is None


@pytest.mark.parametrize("lost", ["digest", "answer"])
@on_a_loop
async def test_part_numbers_that_were_used_are_not_given_out_again(lost: str) -> None:
    """Bug: a late request of an earlier append could replace a part of a later one."""
    async with node(direct=True) as one:
        made = await one.uploads.create(wish(9 * PART))
        numbers: list[int] = []
        upload_part = one.store.service.upload_part

        def counted(name: str, place: str, number: int, content: bytes) -> Any:
            numbers.append(number)
            return upload_part(name, place, number, content)

        one.store.service.upload_part = counted
        more: dict[str, Any] = {}
        if lost == "digest":
            more["expected"] = (Digest("sha256", bytes(32)),)
        else:
            one.sessions.fail("advance", "lost")
        with pytest.raises((DigestMismatch, SessionsUnavailable)):
            await one.uploads.append(at(made.id, 0, **more), body(b"a" * 2 * PART))
        offset = (await one.uploads.offset(made.id)).offset
        rest = body(b"b" * (9 * PART - offset))
        assert (await one.uploads.append(at(made.id, offset), rest)).complete
        assert len(numbers) > 8
        assert len(set(numbers)) == len(numbers)


@on_a_loop
async def test_a_creation_that_has_no_room_says_so_although_its_row_stays() -> None:
    """Bug: the client was told of the state, and not to make room."""
    async with node() as one:
        one.sessions.fail("delete_held", "before")
        one.store.service.capacity = 10
        with pytest.raises(DiskFull):
            await one.uploads.create_with(
                wish(9 * PART), at("", 0), body(b"a" * 9 * PART), announce=known
            )


@on_a_loop
async def test_a_change_whose_request_was_cancelled_is_known_to_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: an upload that was begun by its name was removed although it had bytes."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        advance = sessions.advance

        async def advanced(*args: Any) -> UploadRecord:
            creating.cancel()
            return await advance(*args)

        monkeypatch.setattr(sessions, "advance", advanced)
        creating = asyncio.create_task(
            uploads.create_with(wish(9, by_name=True), at("", 0), body(b"abc"), announce=known)
        )
        with pytest.raises(asyncio.CancelledError):
            await creating
        monkeypatch.undo()
        (record,) = await sessions.page()
        assert (record.state, record.offset) == (UploadState.OPEN, 3)
        assert (await uploads.append(at(record.id, 3), body(b"defghi"))).complete


@on_a_loop
async def test_a_creation_that_is_cancelled_when_it_is_complete_leaves_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: its change was taken for that of somebody else, and its data stayed for a sweep."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        update = sessions.update

        async def updated(*args: Any, **changes: Any) -> UploadRecord:
            if changes.get("state") is UploadState.COMPLETE:
                creating.cancel()
            return await update(*args, **changes)

        async def unknown(_: UploadRecord) -> bool:
            return False

        monkeypatch.setattr(sessions, "update", updated)
        creating = asyncio.create_task(
            uploads.create_with(wish(3), at("", 0), body(b"abc"), announce=unknown)
        )
        with pytest.raises(asyncio.CancelledError):
            await creating
        (record,) = await sessions.page()
        assert record.state is UploadState.COMPLETE
        assert list(engine.store.remains()) == []


@on_a_loop
async def test_a_disk_that_fails_in_two_ways_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the upload had FAILED already, and the client was told of its state."""
    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(9))
        staged_type = type(await _claimed(engine, made.id))

        def write(self: Any, data: memoryview, offset: int) -> None:
            self.dead = True
            raise StorageFailed("The disk reported an error.")

        monkeypatch.setattr(staged_type, "write", write)
        with pytest.raises(StorageFailed):
            await uploads.append(at(made.id, 0), body(b"abc"))
        assert (await uploads.peek(made.id)).state is UploadState.FAILED
        assert list(engine.store.remains()) == []


async def _claimed(engine: Engine, upload_id: str) -> Any:
    async with engine.uploads.accesses.open_idle(upload_id) as access:
        return getattr(access.staged, "_staged", access.staged)


def test_part_numbers_that_were_used_and_not_recorded_are_not_given_out_again() -> None:
    """Their requests may still be on their way, and would replace what the next holder sent."""

    async def main() -> None:
        store: Any = ObjectStore(
            ObjectService(least_part=100), numbered=numbered, direct=True, assume_sealable=False
        )
        sessions: Any = LeasedSessions(SharedState())
        workers = Workers(2, 64 << 10)
        await sessions.open()
        claims = LeasedClaims(store, sessions, sessions, workers)
        try:
            claim = await claims.create(record_of(ID), 0, sealable=False)
            assert claim.lease is not None
            first = claim.lease.numbers.start
            await workers.run(claim.data.write, memoryview(b"x" * 600), 0)  # three parts
            await claims.release(claim)
            claim = await claims.acquire(ID)
            assert claim.lease is not None
            assert claim.lease.numbers.start == first + 3
            await claims.release(claim)
            claim = await claims.acquire(ID)
            assert claim.lease is not None
            assert claim.lease.numbers.start == first + 3  # none was used
            await claims.release(claim)
        finally:
            workers.close()
            store.close()

    asyncio.run(main())
