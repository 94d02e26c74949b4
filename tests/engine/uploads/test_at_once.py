"""A creation that brings the whole body, of which its client learns with the final answer."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from engine.running import Wire, resumables, running, wish
from forebay.errors import (
    InconsistentLength,
    NameTaken,
    SessionsUnavailable,
    TooLarge,
)
from forebay.http.asgi_source import ReceiveSource
from forebay.model import AppendUpload, Conflict, CreateUpload, Digest, UploadRecord, UploadState


class Here(ReceiveSource):
    """A body that came together with its head."""

    def __init__(self, data: bytes) -> None:
        wire = Wire(len(data))
        wire.send(data, last=True)
        super().__init__(wire.source._receive, len(data))
        self._data: bytes | None = data

    def take_whole(self) -> bytes | None:
        data, self._data = self._data, None
        return data


FIRST = AppendUpload("", "tus", 0)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def staged(folder: Path) -> list[str]:
    return [path.name for path in (folder / ".forebay/uploads").iterdir()]


def test_it_costs_one_commit_and_is_there_for_whoever_asks(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            before = uploads._sessions.commits  # type: ignore[attr-defined]
            standing = await uploads.create_with(wish(3, wanted=("sha-256",)), FIRST, Here(b"abc"))
            assert uploads._sessions.commits == before + 1  # type: ignore[attr-defined]
            assert standing.complete
            assert standing.stored is not None
            record = await uploads.offset(standing.record.id)
            assert record == standing.record
            assert (record.state, record.offset, record.length) == (UploadState.COMPLETE, 3, 3)
            digest = Digest("sha-256", hashlib.sha256(b"abc").digest())
            assert standing.stored.digests == (digest,)
            again = await uploads.append(AppendUpload(record.id, "tus", 3), Here(b""))
            assert again.replayed
            assert again.stored == standing.stored

    asyncio.run(main())
    assert content(tmp_path) == {"f.bin": b"abc"}
    assert staged(tmp_path) == []


def test_a_part_of_it_goes_the_long_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            standing = await resumables(engine).create_with(wish(10), FIRST, Here(b"abc"))
            assert not standing.complete
            assert (await resumables(engine).offset(standing.record.id)).offset == 3
            assert staged(tmp_path) == [standing.record.id]

    asyncio.run(main())
    assert content(tmp_path) == {}


def test_a_hook_that_is_told_makes_it_go_the_long_way(tmp_path: Path) -> None:
    """on_complete is told at least once, so the end has to be on record before."""

    async def main() -> None:
        told: list[Any] = []
        async with running(tmp_path) as engine:
            engine.hooks.completers.append(told.append)  # type: ignore[attr-defined]
            standing = await resumables(engine).create_with(wish(3), FIRST, Here(b"abc"))
            assert [each.id for each in told] == [standing.record.id]

    asyncio.run(main())
    assert staged(tmp_path) == []


@pytest.mark.parametrize(
    ("wanted", "first", "error"),
    [
        (wish(2), FIRST, TooLarge),
        (wish(3), AppendUpload("", "tus", 0, length=4, completes=True), InconsistentLength),
        (wish(3, max_size=2), FIRST, TooLarge),
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path, wanted: Any, first: Any, error: Any
) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            with pytest.raises(error):
                await resumables(engine).create_with(wanted, first, Here(b"abc"))
            assert engine.context.admission.running == 0
            assert await resumables(engine)._sessions.count() == 0

    asyncio.run(main())
    assert content(tmp_path) == {}
    assert staged(tmp_path) == []


def test_a_name_taken_meanwhile_is_renamed_or_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as engine:
            (tmp_path / "f.bin").write_bytes(b"old")
            standing = await resumables(engine).create_with(wish(3), FIRST, Here(b"abc"))
            assert standing.record.final_name == "f (1).bin"
            with pytest.raises(NameTaken):
                await resumables(engine).create_with(
                    CreateUpload("tus", "f.bin", Conflict.REFUSE, 3), FIRST, Here(b"abc")
                )

    asyncio.run(main())
    assert content(tmp_path) == {"f.bin": b"old", "f (1).bin": b"abc"}


def test_a_file_whose_upload_cannot_be_recorded_is_taken_back(tmp_path: Path) -> None:
    """Else its client, who is told that it failed, leaves two of them."""

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)

            async def fails(record: UploadRecord) -> None:
                assert content(tmp_path) == {"f.bin": b"abc"}
                raise SessionsUnavailable("no room for the database")

            sessions: Any = uploads._sessions
            create, sessions.create = sessions.create, fails
            with pytest.raises(SessionsUnavailable):
                await uploads.create_with(wish(3), FIRST, Here(b"abc"))
            sessions.create = create
            assert await sessions.count() == 0

    asyncio.run(main())
    assert content(tmp_path) == {}
