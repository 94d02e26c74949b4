"""State that several nodes share, in one process (`objects.sessions`), under the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import LeaseLost, SessionsUnavailable
from forebay.model import Commit
from forebay.sessions.base import Sessions
from objects.sessions import LeasedSessions, SharedState

from .contract import SessionsContract
from .leases import FIRST, LeasesContract, NamesContract
from .samples import opened, record


class TestLeased(SessionsContract, LeasesContract, NamesContract):
    def make(self, folder: Path) -> Sessions:
        return LeasedSessions(SharedState())

    def nodes(self, folder: Path, count: int) -> Sequence[Any]:
        state = SharedState()
        return [LeasedSessions(state, f"node {n}") for n in range(count)]


def test_an_advance_whose_answer_was_lost_is_repeated() -> None:
    async def main() -> None:
        async with opened(LeasedSessions(SharedState())) as sessions:
            lease = await sessions.enter(record())
            sessions.fail("advance", "lost")
            commit = Commit(10, (FIRST,), next_number=2)
            with pytest.raises(SessionsUnavailable):
                await sessions.advance(lease, commit, None)
            assert (await sessions.load("a")).offset == 10
            await sessions.advance(lease, commit, None)
            assert list(await sessions.pieces("a")) == [FIRST]

    asyncio.run(main())


def test_a_lease_is_lost_when_a_test_says_so() -> None:
    async def main() -> None:
        state = SharedState()
        async with opened(LeasedSessions(state)) as sessions:
            lease = await sessions.enter(record())
            state.lose("a")
            with pytest.raises(LeaseLost):
                await sessions.advance(lease, Commit(0), None)
            _, _, fresh = await sessions.acquire("a")
            assert fresh.numbers.start >= lease.numbers.stop

    asyncio.run(main())


def test_a_stalled_node_goes_on_where_it_was() -> None:
    async def main() -> None:
        async with opened(LeasedSessions(SharedState())) as sessions:
            await sessions.create(record())
            sessions.stall()
            waiting = asyncio.ensure_future(sessions.load("a"))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            sessions.go_on()
            assert await waiting == record()

    asyncio.run(main())
