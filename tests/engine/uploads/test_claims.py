"""Claims by leases, on a store that has its data at a service."""

from __future__ import annotations

import asyncio
from typing import Any

from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.claims import LeasedClaims
from forebay.protocol.names import numbered
from objects.service import ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.store import ObjectStore
from stores.samples import ID, record_of


def test_part_numbers_that_were_used_and_not_recorded_are_not_given_out_again() -> None:
    """Their requests may still be on their way, and would replace what the next holder sent."""

    async def main() -> None:
        store: Any = ObjectStore(
            ObjectService(least_part=100), numbered=numbered, direct=True, assume_sealable=False
        )
        sessions, workers = LeasedSessions(SharedState()), Workers(2, 64 << 10)
        await sessions.open()
        claims = LeasedClaims(store, sessions, workers)
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
