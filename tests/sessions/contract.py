"""What every session backend has to keep. A new backend joins in a few lines:

class TestRedis(SessionsContract):
    def make(self, folder: Path) -> Sessions:
        return RedisSessions(...)

`DurableContract` is for those that outlive a process; `leases.py` for those that many machines
share. `test_joined.py` says which backend joins what.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from forebay.errors import (
    AlreadyExists,
    NotFound,
    OffsetMismatch,
    SessionsUnavailable,
    UploadExists,
    WrongState,
)
from forebay.model import Conflict, UploadRecord, UploadState
from forebay.sessions.base import Sessions

from .machine import SessionsMachine
from .samples import LOOPS, full_record, opened, record

Test = Callable[[Sessions], Awaitable[None]]


class SessionsContract:
    def make(self, folder: Path) -> Sessions:
        raise NotImplementedError

    @pytest.fixture(params=list(LOOPS))
    def run(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
        """Runs a test's coroutine with an open backend, on asyncio's loop and on uvloop."""

        def run(test: Test) -> None:
            async def main() -> None:
                async with opened(self.make(tmp_path)) as sessions:
                    await test(sessions)

            with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
                runner.run(main())

        return run

    # --- create, load, delete, count ---

    def test_what_was_created_is_loaded_whole(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(full_record())
            loaded = await sessions.load("a")
            assert loaded == full_record()
            assert isinstance(loaded.state, UploadState)
            assert isinstance(loaded.conflict, Conflict)

        run(test)

    def test_many_are_loaded_at_once_and_those_that_are_not_there_left_out(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            for upload_id in ("a", "b", "c"):
                await sessions.create(record(upload_id))
            found = await sessions.load_many(["c", "a", "nobody"])
            assert sorted(r.id for r in found) == ["a", "c"]
            assert list(await sessions.load_many([])) == []
            assert list(await sessions.load_many([f"x{n}" for n in range(1000)])) == []

        run(test)

    def test_an_id_is_created_once(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record(name="first"))
            with pytest.raises(AlreadyExists):
                await sessions.create(record(name="second"))
            assert (await sessions.load("a")).name == "first"

        run(test)

    def test_of_many_creations_at_once_one_wins(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            outcomes = await asyncio.gather(
                *(sessions.create(record(name=str(n))) for n in range(20)),
                return_exceptions=True,
            )
            assert outcomes.count(None) == 1
            assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 19

        run(test)

    # --- bindings ---

    def test_of_many_creations_with_one_binding_one_wins(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            outcomes = await asyncio.gather(
                *(sessions.create(record(f"u{n}", binding="b")) for n in range(20)),
                return_exceptions=True,
            )
            assert outcomes.count(None) == 1
            assert sum(isinstance(outcome, UploadExists) for outcome in outcomes) == 19
            winner = await sessions.load_bound("b")
            assert outcomes[int(winner.id[1:])] is None
            assert await sessions.count() == 1
            await sessions.create(record("other", binding="c"))
            await sessions.create(record("free"))
            await sessions.create(record("free, too"))

        run(test)

    def test_an_upload_that_ended_gives_its_binding_free(self, run: Any) -> None:
        ended = (UploadState.COMPLETE, UploadState.FAILED, UploadState.CANCELLED)

        async def test(sessions: Sessions) -> None:
            for number, state in enumerate(ended):
                upload_id = f"u{number}"
                await sessions.create(record(upload_id, binding="b", created_at=float(number)))
                assert (await sessions.load_bound("b")).id == upload_id
                await sessions.update(upload_id, state=UploadState.COMPLETING)
                with pytest.raises(UploadExists):
                    await sessions.create(record("late", binding="b"))
                await sessions.update(upload_id, state=state)
                assert (await sessions.load_bound("b")).id == upload_id
            await sessions.create(record("u9", binding="b", created_at=-1.0))
            assert (await sessions.load_bound("b")).id == "u9"  # alive, so before all others
            with pytest.raises(UploadExists):
                await sessions.update("u0", state=UploadState.OPEN)
            assert (await sessions.load("u0")).state is UploadState.COMPLETE
            await sessions.delete("u9")
            assert (await sessions.load_bound("b")).id == "u2"
            for number in range(len(ended)):
                await sessions.delete(f"u{number}")
            with pytest.raises(NotFound):
                await sessions.load_bound("b")

        run(test)

    def test_an_unknown_id_is_not_found(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            for call in (
                sessions.load("a"),
                sessions.advance("a", 1, None),
                sessions.update("a", offset=1),
                sessions.update("a", version=1, offset=1),
            ):
                with pytest.raises(NotFound):
                    await call

        run(test)

    def test_deleting_forgets_and_may_be_repeated(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            await sessions.create(record("b"))
            await sessions.delete("a")
            await sessions.delete("a")
            with pytest.raises(NotFound):
                await sessions.load("a")
            assert await sessions.count() == 1
            assert [found.id for found in await sessions.expired(9999, 10)] == ["b"]
            await sessions.create(record())

        run(test)

    # --- advance ---

    def test_advancing_records_offset_and_expiry_and_raises_the_version(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            advanced = await sessions.advance("a", 10, 3000.75)
            assert advanced == record(offset=10, expires_at=3000.75, version=2)
            assert await sessions.load("a") == advanced
            await sessions.advance("a", 10, None)
            assert await sessions.load("a") == record(offset=10, expires_at=None, version=3)

        run(test)

    def test_an_offset_never_goes_back(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record(offset=10))
            with pytest.raises(OffsetMismatch) as refusal:
                await sessions.advance("a", 9, None)
            assert refusal.value.detail == {"expected": 10, "provided": 9}
            assert await sessions.load("a") == record(offset=10)

        run(test)

    @pytest.mark.parametrize("state", [s for s in UploadState if s is not UploadState.OPEN])
    def test_only_an_open_upload_advances(self, run: Any, state: UploadState) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record(state=state))
            with pytest.raises(WrongState) as refusal:
                await sessions.advance("a", 10, None)
            assert refusal.value.detail == {"state": state}
            assert await sessions.load("a") == record(state=state)

        run(test)

    def test_calls_on_one_upload_apply_in_order(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            await asyncio.gather(*(sessions.advance("a", n, None) for n in range(1, 101)))
            assert await sessions.load("a") == record(offset=100, expires_at=None, version=101)

        run(test)

    def test_one_refused_operation_leaves_those_beside_it_standing(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record("b", offset=50))
            outcomes = await asyncio.gather(
                sessions.create(record("a")),
                sessions.create(record("b")),
                sessions.advance("b", 40, None),
                sessions.advance("c", 1, None),
                sessions.advance("a", 5, None),
                sessions.update("b", version=9, name="x"),
                return_exceptions=True,
            )
            kinds = [type(outcome) for outcome in outcomes]
            nothing = type(None)
            refused = [nothing, AlreadyExists, OffsetMismatch, NotFound, UploadRecord, WrongState]
            assert kinds == refused
            assert (await sessions.load("a")).offset == 5
            assert await sessions.load("b") == record("b", offset=50)

        run(test)

    # --- update ---

    def test_an_update_returns_the_record_as_it_is_now(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            full = full_record()
            changes = {
                field.name: getattr(full, field.name)
                for field in dataclasses.fields(full)
                if field.name not in {"id", "version"}
            }
            updated = await sessions.update("a", **changes)
            assert updated == dataclasses.replace(full, version=2)
            assert await sessions.load("a") == updated

        run(test)

    def test_an_update_of_another_version_changes_nothing(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            first = await sessions.update("a", version=1, state=UploadState.COMPLETING)
            assert first.version == 2
            with pytest.raises(WrongState) as refusal:
                await sessions.update("a", version=1, state=UploadState.FAILED)
            assert refusal.value.detail == {"state": UploadState.COMPLETING}
            assert await sessions.load("a") == first

        run(test)

    def test_of_many_updates_of_one_version_one_wins(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            outcomes = await asyncio.gather(
                *(sessions.update("a", version=1, name=str(n)) for n in range(20)),
                return_exceptions=True,
            )
            winners = [outcome for outcome in outcomes if isinstance(outcome, UploadRecord)]
            assert len(winners) == 1
            assert sum(isinstance(outcome, WrongState) for outcome in outcomes) == 19
            assert await sessions.load("a") == winners[0]

        run(test)

    @pytest.mark.parametrize("name", ["id", "colour", "offset = 1; --"])
    def test_only_fields_of_a_record_are_updated(self, run: Any, name: str) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            with pytest.raises(TypeError):
                await sessions.update("a", **{name: "b"})
            assert await sessions.load("a") == record()

        run(test)

    # --- expired, page, count ---

    def test_the_expired_come_soonest_first_up_to_the_limit(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            expiries = {"a": 30.0, "b": 10.0, "c": None, "d": 20.0, "e": 20.5, "f": 10.0}
            for upload_id, expires_at in expiries.items():
                await sessions.create(record(upload_id, expires_at=expires_at))

            async def ids(now: float, limit: int) -> str:
                return "".join(found.id for found in await sessions.expired(now, limit))

            assert await ids(20.0, 10) == "bfd"
            assert await ids(20.0, 2) == "bf"
            assert await ids(20.0, 0) == await ids(20.0, -1) == await ids(9.9, 10) == ""
            await sessions.advance("b", 1, 40.0)
            await sessions.update("f", expires_at=None)
            await sessions.update("c", expires_at=5.0)
            assert await ids(100.0, 10) == "cdeab"

        run(test)

    def test_calls_that_are_missing_come_soonest_first_and_keep_their_records(
        self, run: Any
    ) -> None:
        async def test(sessions: Sessions) -> None:
            due = {"a": 30.0, "b": 10.0, "c": None, "d": 20.0, "e": 5.0}
            for upload_id, notify_at in due.items():
                state = UploadState.COMPLETING if upload_id == "e" else UploadState.COMPLETE
                await sessions.create(
                    record(upload_id, state=state, notify_at=notify_at, expires_at=1.0)
                )

            async def ids(before: float, limit: int) -> str:
                return "".join(found.id for found in await sessions.unnotified(before, limit))

            assert await ids(20.0, 10) == "bd"
            assert await ids(float("inf"), 10) == "bda"
            assert await ids(float("inf"), 1) == "b"
            assert await ids(9.9, 10) == await ids(100.0, 0) == await ids(100.0, -1) == ""
            assert {found.id for found in await sessions.expired(2.0, 10)} == {"c", "e"}
            await sessions.update("b", state=UploadState.CANCELLED)
            await sessions.update("d", notify_at=None)
            await sessions.update("e", state=UploadState.COMPLETE)
            assert await ids(100.0, 10) == "eba"
            await sessions.delete("a")
            assert await ids(100.0, 10) == "eb"
            assert {found.id for found in await sessions.expired(2.0, 10)} == {"c", "d"}

        run(test)

    def test_pages_are_in_order_of_ids_and_join_up(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            ids = sorted(["-", "0", "B", "Z", "_", "a", "aa", "b"])
            for upload_id in reversed(ids):
                state = UploadState.OPEN if upload_id < "a" else UploadState.FAILED
                await sessions.create(record(upload_id, state=state))
            seen: list[str] = []
            while page := await sessions.page(after=seen[-1] if seen else "", limit=3):
                assert len(page) <= 3
                seen += [found.id for found in page]
            assert seen == ids
            failed = await sessions.page(state=UploadState.FAILED)
            assert [found.id for found in failed] == ["a", "aa", "b"]
            after = await sessions.page(state=UploadState.FAILED, after="a", limit=1)
            assert [found.id for found in after] == ["aa"]
            assert list(await sessions.page(limit=0)) == list(await sessions.page(limit=-1)) == []
            assert await sessions.count() == len(ids)

        run(test)

    # --- life of the backend ---

    def test_a_closed_backend_says_so_and_closes_again(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            await asyncio.gather(sessions.close(), sessions.close())
            await sessions.close()
            with pytest.raises(SessionsUnavailable):
                await sessions.load("a")
            with pytest.raises(SessionsUnavailable):
                await sessions.advance("a", 1, None)

        run(test)

    def test_a_backend_that_was_never_opened_says_so_and_closes(self, tmp_path: Path) -> None:
        async def main() -> None:
            sessions = self.make(tmp_path)
            with pytest.raises(SessionsUnavailable):
                await sessions.load("a")
            with pytest.raises(SessionsUnavailable):
                await sessions.create(record())
            await sessions.close()

        asyncio.run(main())

    def test_asking_for_a_release_needs_no_answer(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            asked: list[str] = []
            sessions.on_release_asked(asked.append)
            await sessions.ask_release("a")
            await sessions.ask_release("../no id at all")
            await sessions.close()
            await sessions.ask_release("a")
            assert asked == []

        run(test)

    def test_an_awaiter_that_is_cancelled_breaks_nothing(self, run: Any) -> None:
        async def test(sessions: Sessions) -> None:
            await sessions.create(record())
            for turns in range(4):  # cancelled before, while and after it is handed over
                calls = [asyncio.ensure_future(sessions.advance("a", 1, None)) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            await sessions.advance("a", 2, None)
            assert (await sessions.load("a")).offset == 2

        run(test)

    def test_it_does_what_a_dict_does(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        contract = self

        class Machine(SessionsMachine):
            def make(self) -> Sessions:
                return contract.make(tmp_path_factory.mktemp("model"))

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            ),
        )


class DurableContract:
    """A second `make` finds what the first one stored."""

    def make(self, folder: Path) -> Sessions:
        raise NotImplementedError

    def test_what_was_acknowledged_is_there_after_opening_again(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(self.make(tmp_path)) as sessions:
                await sessions.create(full_record())
                await sessions.create(record("b"))
                await sessions.advance("b", 12, None)
                pending = asyncio.ensure_future(sessions.advance("b", 13, None))
                await asyncio.sleep(0)
                await sessions.close()  # commits what is pending
                await pending
            async with opened(self.make(tmp_path)) as sessions:
                assert await sessions.load("a") == full_record()
                assert (await sessions.load("b")).offset == 13

        asyncio.run(main())
