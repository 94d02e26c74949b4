"""Digests of what is stored: computed once, in turns, and never while the name is taken."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from engine.running import at, body, resumables, running
from forebay.engine.context import _hashing_slots
from forebay.engine.transfer.pump import Hashing
from forebay.engine.uploads import rehash as rehashing
from forebay.errors import NameTaken
from forebay.model import Conflict, CreateUpload, Digest, UploadState

DATA = b"0123456789" * 100


def expecting(name: str = "f.bin", **more: Any) -> CreateUpload:
    digest = Digest("sha-256", hashlib.sha256(DATA).digest())
    return CreateUpload("tus", name, Conflict.REFUSE, len(DATA), expected=(digest,), **more)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all that was hashed."""
    sizes: list[int] = []
    update = Hashing.update

    def noted(self: Hashing, data: memoryview) -> None:
        if len(data):
            sizes.append(len(data))
        update(self, data)

    monkeypatch.setattr(Hashing, "update", noted)
    return sizes


def test_an_upload_whose_name_is_taken_is_not_hashed(tmp_path: Path, hashed: list[int]) -> None:
    """Bug: each HEAD hashed all of it."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(expecting())
            (tmp_path / "f.bin").write_bytes(b"other")
            with pytest.raises(NameTaken):
                await uploads.append(at(record.id, 0), body(DATA))
            hashed.clear()
            for _ in range(3):
                with pytest.raises(NameTaken) as refused:
                    await uploads.offset(record.id)
                assert refused.value.detail["ended"]
            assert hashed == []
            (tmp_path / "f.bin").unlink()
            assert (await uploads.offset(record.id)).state is UploadState.COMPLETE
            assert (tmp_path / "f.bin").read_bytes() == DATA

    asyncio.run(main())


def test_a_verdict_is_kept_when_the_name_was_taken_at_the_last_moment(
    tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(expecting(wanted=("sha-256",)))
            monkeypatch.setattr(engine.store, "check_target", lambda how: None)
            (tmp_path / "f.bin").write_bytes(b"other")
            with pytest.raises(NameTaken):
                await uploads.append(at(record.id, 0), body(DATA))
            hashed.clear()
            for _ in range(3):
                with pytest.raises(NameTaken):
                    await uploads.offset(record.id)
            assert hashed == []
            (tmp_path / "f.bin").unlink()
            done = await uploads.offset(record.id)
            assert done.state is UploadState.COMPLETE
            assert hashlib.sha256(DATA).hexdigest().encode() in done.outcome
            assert hashed == []

    asyncio.run(main())


def test_hashing_takes_turns_and_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: ten that were hashed at once made a download wait for seconds."""

    async def main() -> None:
        monkeypatch.setattr(rehashing, "_TURN", 100)
        turn, running_now, most, turns = rehashing._turn, 0, 0, 0

        def counted(*arguments: Any) -> int:
            nonlocal running_now, most, turns
            running_now += 1
            turns += 1
            most = max(most, running_now)
            try:
                return turn(*arguments)
            finally:
                running_now -= 1

        monkeypatch.setattr(rehashing, "_turn", counted)
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            records = [await uploads.create(expecting(f"f{n}.bin")) for n in range(10)]
            await asyncio.gather(*(uploads.append(at(r.id, 0), body(DATA)) for r in records))
            assert turns == 10 * len(DATA) // 100
            assert most <= _hashing_slots(engine.workers.limit) < engine.workers.limit
            assert (tmp_path / "f9.bin").read_bytes() == DATA

    asyncio.run(main())
