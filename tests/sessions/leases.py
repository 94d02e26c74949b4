"""What every session backend has to keep that many machines share: leases, and claims on names.

class TestPostgres(SessionsContract, LeasesContract, NamesContract):
    def nodes(self, folder: Path, count: int) -> Sequence[Sessions]:
        return [PostgresSessions(...) for _ in range(count)]

`nodes` are connections of several machines to one state.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import (
    AlreadyExists,
    LeaseLost,
    NotFound,
    OffsetMismatch,
    UploadBusy,
    UploadExists,
    WrongState,
)
from forebay.model import Commit, Lease, Piece, UploadState

from .samples import opened, record

FIRST = Piece(0, 10, "object", ref="t-1")
SECOND = Piece(10, 5, "inline", data=b"12345")
BOTH = Piece(0, 15, "part", number=1, ref="tag")


class NodesContract:
    """Runs a test's coroutine with three nodes of one state, all of them open."""

    def nodes(self, folder: Path, count: int) -> Sequence[Any]:
        raise NotImplementedError

    @pytest.fixture
    def together(self, tmp_path: Path) -> Callable[[Callable[..., Awaitable[None]]], None]:
        def together(test: Callable[..., Awaitable[None]]) -> None:
            async def main() -> None:
                async with contextlib.AsyncExitStack() as stack:
                    nodes = self.nodes(tmp_path, 3)
                    for node in nodes:
                        await stack.enter_async_context(opened(node))
                    await test(*nodes)

            asyncio.run(main())

        return together


class LeasesContract(NodesContract):
    # --- getting and giving back ---

    def test_an_upload_is_entered_with_its_first_lease(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record(binding="x"))
            assert lease.upload_id == "a"
            assert lease.token
            assert await b.load("a") == record(binding="x")
            with pytest.raises(AlreadyExists):
                await b.enter(record())
            with pytest.raises(UploadExists):
                await b.enter(record("b", binding="x"))
            found, _ = await a.advance(lease, Commit(0), 5.0)
            assert found.expires_at == 5.0

        together(test)

    def test_one_node_at_a_time_has_an_upload(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            for _ in range(2):
                with pytest.raises(UploadBusy) as busy:
                    await b.acquire("a")
                assert busy.value.detail["node"]
            await a.release(lease, lease.numbers.start)
            await a.release(lease, lease.numbers.start)
            found, pieces, lease = await b.acquire("a")
            assert (found, list(pieces)) == (record(), [])
            with pytest.raises(UploadBusy):
                await a.acquire("a")
            await b.release(lease, lease.numbers.start)
            with pytest.raises(NotFound):
                await b.acquire("unknown")

        together(test)

    def test_of_many_that_ask_at_once_one_gets_it(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            await a.create(record())
            outcomes = await asyncio.gather(
                *(node.acquire("a") for node in (a, b, c)), return_exceptions=True
            )
            assert sum(isinstance(outcome, UploadBusy) for outcome in outcomes) == 2

        together(test)

    def test_a_node_takes_over_what_it_holds_itself(self, together: Any) -> None:
        """The answer to an earlier `acquire` may have been lost."""

        async def test(a: Any, b: Any, c: Any) -> None:
            first = await a.enter(record())
            _, _, second = await a.acquire("a")
            assert second.fence > first.fence
            with pytest.raises(LeaseLost):
                await a.advance(first, Commit(0), None)
            await a.advance(second, Commit(0), None)

        together(test)

    def test_the_uploads_of_a_node_that_has_left_are_free(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            await a.enter(record())
            await a.close()
            _, _, lease = await b.acquire("a")
            await b.advance(lease, Commit(0), None)

        together(test)

    # --- a lost lease ---

    def test_nothing_is_recorded_under_a_lease_that_was_stolen(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            old = await a.enter(record())
            _, old = await a.advance(old, Commit(10, (FIRST,), next_number=2), 5.0)
            found, pieces, new = await b.acquire("a", steal=True)
            assert (found.offset, list(pieces)) == (10, [FIRST])
            before = await b.load("a")
            for change in (
                a.advance(old, Commit(15, (SECOND,)), 9.0),
                a.advance(old, Commit(10, (FIRST,), next_number=2), 5.0),
                a.advance(old, Commit(15, (SECOND,)), 9.0, release=True),
                a.change(old, state=UploadState.COMPLETING),
                a.delete_held(old),
            ):
                with pytest.raises(LeaseLost):
                    await change
            await a.release(old, old.numbers.start)  # no error, and no effect
            with pytest.raises(UploadBusy):
                await c.acquire("a")
            assert await b.load("a") == before
            assert list(await b.pieces("a")) == [FIRST]
            await b.change(new, state=UploadState.COMPLETING)

        together(test)

    def test_a_lease_is_right_only_with_its_own_token(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            forged = dataclasses.replace(lease, token=lease.token + "x")
            older = dataclasses.replace(lease, fence=lease.fence - 1)
            for wrong in (forged, older):
                with pytest.raises(LeaseLost):
                    await a.advance(wrong, Commit(0), None)
                with pytest.raises(LeaseLost):
                    await a.change(wrong, name="x")
            await a.delete_held(lease)
            for gone in (a.advance(lease, Commit(0), None), a.change(lease, name="x")):
                with pytest.raises((LeaseLost, NotFound)):
                    await gone

        together(test)

    def test_fences_rise_and_tokens_are_never_the_same(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            leases = [await a.enter(record())]
            for node in (b, c, a, b):
                leases.append((await node.acquire("a", steal=True))[2])
            fences = [lease.fence for lease in leases]
            assert fences == sorted(set(fences))
            assert len({lease.token for lease in leases}) == len(leases)

        together(test)

    # --- advancing ---

    def test_pieces_and_offset_are_recorded_in_one_step(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            found, lease = await a.advance(lease, Commit(10, (FIRST,)), 7.0)
            assert (found.offset, found.expires_at) == (10, 7.0)
            found, lease = await a.advance(lease, Commit(15, (SECOND,)), 8.0)
            assert list(await b.pieces("a")) == [FIRST, SECOND]
            commit = Commit(15, (BOTH,), (FIRST, SECOND), next_number=2)
            found, lease = await a.advance(lease, commit, 9.0)
            assert list(await b.pieces("a")) == [BOTH]
            assert found == await b.load("a")
            with pytest.raises(OffsetMismatch):
                await a.advance(lease, Commit(14), 9.0)
            await a.change(lease, state=UploadState.COMPLETING)
            with pytest.raises(WrongState):
                await a.advance(lease, Commit(15), 9.0)
            assert list(await b.pieces("a")) == [BOTH]

        together(test)

    @pytest.mark.parametrize("release", [False, True])
    def test_the_same_commit_again_is_answered_as_done(self, together: Any, release: bool) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            commit = Commit(10, (FIRST,), next_number=3)
            first, _ = await a.advance(lease, commit, 7.0, release=release)
            again, _ = await a.advance(lease, commit, 7.0, release=release)
            assert first.offset == again.offset == 10
            assert list(await b.pieces("a")) == [FIRST]
            if release:
                await b.acquire("a")
                with pytest.raises(LeaseLost):
                    await a.advance(lease, commit, 7.0, release=True)

        together(test)

    def test_an_advance_may_let_go_in_the_same_step(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            await a.advance(lease, Commit(10, (FIRST,)), 7.0, release=True)
            found, pieces, lease = await b.acquire("a")
            assert (found.offset, list(pieces)) == (10, [FIRST])

        together(test)

    # --- part numbers ---

    def test_no_part_number_is_in_two_leases(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            used: list[int] = []
            lease: Lease = await a.enter(record())
            for turn in range(12):
                assert len(lease.numbers) >= 2
                assert lease.numbers.start > max(used, default=0)
                used.append(lease.numbers.start)  # a request of unknown outcome may have it
                node = (a, b, c)[turn % 3]
                _, _, lease = await node.acquire("a", steal=True)

        together(test)

    def test_numbers_are_renewed_by_an_advance_and_given_back_by_a_release(
        self, together: Any
    ) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            for _ in range(20):
                following = lease.numbers.start + 3
                _, lease = await a.advance(lease, Commit(0, next_number=following), None)
                assert lease.numbers.start == following
                assert len(lease.numbers) >= 2
            await a.release(lease, lease.numbers.start + 1)
            _, _, again = await b.acquire("a")
            assert again.numbers.start == lease.numbers.start + 1

        together(test)

    # --- the rest ---

    def test_of_an_unknown_upload_there_are_no_pieces(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            with pytest.raises(NotFound):
                await a.pieces("a")
            lease = await a.enter(record())
            await a.advance(lease, Commit(10, (FIRST,)), None)
            await a.delete_held(lease)
            with pytest.raises(NotFound):
                await a.pieces("a")
            lease = await b.enter(record())  # nothing of the old one is left
            assert list(await b.pieces("a")) == []

        together(test)

    def test_a_holder_hears_that_another_node_asks(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            heard = asyncio.Event()
            asked: list[str] = []

            def hear(upload_id: str) -> None:
                asked.append(upload_id)
                heard.set()

            a.on_release_asked(hear)
            await a.enter(record())
            await b.ask_release("a")
            await asyncio.wait_for(heard.wait(), 5)
            assert asked == ["a"]

        together(test)


class NamesContract(NodesContract):
    def test_of_many_that_claim_a_name_one_has_it(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            owners = await asyncio.gather(
                *((a, b, c)[n % 3].claim("f/größe", f"u{n}") for n in range(9))
            )
            assert len(set(owners)) == 1
            assert await a.claim("f/größe", owners[0]) == owners[0]  # repeatable
            assert await a.claim("f", "u9") == "u9"

        together(test)

    def test_a_claim_is_given_back_by_its_owner_alone(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            assert await a.claim("f", "u1") == "u1"
            await b.unclaim("f", "u2")
            assert await b.claim("f", "u2") == "u1"
            await c.unclaim("f", "u1")
            await c.unclaim("f", "u1")
            assert await b.claim("f", "u2") == "u2"

        together(test)

    def test_a_change_gives_a_claim_back_in_the_same_step(self, together: Any) -> None:
        async def test(a: Any, b: Any, c: Any) -> None:
            lease = await a.enter(record())
            await a.claim("f", "a")
            with pytest.raises(LeaseLost):
                await a.change(dataclasses.replace(lease, token="x"), unclaim="f")
            assert await b.claim("f", "b") == "a"
            await a.change(lease, unclaim="f", state=UploadState.COMPLETE)
            assert await b.claim("f", "b") == "b"
            await a.change(lease, unclaim="f", state=UploadState.COMPLETE)
            assert await a.claim("f", "a") == "b"

        together(test)
