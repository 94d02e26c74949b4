"""Final uploads that take their time: tus items 100, 104, 109 and 114."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.running import at, body, resumables, running, wish
from forebay.engine.uploads import concatenation
from forebay.errors import Forbidden, InvalidRequest, NotFound, StorageFailed, UploadBusy
from forebay.model import UploadRecord, UploadState
from kinds import STAGED

DATA = [bytes([n]) * 50_000 for n in range(4)]


class Gate:
    """Lets a copy take one small step at a time, when the test says so."""

    def __init__(self, steps: int) -> None:
        self.left = threading.Semaphore(steps)
        self.reached = 0

    def open(self) -> None:
        self.left.release(1_000_000)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, store_kind: str) -> Iterator[Gate]:
    """A copy stops after three steps of 10 kB; nobody waits for it."""
    made = Gate(3)
    kind: Any = STAGED[store_kind]
    append_from = kind.append_from

    def slow(self: Any, source: Any, start: int, size: int) -> int:
        made.left.acquire()
        made.reached += 1
        return append_from(self, source, start, min(size, 10_000))

    monkeypatch.setattr(kind, "append_from", slow)
    monkeypatch.setattr(concatenation, "SOON", 0.01)
    monkeypatch.setattr(concatenation, "STEP", 10_000)
    yield made
    made.open()


async def parts(uploads) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    ids = []
    for data in DATA:
        record = await uploads.create(wish(len(data), partial=True))
        await uploads.append(at(record.id, 0), body(data))
        ids.append(record.id)
    return tuple(ids)


def test_a_long_copy_goes_on_behind_its_answer(tmp_path: Path, gate: Gate) -> None:
    """Items 100, 104, 106 and 114."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            ids = await parts(uploads)
            record = await uploads.create(wish(None, parts=ids, name="all"))
            assert record.state is UploadState.OPEN
            assert record.length == 200_000
            while gate.reached < 3:
                await asyncio.sleep(0.001)
            for _ in range(2):  # asking neither waits for it nor stops it
                assert (await uploads.offset(record.id)).state is UploadState.OPEN
            with pytest.raises(Forbidden):
                await uploads.append(at(record.id, 0), body(b"x"))
            with pytest.raises(UploadBusy):
                await uploads.cancel(ids[3])
            gate.open()
            while (await uploads.offset(record.id)).state is not UploadState.COMPLETE:
                pass
            for part in ids:
                await uploads.cancel(part)

    asyncio.run(main())
    assert (tmp_path / "all").read_bytes() == b"".join(DATA)
    assert list((tmp_path / ".forebay/uploads").iterdir()) == []


async def break_off(folder: Path, gate: Gate) -> str:
    """A final upload "all" whose copy ended in its middle."""
    async with running(folder) as engine:
        uploads = resumables(engine)
        record = await uploads.create(wish(None, parts=await parts(uploads), name="all"))
        while gate.reached < 3:
            await asyncio.sleep(0.001)
        gate.left.release()  # the step under way ends, and the process with it
        return record.id


@pytest.mark.parametrize("by", ["offset", "start"])
def test_a_copy_goes_on_after_a_restart(tmp_path: Path, gate: Gate, by: str) -> None:
    """Items 104 and 114."""

    async def go_on(upload_id: str) -> None:
        gate.open()
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            if by == "start":
                uploads.concatenation.resume_all()
                while (await uploads.peek(upload_id)).state is not UploadState.COMPLETE:
                    await asyncio.sleep(0.001)
            while (await uploads.offset(upload_id)).state is not UploadState.COMPLETE:
                pass

    asyncio.run(go_on(asyncio.run(break_off(tmp_path, gate))))
    assert (tmp_path / "all").read_bytes() == b"".join(DATA)


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "is stopped meanwhile"])
def test_a_start_does_not_wait_until_all_finals_are_found(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Bug: with a million unfinished uploads nobody was served for most of a minute."""

    async def go_on(upload_id: str) -> None:
        gate.open()
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            assert engine.sessions is not None
            page, asked, answered = engine.sessions.page, asyncio.Event(), asyncio.Event()

            async def slow_page(**wanted: Any) -> Sequence[UploadRecord]:
                asked.set()
                await answered.wait()
                return await page(**wanted)

            monkeypatch.setattr(engine.sessions, "page", slow_page)
            uploads.concatenation.resume_all()
            await asked.wait()
            assert (await uploads.peek(upload_id)).state is UploadState.OPEN
            if ends:
                return
            answered.set()
            while (await uploads.peek(upload_id)).state is not UploadState.COMPLETE:
                await asyncio.sleep(0.001)

    asyncio.run(go_on(asyncio.run(break_off(tmp_path, gate))))
    assert (tmp_path / "all").exists() is not ends


def test_ending_a_final_upload_stops_its_copy(tmp_path: Path, gate: Gate) -> None:
    """Item 99."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(None, parts=await parts(uploads)))
            while gate.reached < 3:
                await asyncio.sleep(0.001)
            ending = asyncio.ensure_future(uploads.cancel(record.id))
            await asyncio.sleep(0.01)
            gate.left.release(2)
            await ending
            reached = gate.reached
            assert reached < 20
            with pytest.raises(NotFound):
                await uploads.offset(record.id)

    asyncio.run(main())
    assert len(list((tmp_path / ".forebay/uploads").iterdir())) == len(DATA)


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    """Item 110."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            whole = await uploads.create(wish(3))
            part = await uploads.create(wish(3, partial=True))
            with pytest.raises(InvalidRequest):
                await uploads.create(wish(None, parts=(part.id, whole.id)))
            with pytest.raises(NotFound):
                await uploads.create(wish(None, parts=(part.id, "x" * 32)))

    asyncio.run(main())


def test_a_part_whose_data_was_lost_fails_the_final(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            ids = await parts(uploads)
            data = tmp_path / ".forebay/uploads" / ids[1]
            data.write_bytes(data.read_bytes()[:-1])
            with pytest.raises(StorageFailed):
                await uploads.create(wish(None, parts=ids, name="all"))

    asyncio.run(main())
    assert not (tmp_path / "all").exists()


def test_a_part_belongs_to_who_made_it(tmp_path: Path) -> None:
    """Item 112."""
    from forebay.config import Settings
    from forebay.engine.engine import Engine
    from forebay.hooks.python import PythonHooks
    from forebay.protocol.names import numbered
    from forebay.sessions.memory import MemorySessions
    from forebay.stores.memory import MemoryStore

    async def main() -> None:
        hooks = PythonHooks(lambda access: str(access.context["user"]))
        store = MemoryStore(numbered=numbered)
        engine = Engine(Settings(dir=str(tmp_path)), store, hooks=hooks)
        await engine.open_uploads(MemorySessions())
        uploads = resumables(engine)
        mine, other = {"user": "me"}, {"user": "other"}
        record = await uploads.create(wish(3, partial=True), context=mine)
        await uploads.append(at(record.id, 0), body(b"abc"), context=mine)
        with pytest.raises(NotFound):
            await uploads.create(wish(None, parts=(record.id,)), context=other)
        final = await uploads.create(wish(None, parts=(record.id,)), context=mine)
        assert final.state is UploadState.COMPLETE
        await engine.close_uploads()
        engine.close()

    asyncio.run(main())


@pytest.mark.parametrize("moment", ["looked at", "committed"])
def test_a_part_that_ends_while_its_final_upload_is_being_made_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Bug: it was said to be complete before the final upload waited for it, or while that was
    still busy with others, so the final upload was not gone on with before somebody asked for it.
    """

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads, sessions = resumables(engine), engine.sessions
            assert sessions is not None
            first = await uploads.create(wish(3, partial=True))
            await uploads.append(at(first.id, 0), body(b"abc"))
            second = await uploads.create(wish(3, partial=True))
            method = {"looked at": "load", "committed": "advance"}[moment]
            call = getattr(sessions, method)

            async def watched(key: Any, *more: Any) -> UploadRecord:
                found: UploadRecord = await call(key, *more)
                upload_id = getattr(key, "upload_id", key)  # of a lease
                making = uploads.concatenation._tasks
                if upload_id in making if moment == "committed" else upload_id == second.id:
                    monkeypatch.undo()
                    await uploads.append(at(second.id, 0), body(b"def"))
                return found

            monkeypatch.setattr(sessions, method, watched)
            final = await uploads.create(wish(parts=(first.id, second.id), name="all"))
            async with asyncio.timeout(30):
                while (await uploads.peek(final.id)).state is not UploadState.COMPLETE:
                    await asyncio.sleep(0.01)
            assert not len(uploads.concatenation._waiting)
            assert not uploads.concatenation._again

    asyncio.run(main())
    assert (tmp_path / "all").read_bytes() == b"abcdef"


def test_a_part_that_a_question_completes_is_not_forgotten(tmp_path: Path) -> None:
    """Bug: as above, of a part whose last request died before it was complete."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads, sessions = resumables(engine), engine.sessions
            assert sessions is not None
            part = await uploads.create(wish(3, partial=True))
            final = await uploads.create(wish(parts=(part.id,), name="all"))
            staged = engine.store.claim(part.id)
            staged.write(memoryview(b"abc"), 0)
            staged.close()
            await sessions.advance(part.id, 3, None)  # what a kill leaves
            assert (await uploads.offset(part.id)).offset == 3
            async with asyncio.timeout(30):
                while (await uploads.peek(final.id)).state is not UploadState.COMPLETE:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert (tmp_path / "all").read_bytes() == b"abc"


def test_final_uploads_that_ended_wait_for_no_part(tmp_path: Path) -> None:
    """Bug: a cancelled one was remembered, and woken, for as long as its part was missing."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            making = uploads.concatenation
            part = await uploads.create(wish(3, partial=True))
            other = await uploads.create(wish(3, partial=True))
            finals = [await uploads.create(wish(parts=(part.id, other.id))) for _ in range(3)]
            assert set(making._waiting.finals) == {final.id for final in finals}
            await uploads.cancel(finals[0].id)
            assert finals[0].id not in making._waiting.finals
            assert all(finals[0].id not in waiting for waiting in making._waiting._finals.values())
            sessions = engine.sessions
            assert sessions is not None
            await sessions.delete(finals[1].id)  # as a sweep in another process does
            await making._prune()
            assert set(making._waiting.finals) == {finals[2].id}
            await uploads.cancel(part.id)
            async with asyncio.timeout(30):
                while len(making._waiting):
                    await asyncio.sleep(0.01)

    asyncio.run(main())
