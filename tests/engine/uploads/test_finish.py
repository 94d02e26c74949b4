"""The end of an upload when something else goes wrong at the same time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from engine.completion import on_a_loop
from engine.notifications import wait_for_calls
from engine.running import at, body, resumables, running, wish
from forebay.engine.engine import Engine
from forebay.errors import NameTaken, NotFound, SessionsUnavailable, UploadBusy
from forebay.hooks.base import Completion
from forebay.model import Conflict, CreateUpload, UploadRecord, UploadState
from forebay.record import WHOLE, Outcome
from forebay.stores.base import Publication, Published
from forebay.stores.files.staged import StagedFile


@pytest.mark.parametrize("ended", ["failed again", "returned"])
@on_a_loop
async def test_a_callback_that_ends_meanwhile_does_not_refuse_a_removal(
    tmp_path: Path, ended: str
) -> None:
    """Bug: the file was removed, and yet the client was told that its upload had changed."""
    async with running(tmp_path, allow_delete=True) as engine:
        calls = _failing(engine)
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        made = await uploads.create(wish(3))
        await uploads.append(at(made.id, 0), body(b"abc"))
        await wait_for_calls(uploads.notifier)
        assert calls == [made.id]
        remove = uploads._finisher.remove_file

        async def removed(record: UploadRecord, context: Any) -> None:
            await remove(record, context)
            changes = {"notify_at": 1.0 if ended == "failed again" else None}
            await sessions.update(record.id, **changes)  # as the notifier does, without the lock

        uploads._finisher.remove_file = removed  # type: ignore[method-assign]
        await uploads.cancel(made.id)
        assert not (tmp_path / "f.bin").exists()
        if ended == "returned":
            with pytest.raises(NotFound):
                await uploads.peek(made.id)
        else:
            assert (await uploads.peek(made.id)).state is UploadState.CANCELLED


def _failing(engine: Engine) -> list[str]:
    calls: list[str] = []

    def complete(completion: Completion) -> None:
        calls.append(completion.id)
        raise ValueError("not now")

    engine.hooks.completers.append(complete)  # type: ignore[attr-defined]
    return calls


@on_a_loop
async def test_a_refused_name_is_told_although_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the client was told of the state store, and sent its request again in vain."""
    async with running(tmp_path) as engine:
        uploads, sessions = resumables(engine), engine.sessions
        assert sessions is not None
        made = await uploads.create(CreateUpload("tus", "f.bin", Conflict.REFUSE, 3))
        (tmp_path / "f.bin").write_bytes(b"other")

        async def unavailable(*_: Any, **changes: Any) -> UploadRecord:
            raise SessionsUnavailable(retry_after=1)

        monkeypatch.setattr(sessions, "update", unavailable)
        with pytest.raises(NameTaken) as caught:
            await uploads.append(at(made.id, 0), body(b"abc"))
        assert caught.value.detail["ended"] is True
        monkeypatch.undo()
        with pytest.raises(NameTaken):
            await uploads.offset(made.id)
        (tmp_path / "f.bin").unlink()
        assert (await uploads.offset(made.id)).state is UploadState.COMPLETE


@on_a_loop
async def test_a_store_that_refuses_every_name_ends_in_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: where a free name could never be taken, names were tried for ever."""
    tried: list[str] = []

    def refuse(self: StagedFile, how: Publication) -> Published:
        tried.append(how.name)
        raise NameTaken

    async with running(tmp_path) as engine:
        uploads = resumables(engine)
        made = await uploads.create(wish(3))
        with monkeypatch.context() as patch:
            patch.setattr(StagedFile, "publish", refuse)
            with pytest.raises(NameTaken):
                await uploads.append(at(made.id, 0), body(b"abc"))
        assert 1 < len(tried) <= 1000
        assert (await uploads.offset(made.id)).state is UploadState.COMPLETE  # nothing was lost
        assert (tmp_path / "f.bin").read_bytes() == b"abc"


@on_a_loop
async def test_a_whole_upload_that_is_being_published_is_left_to_its_outbox(
    tmp_path: Path,
) -> None:
    """Bug: a request for its id recorded the end of it, without the lock that its outbox holds."""
    async with running(tmp_path) as engine:
        assert engine.sessions is not None
        (tmp_path / "f.bin").write_bytes(b"abc")
        whole = UploadRecord(
            id="w" * 32,
            principal="",
            dialect=WHOLE,
            state=UploadState.COMPLETING,
            offset=3,
            length=3,
            name="f.bin",
            created_at=time.time(),
            expires_at=None,
            final_name="f.bin",
            outcome=Outcome(identity=engine.store.identity("f.bin")).encode(),
            notify_at=time.time(),
        )
        await engine.sessions.create(whole)
        with pytest.raises(UploadBusy):
            await resumables(engine).offset(whole.id)
        assert await engine.sessions.load(whole.id) == whole
