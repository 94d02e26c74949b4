"""Resumable uploads at the engine: cut, resumed, taken over, completed, refused."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from engine.running import Wire, at, body, resumables, running, wish
from forebay.errors import (
    Gone,
    IncompleteBody,
    InconsistentLength,
    Interrupted,
    NotFound,
    OffsetMismatch,
    TooLarge,
    VerificationRefused,
    WrongState,
)
from forebay.http.asgi_source import ReceiveSource
from forebay.model import AppendUpload, Conflict, CreateUpload, Digest, UploadState


def leftovers(folder: Path) -> list[Path]:
    return list((folder / ".forebay/uploads").iterdir())


def test_an_upload_that_is_cut_goes_on_where_it_was(tmp_path):
    content = os.urandom(300_000)

    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(len(content)))
            wire = Wire(len(content))
            wire.send(content[:100_000])
            wire.cut()
            with pytest.raises(IncompleteBody):
                await uploads.append(at(record.id, 0), wire.source)
            assert (await uploads.offset(record.id)).offset == 100_000
        async with running(tmp_path) as engine:  # a restart
            uploads = resumables(engine)
            assert (await uploads.offset(record.id)).offset == 100_000
            with pytest.raises(OffsetMismatch) as error:
                await uploads.append(at(record.id, 99_999), body(b"x"))
            assert error.value.detail["expected"] == 100_000
            standing = await uploads.append(at(record.id, 100_000), body(content[100_000:]))
            assert standing.complete
            assert (await uploads.offset(record.id)).offset == len(content)
            again = await uploads.append(at(record.id, len(content)), body(b""))
            assert again.replayed
            with pytest.raises(WrongState):
                await uploads.append(at(record.id, len(content)), body(b"x"))

    asyncio.run(main())
    assert (tmp_path / "f.bin").read_bytes() == content
    assert leftovers(tmp_path) == []


def test_a_question_ends_a_running_append_and_is_told_what_was_committed(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(1000))
            wire = Wire(1000)
            wire.send(b"x" * 400)
            running_append = asyncio.ensure_future(uploads.append(at(record.id, 0), wire.source))
            while not uploads.accesses.locks._held:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert (await uploads.peek(record.id)).state is UploadState.OPEN
            assert not running_append.done()
            told = await uploads.offset(record.id)
            with pytest.raises(Interrupted):
                await running_append
            assert told.offset == 400
            assert (await uploads.append(at(record.id, 400), body(b"y" * 600))).complete

    asyncio.run(main())
    assert (tmp_path / "f.bin").read_bytes() == b"x" * 400 + b"y" * 600


def test_bytes_under_a_digest_are_forgotten_unless_they_were_verified(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(10))
            wrong = (Digest("sha1", b"\0" * 20),)
            from forebay.errors import DigestMismatch

            with pytest.raises(DigestMismatch):
                await uploads.append(at(record.id, 0, expected=wrong), body(b"x" * 5))
            assert (await uploads.offset(record.id)).offset == 0
            wire = Wire(5)
            wire.send(b"abc")
            wire.cut()
            with pytest.raises(IncompleteBody):
                await uploads.append(at(record.id, 0, expected=wrong), wire.source)
            assert (await uploads.offset(record.id)).offset == 0

    asyncio.run(main())


def test_limits_hold_for_every_way_of_telling_a_length(tmp_path):
    async def main() -> None:
        async with running(tmp_path, max_size=100) as engine:
            uploads = resumables(engine)
            with pytest.raises(TooLarge):
                await uploads.create(wish(101))
            record = await uploads.create(wish(None))
            with pytest.raises(TooLarge):
                await uploads.append(at(record.id, 0), body(b"x" * 101))
            with pytest.raises(TooLarge):
                await uploads.append(at(record.id, 0, length=101), body(b""))
            wire = Wire(None)
            wire.send(b"x" * 101, last=True)
            with pytest.raises(TooLarge):
                await uploads.append(at(record.id, 0), wire.source)
            assert (await uploads.offset(record.id)).offset == 100
            with pytest.raises(InconsistentLength):
                await uploads.append(at(record.id, 100, length=99), body(b""))
            assert (await uploads.append(at(record.id, 100, length=100), body(b""))).complete

    asyncio.run(main())
    assert (tmp_path / "f.bin").stat().st_size == 100


class Arrived(ReceiveSource):
    """A body of which something is here, so that room for it is asked for with its first bytes."""

    arrived = True


@pytest.mark.parametrize("most", [None, 8 << 20], ids=["", "max-append-size"])
def test_what_the_filesystem_cannot_hold_does_not_end_an_upload(tmp_path, most):
    """Bug: it was taken for more bytes than were announced, or than one request may bring."""

    async def main() -> None:
        async with running(tmp_path, max_append_size=most) as engine:
            uploads = resumables(engine)
            record = await uploads.create(CreateUpload("ietf", "f.bin", Conflict.RENAME, 4 << 20))
            wire = Wire(4 << 20)
            wire.send(b"x" * (4 << 20), last=True)
            wire.source.__class__ = Arrived
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
            try:
                with pytest.raises(TooLarge, match="filesystem cannot hold") as refused:
                    await uploads.append(
                        AppendUpload(record.id, "ietf", 0, completes=True), wire.source
                    )
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert not refused.value.detail
            assert (await uploads.offset(record.id)).offset == 0
            last = AppendUpload(record.id, "ietf", 0, completes=True)
            assert (await uploads.append(last, body(b"x" * (4 << 20)))).complete

    asyncio.run(main())
    assert (tmp_path / "f.bin").stat().st_size == 4 << 20


def test_a_refused_file_ends_its_upload_and_whoever_comes_back_is_told(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)

            def no(candidate: object) -> None:
                raise VerificationRefused("That is a virus.")

            engine.hooks.verifiers.append(no)  # type: ignore[attr-defined]
            record = await uploads.create(wish(3))
            with pytest.raises(VerificationRefused):
                await uploads.append(at(record.id, 0), body(b"abc"))
            with pytest.raises(Gone, match="virus"):
                await uploads.offset(record.id)
            assert (await uploads.peek(record.id)).state is UploadState.FAILED

    asyncio.run(main())
    assert not (tmp_path / "f.bin").exists()
    assert leftovers(tmp_path) == []


def test_a_cancelled_upload_is_gone_with_its_data(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(3))
            await uploads.append(at(record.id, 0), body(b"ab"))
            await uploads.cancel(record.id)
            for ask in (uploads.offset, uploads.peek, uploads.cancel):
                with pytest.raises(NotFound):
                    await ask(record.id)

    asyncio.run(main())
    assert leftovers(tmp_path) == []


def test_data_that_was_lost_is_never_offered(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(10))
            await uploads.append(at(record.id, 0), body(b"abcde"))
            os.truncate(tmp_path / ".forebay/uploads" / record.id, 4)
            for _ in range(2):
                with pytest.raises(Gone):
                    await uploads.offset(record.id)

    asyncio.run(main())


def test_two_appends_at_once_write_once(tmp_path):
    async def main() -> None:
        async with running(tmp_path) as engine:
            uploads = resumables(engine)
            record = await uploads.create(wish(50_000))
            appends = [
                uploads.append(at(record.id, 0), body(bytes([n]) * 50_000)) for n in range(8)
            ]
            done = await asyncio.gather(*appends, return_exceptions=True)
            winners = [n for n, result in enumerate(done) if not isinstance(result, Exception)]
            assert len([n for n in winners if not done[n].replayed]) <= 1, done
            record = await uploads.offset(record.id)
            if record.state is not UploadState.COMPLETE:
                rest = body(b"z" * (50_000 - record.offset))
                await uploads.append(at(record.id, record.offset), rest)

    asyncio.run(main())
    content = (tmp_path / "f.bin").read_bytes()
    assert len(content) == 50_000
