"""Interleavings of requests, sweeps and processes around one upload, one step at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.gate import Gate
from engine.notifications import wait_for_calls
from engine.running import Wire, at, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.engine.files.withdraw import withdraw
from forebay.engine.maintenance.sweep import Sweeper, Swept
from forebay.engine.outbox.durable import DurableNotification
from forebay.engine.uploads.service import UploadService
from forebay.errors import (
    DiskFull,
    Forbidden,
    NotFound,
    SessionsUnavailable,
    StorageDenied,
)
from forebay.model import Conflict, Receive, UploadRecord, UploadState
from forebay.stores.base import Publication, Published
from forebay.stores.files.staged import StagedFile
from forebay.stores.files.store import FileStore


def tellings(engine: Engine) -> list[str]:
    """The ids that `on_complete` is told from now on."""
    told: list[str] = []
    engine.hooks.completers.append(lambda done: told.append(done.id))  # type: ignore[attr-defined]
    return told


async def published_and_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> UploadRecord:
    """An upload whose last request was cancelled while the file got its name."""
    uploads, gate, publish = resumables(engine), Gate(), StagedFile.publish

    def held(self: StagedFile, how: Publication) -> Published:
        published = publish(self, how)
        gate.wait()
        return published

    record = await uploads.create(wish(3, **more))
    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "publish", held)
        request = asyncio.create_task(uploads.append(at(record.id, 0), body(b"abc")))
        await gate.reached()
        request.cancel()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await request
    record = await uploads.peek(record.id)
    assert record.state is UploadState.COMPLETING
    return record


@on_a_loop
async def test_what_was_published_is_not_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a file that was published, but not yet recorded, stayed when its upload was ended
    without leave to delete, and nobody was ever told of it.
    """
    async with running(tmp_path) as engine:
        told = tellings(engine)
        record = await published_and_cancelled(engine, monkeypatch)
        with pytest.raises(Forbidden):
            await resumables(engine).cancel(record.id)
        await wait_for_calls(resumables(engine).notifier)
        assert told == [record.id]
        assert (await resumables(engine).peek(record.id)).state is UploadState.COMPLETE
        assert list(engine.store.remains()) == []
    assert (tmp_path / "f.bin").read_bytes() == b"abc"


@on_a_loop
async def test_who_may_delete_ends_a_published_upload_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the file stayed, though its client was told that the upload is gone."""
    async with running(tmp_path, allow_delete=True) as engine:
        record = await published_and_cancelled(engine, monkeypatch)
        await resumables(engine).cancel(record.id)
        with pytest.raises(NotFound):
            await resumables(engine).peek(record.id)
    assert not (tmp_path / "f.bin").exists()


def sweeper(engine: Engine) -> Sweeper:
    assert engine.sessions is not None
    locks, notify = engine.context.locks, engine.state.notify_soon
    return Sweeper(engine.store, engine.sessions, engine.workers, locks, notify)


@on_a_loop
async def test_what_was_published_is_told_of_at_its_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the data of an expired upload was removed without a look whether it was published."""
    async with running(tmp_path) as engine:
        told = tellings(engine)
        record = await published_and_cancelled(engine, monkeypatch)
        assert record.expires_at is not None
        await sweeper(engine).clean(record.expires_at + 1, Swept())
        await wait_for_calls(resumables(engine).notifier)
        assert told == [record.id]
        assert list(engine.store.remains()) == []
        await sweeper(engine).clean(record.expires_at + 1, Swept())
        with pytest.raises(NotFound):
            await resumables(engine).peek(record.id)
    assert (tmp_path / "f.bin").read_bytes() == b"abc"


@on_a_loop
async def test_what_was_published_is_told_of_before_it_makes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: an expired upload that is bound to a name went the same way."""
    async with running(tmp_path) as engine:
        told = tellings(engine)
        record = await published_and_cancelled(engine, monkeypatch, by_name=True)
        assert engine.sessions is not None
        await engine.sessions.update(record.id, expires_at=1.0)
        other = await resumables(engine).create(wish(3, by_name=True))
        await wait_for_calls(resumables(engine).notifier)
        assert told == [record.id]
        assert list(engine.store.remains()) == [other.id]


# --- a start beside others ------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ["deleted", "failed"])
@on_a_loop
async def test_a_start_beside_a_completion_that_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    """Bug: the repair of a starting process failed, and the process with it, when another had
    told of the file and forgotten the record between two steps of the repair.
    """
    async with running(tmp_path) as engine:
        record = await published_and_cancelled(engine, monkeypatch)
        sessions, loop = engine.sessions, asyncio.get_running_loop()
        assert sessions is not None
        look = FileStore.published_from

        def looked(self: FileStore, upload_id: str, name: str, identity: str) -> Any:
            found = look(self, upload_id, name, identity)
            if ended == "failed":
                change: Any = sessions.update(upload_id, state=UploadState.FAILED)
            else:
                change = sessions.delete(upload_id)
            asyncio.run_coroutine_threadsafe(change, loop).result(30)
            return found

        monkeypatch.setattr(FileStore, "published_from", looked)
        assert (await sweeper(engine).repair()).repaired == 0
        if ended == "failed":
            assert (await sessions.load(record.id)).state is UploadState.FAILED


@on_a_loop
async def test_two_sweeps_that_end_one_upload_do_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `forebay sweep` failed when a server's sweep forgot an upload at the same moment."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        record = await uploads.create(wish(3, partial=True))
        engine.store.remove(record.id)
        load = sessions.load

        async def loaded(upload_id: str) -> UploadRecord:
            found = await load(upload_id)
            await sessions.delete(upload_id)
            return found

        monkeypatch.setattr(sessions, "load", loaded)
        assert record.expires_at is not None
        await sweeper(engine).clean(record.expires_at + 1, Swept())
        assert await sessions.count() == 0


@on_a_loop
async def test_one_upload_that_cannot_be_looked_at_stops_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a server did not start while the folder that one upload went to could not be read."""
    async with running(tmp_path) as engine:
        told, sessions = tellings(engine), engine.sessions
        assert sessions is not None
        made = [
            await published_and_cancelled(engine, monkeypatch, name=f"{n}.bin") for n in range(3)
        ]
        look, bad = FileStore.published_from, made[1]

        def looked(self: FileStore, upload_id: str, name: str, identity: str) -> Any:
            if upload_id == bad.id:
                raise StorageDenied
            return look(self, upload_id, name, identity)

        with monkeypatch.context() as patch:
            patch.setattr(FileStore, "published_from", looked)
            assert (await sweeper(engine).repair()).repaired == 2
            assert bad.expires_at is not None
            await sweeper(engine).run(bad.expires_at + 1)
            await wait_for_calls(resumables(engine).notifier)
            await sweeper(engine).run(bad.expires_at + 1)
            assert await sessions.count() == 1
        assert await sessions.load(bad.id) == bad
        assert sorted(told) == sorted({r.id for r in made} - {bad.id})
        await sweeper(engine).run(time.time())
        await wait_for_calls(resumables(engine).notifier)
        assert bad.id in told


# --- whoever ends an upload -----------------------------------------------------------------------


async def cancelled(uploads: UploadService) -> str:
    record = await uploads.create(wish(3))
    await uploads.cancel(record.id)
    return record.id


async def broken_off(uploads: UploadService) -> str:
    made: list[str] = []

    async def announce(record: UploadRecord) -> bool:
        made.append(record.id)
        return False

    wire = Wire(3)
    wire.cut()
    with contextlib.suppress(Exception):
        await uploads.create_with(wish(3), at("", 0), wire.source, announce=announce)
    return made[0]


async def made_way(uploads: UploadService) -> str:
    old = await uploads.create(wish(3, by_name=True))
    await uploads.create(wish(3, by_name=True))
    return old.id


@pytest.mark.parametrize("end", [cancelled, broken_off, made_way])
@on_a_loop
async def test_whoever_asks_while_an_upload_ends_is_not_told_that_it_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: Any
) -> None:
    """Bug: the data went first, and another process that was asked before the record went took
    it for lost, and said so in its log.
    """
    async with running(tmp_path) as one, running(tmp_path) as other:
        sessions = one.sessions
        assert sessions is not None
        delete = sessions.delete

        async def deleted(upload_id: str) -> None:
            questions.append(asyncio.create_task(resumables(other).offset(upload_id)))
            await looked.wait()
            await delete(upload_id)

        async def claimed(upload_id: str) -> Any:
            try:
                return await claim(upload_id)
            finally:
                looked.set()

        questions: list[asyncio.Task[UploadRecord]] = []
        looked, claim = asyncio.Event(), resumables(other).accesses.claims.acquire
        monkeypatch.setattr(sessions, "delete", deleted)
        monkeypatch.setattr(resumables(other).accesses.claims, "acquire", claimed)
        await end(resumables(one))
        [question] = questions
        with pytest.raises(NotFound):
            await question
    assert "are not there" not in caplog.text


@on_a_loop
async def test_an_upload_that_is_ended_gives_room_for_the_note_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        delete = sessions.delete

        async def deleted(upload_id: str) -> None:
            if list(engine.store.remains()):
                raise DiskFull
            await delete(upload_id)

        monkeypatch.setattr(sessions, "delete", deleted)
        await cancelled(uploads)
        assert await sessions.count() == 0


# --- creations that are cancelled -----------------------------------------------------------------


@on_a_loop
async def test_a_creation_that_is_cancelled_leaves_no_record_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: its record was added all the same, and its name was taken for as long as it lived."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        add = sessions.create

        async def added(record: UploadRecord) -> None:
            creating.cancel()
            await add(record)

        monkeypatch.setattr(sessions, "create", added)
        creating = asyncio.create_task(uploads.create(wish(3, by_name=True)))
        with pytest.raises(asyncio.CancelledError):
            await creating
        await sessions.delete("another")  # which comes after all that was written before
        assert await sessions.count() == 0
        assert list(engine.store.remains()) == []


@on_a_loop
async def test_a_creation_of_which_nobody_knows_goes_with_its_request(tmp_path: Path) -> None:
    """Bug: what was received of it stayed until it expired."""
    async with running(tmp_path) as engine:
        uploads, wire, reading = resumables(engine), Wire(3), asyncio.Event()

        async def announce(record: UploadRecord) -> bool:
            reading.set()
            return False

        request = asyncio.create_task(
            uploads.create_with(wish(3), at("", 0), wire.source, announce=announce)
        )
        await reading.wait()
        wire.send(b"a")
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert engine.sessions is not None
        assert await engine.sessions.count() == 0
        assert list(engine.store.remains()) == []


@on_a_loop
async def test_a_creation_that_published_its_file_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a request that failed between the publication and the note of it had its upload
    removed, so the file stayed and nobody was told of it.
    """
    async with running(tmp_path) as engine:
        told, sessions = tellings(engine), engine.sessions
        assert sessions is not None
        update = sessions.update

        async def updated(upload_id: str, **changes: Any) -> UploadRecord:
            if changes.get("state") is UploadState.COMPLETE:
                monkeypatch.undo()
                raise SessionsUnavailable
            return await update(upload_id, **changes)

        monkeypatch.setattr(sessions, "update", updated)
        with pytest.raises(SessionsUnavailable):
            await resumables(engine).create_with(wish(3), at("", 0), body(b"abc"))
        assert (tmp_path / "f.bin").read_bytes() == b"abc"
        await wait_for_calls(resumables(engine).notifier)
        assert len(told) == 1
        assert list(engine.store.remains()) == []


# --- files that are taken back --------------------------------------------------------------------


@on_a_loop
async def test_a_file_is_taken_back_before_its_upload_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a process that died in between left a file that nobody wanted, and no sign of that."""
    gone: list[str] = []
    async with running(tmp_path) as engine:
        sessions = engine.sessions
        assert sessions is not None
        delete, forget = engine.store.delete, sessions.delete

        def deleted(name: str, *more: Any, **named: Any) -> None:
            gone.append(name)
            delete(name, *more, **named)

        async def forgotten(upload_id: str) -> None:
            gone.append(upload_id)
            await forget(upload_id)

        monkeypatch.setattr(engine.store, "delete", deleted)
        monkeypatch.setattr(sessions, "delete", forgotten)
        told = tellings(engine)
        command = Receive("a.bin", Conflict.REFUSE)
        with pytest.raises(NotFound):
            async with engine.received_file(command, body(b"abc")) as (upload, _):
                assert [each.id for each in await sessions.page()] == [upload.id]
                raise NotFound  # whatever somebody has against it
        assert gone == ["a.bin", upload.id]
        assert (await sessions.count(), told) == (0, [])
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize("taken_back", [False, True], ids=["before", "after"])
@on_a_loop
async def test_a_crash_while_a_file_is_taken_back_leaves_all_or_nothing(
    tmp_path: Path, taken_back: bool
) -> None:
    async with running(tmp_path) as engine:
        told = tellings(engine)
        command = Receive("a.bin", Conflict.REFUSE)
        async with engine.single_upload(command, body(b"abc")) as upload:
            notification = await upload.take()
        if taken_back:
            await engine.workers.run(withdraw, engine.store, notification.stored)
        assert isinstance(notification, DurableNotification)
        await sweeper(engine).run(time.time())  # the process lives
        assert told == []
        notification._lock.release()  # as a process that dies lets go of its lock
        await sweeper(engine).run(time.time())
        await wait_for_calls(resumables(engine).notifier)
        assert engine.sessions is not None
        assert await engine.sessions.count() == 0
        assert told == ([] if taken_back else [upload.id])
    assert (tmp_path / "a.bin").exists() is not taken_back
