"""An upload and its first bytes in one hold, and what the engine keeps of how it ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.running import Wire, body, resumables, running
from forebay.engine.engine import Engine
from forebay.engine.uploads.service import Standing
from forebay.errors import (
    DiskFull,
    Gone,
    IncompleteBody,
    Interrupted,
    NotFound,
    TooManyUploads,
    VerificationRefused,
)
from forebay.hooks.base import Access
from forebay.hooks.python import PythonHooks
from forebay.model import AppendUpload, Conflict, CreateUpload, UploadRecord, UploadState
from forebay.record import Outcome, stored_of
from forebay.stores.base import Publication


def wish(length: int | None = None, **more: Any) -> CreateUpload:
    return CreateUpload("ietf", "f.bin", Conflict.REFUSE, length, **more)


def last(upload_id: str = "", offset: int = 0, **more: Any) -> AppendUpload:
    return AppendUpload(upload_id, "ietf", offset, completes=True, **more)


async def begin(engine: Engine, data: bytes, *, knows: bool = True, **more: Any) -> Standing:
    async def announce(record: UploadRecord) -> bool:
        return knows

    return await resumables(engine).create_with(
        wish(len(data)), last(), body(data), announce=announce, **more
    )


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in (folder / ".forebay/uploads").iterdir()]


def test_it_exists_before_it_is_announced_and_nobody_gets_in_between(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            questions: list[asyncio.Task[UploadRecord]] = []

            async def announce(record: UploadRecord) -> bool:
                assert (await uploads.peek(record.id)).state is UploadState.OPEN
                # asked at once, it has to wait, and then ends what has just begun
                questions.append(asyncio.ensure_future(uploads.offset(record.id)))
                await asyncio.sleep(0.05)
                assert not questions[0].done()
                return True

            wire = Wire(10)
            wire.send(b"abc")
            with pytest.raises(Interrupted):
                await uploads.create_with(wish(10), last(), wire.source, announce=announce)
            record = await questions[0]
            assert (record.state, record.length) == (UploadState.OPEN, 10)
            rest = b"0123456789"[record.offset :]
            standing = await uploads.append(last(record.id, record.offset), body(rest))
            assert standing.complete

    asyncio.run(main())
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("knows", [True, False])
def test_what_breaks_off_is_kept_for_whoever_can_come_back(tmp_path: Path, knows: bool) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            made: list[str] = []

            async def announce(record: UploadRecord) -> bool:
                made.append(record.id)
                return knows

            wire = Wire(10)
            wire.send(b"abc")
            wire.cut()
            with pytest.raises(IncompleteBody):
                await uploads.create_with(wish(10), last(), wire.source, announce=announce)
            if knows:
                assert (await uploads.offset(made[0])).offset == 3
            else:
                with pytest.raises(NotFound):
                    await uploads.peek(made[0])
            assert leftovers(tmp_path) == (made if knows else [])

    asyncio.run(main())


def test_a_refused_creation_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            engine.store.min_free = 1 << 62
            with pytest.raises(DiskFull):
                await begin(engine, b"abc")
            engine.store.min_free = 0
            engine.settings = engine.settings.replace(max_uploads=1)
            engine.context.admission.enter()
            with pytest.raises(TooManyUploads):
                await begin(engine, b"abc")
            engine.context.admission.leave()
            assert (await begin(engine, b"abc")).complete
            assert engine.context.admission.running == 0

    asyncio.run(main())
    assert leftovers(tmp_path) == []


def test_how_it_ended_is_kept_and_told_once(tmp_path: Path) -> None:
    async def main() -> None:
        told = []
        async with running(tmp_path) as engine:
            engine.hooks.completers.append(told.append)  # type: ignore[attr-defined]
            first = await begin(engine, b"abc")
            assert first.stored is not None
            again = await resumables(engine).append(last(first.record.id, 3), body(b""))
            assert again.replayed
            assert again.stored == first.stored
            [completion] = told
            assert completion.stored == first.stored
            assert completion.stored.file.size == 3

    asyncio.run(main())


def test_a_crash_between_publication_and_record_is_repaired_and_told(tmp_path: Path) -> None:
    """Invariant 11: on_complete at least once, also when the first question repairs it."""

    async def main() -> None:
        told = []
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            engine.hooks.completers.append(told.append)  # type: ignore[attr-defined]
            record = await uploads.create(wish(3))
            await uploads.append(AppendUpload(record.id, "ietf", 0, completes=False), body(b"abc"))
            # what a kill leaves: the name recorded and linked, the end not
            await uploads._sessions.update(
                record.id,
                state=UploadState.COMPLETING,
                final_name="f.bin",
                outcome=Outcome().encode(),
                notify_at=1.0,
            )
            claims = uploads.accesses.claims
            claim = await claims.acquire(record.id)
            how = Publication("f.bin", Conflict.REFUSE)
            await engine.workers.run(claim.data.publish, how)
            await claims.release(claim)
            found = await uploads.offset(record.id)
            assert found.state is UploadState.COMPLETE
            stored = stored_of(found)
            assert stored is not None
            assert (stored.file.name, stored.file.size) == ("f.bin", 3)
            assert stored.file.tag
            assert len(told) == 1

    asyncio.run(main())
    assert (tmp_path / "f.bin").read_bytes() == b"abc"


def test_a_refused_file_says_that_resuming_does_not_help(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:

            def no(candidate: object) -> None:
                raise VerificationRefused("That is a virus.")

            engine.hooks.verifiers.append(no)  # type: ignore[attr-defined]
            made: list[str] = []

            async def announce(record: UploadRecord) -> bool:
                made.append(record.id)
                return True

            with pytest.raises(VerificationRefused) as error:
                await resumables(engine).create_with(
                    wish(3), last(), body(b"abc"), announce=announce
                )
            assert error.value.detail["ended"]
            with pytest.raises(Gone, match="virus"):
                await resumables(engine).append(last(made[0], 3), body(b""))

    asyncio.run(main())
    assert leftovers(tmp_path) == []


def test_every_request_is_authorised_and_a_stranger_finds_nothing(tmp_path: Path) -> None:
    """RUFH, item 80: also the one that ends the upload."""

    async def main() -> None:
        asked: list[str] = []

        def who(access: Access) -> str:
            asked.append(access.action)
            return str(access.context["who"])

        async with running(tmp_path) as engine:
            engine.context.hooks = PythonHooks(who)
            uploads = resumables(engine)
            mine: dict[str, Any] = {"context": {"who": "me"}}
            record = await uploads.create(wish(3), **mine)
            strange: dict[str, Any] = {"context": {"who": "you"}}
            for attempt in (
                uploads.offset(record.id, **strange),
                uploads.cancel(record.id, **strange),
                uploads.peek(record.id, **strange),
                uploads.append(last(record.id), body(b"abc"), **strange),
            ):
                with pytest.raises(NotFound):
                    await attempt
            assert (await uploads.append(last(record.id), body(b"abc"), **mine)).complete
        assert asked == ["create", "offset", "cancel", "read", "append", "append"]

    asyncio.run(main())
