"""The sweep where nothing is locked: data at an object service, leases in a state of many nodes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay.engine.maintenance.sweep import Sweeper, Swept
from forebay.engine.transfer.workers import Workers
from forebay.errors import NotFound
from forebay.locks.memory import MemoryLocks
from forebay.model import Conflict, UploadRecord, UploadState
from forebay.protocol.names import numbered
from objects.service import ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.store import ObjectStore

ID = "0123456789abcdef"
OTHER = "fedcba9876543210"
BODY = bytes(range(256)) * 20


class Node:
    """One of the nodes that share a state and an object service."""

    def __init__(self, service: ObjectService, state: SharedState, name: str) -> None:
        self.store: Any = ObjectStore(service, numbered=numbered, inline=500, orphan_age=0)
        self.sessions: Any = LeasedSessions(state, name)
        self.workers = Workers(2, 64 << 10)

    async def create(self, upload_id: str, expires_at: float, *, held: bool = False) -> Any:
        """An unfinished upload with some bytes; its lease when it stays `held`."""
        record = UploadRecord(
            id=upload_id,
            principal="",
            dialect="tus",
            state=UploadState.OPEN,
            offset=0,
            length=None,
            name="a.bin",
            created_at=time.time(),
            expires_at=expires_at,
            conflict=Conflict.RENAME,
        )
        lease = await self.sessions.enter(record)
        staged = await self.workers.run(lambda: self.store.begin(record, lease, sealable=True))
        staged.write(memoryview(BODY), 0)
        commit = await self.workers.run(lambda: staged.commit(flush=True))
        _, lease = await self.sessions.advance(lease, commit, expires_at, release=not held)
        await self.workers.run(staged.close)
        return lease

    async def sweep(self) -> Swept:
        sweeper = Sweeper(self.store, self.sessions, self.workers, MemoryLocks())
        return await sweeper.run(time.time())


@contextlib.asynccontextmanager
async def nodes() -> AsyncIterator[tuple[Node, Node, ObjectService]]:
    service, state = ObjectService(least_part=1024), SharedState()
    made = [Node(service, state, name) for name in ("one", "two")]
    for node in made:
        await node.sessions.open()
    try:
        yield made[0], made[1], service
    finally:
        for node in made:
            await node.sessions.close()
            node.workers.close()
            node.store.close()


def test_expired_uploads_go_and_others_stay() -> None:
    async def main() -> None:
        async with nodes() as (one, two, service):
            await one.create(ID, time.time() - 1)
            await one.create(OTHER, time.time() + 1000)
            swept = await two.sweep()
            assert (swept.expired, swept.busy, swept.orphans) == (1, 0, 0)
            with pytest.raises(NotFound):
                await two.sessions.load(ID)
            assert (await two.sessions.load(OTHER)).offset == len(BODY)
            assert service.everything()
            assert all(OTHER in key for key in service.everything())

    asyncio.run(main())


def test_an_expired_upload_stays_while_another_node_holds_it() -> None:
    async def main() -> None:
        async with nodes() as (one, two, service):
            lease = await one.create(ID, time.time() - 1, held=True)
            swept = await two.sweep()
            assert (swept.expired, swept.busy >= 1) == (0, True)
            assert (await two.sessions.load(ID)).offset == len(BODY)
            assert any(ID in key for key in service.everything())
            await one.sessions.release(lease, lease.numbers.start)
            assert (await two.sweep()).expired == 1
            assert not any(ID in key for key in service.everything())

    asyncio.run(main())


def test_data_without_a_record_goes() -> None:
    async def main() -> None:
        async with nodes() as (one, two, service):
            lease = await one.create(ID, time.time() + 1000, held=True)
            await one.sessions.delete_held(lease)  # and its node died then
            assert any(ID in key for key in service.everything())
            assert (await two.sweep()).orphans == 1
            assert not any(ID in key for key in service.everything())
            assert (await two.sweep()) == Swept()

    asyncio.run(main())


def test_a_lease_that_is_lost_to_another_node_ends_no_sweep() -> None:
    async def main() -> None:
        async with nodes() as (one, two, _):
            await one.create(ID, time.time() - 2)
            await one.create(OTHER, time.time() - 1)
            acquire = two.sessions.acquire

            async def lose(upload_id: str, **more: Any) -> Any:
                held = await acquire(upload_id, **more)
                if upload_id == ID:
                    await one.sessions.acquire(ID, steal=True)
                return held

            two.sessions.acquire = lose
            swept = await two.sweep()
            assert (swept.expired, swept.busy >= 1) == (1, True)
            assert (await two.sessions.load(ID)).offset == len(BODY)
            with pytest.raises(NotFound):
                await two.sessions.load(OTHER)

    asyncio.run(main())
