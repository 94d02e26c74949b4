"""`forebay.Body`: in memory or in a file, gone at the end unless moved; driven over ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from forebay import Conflict, Forebay, MiB, Progress, ProgressFeed
from forebay.errors import IncompleteBody, InvalidName, InvalidRequest, NameTaken, TooLarge


def scope_for(length: int | None) -> dict[str, Any]:
    headers = [(b"host", b"localhost")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    else:
        headers.append((b"transfer-encoding", b"chunked"))
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "headers": headers,
    }


def messages(*pieces: bytes, cut: bool = False) -> Callable[[], Awaitable[dict[str, Any]]]:
    """An ASGI `receive` that hands over `pieces`, then ends, or breaks off."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if left:
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left) or cut}
        return {"type": "http.disconnect"}

    return receive


@pytest.fixture
def uploads(tmp_path: Path) -> AsyncIterator[Forebay]:
    made = Forebay(
        tmp_path / "data", memory_threshold=64 * 1024, memory_budget=100 * 1024, min_free=0
    )
    yield made
    made.close()


def descriptors() -> int:
    """Without that of the sweep, which goes on behind a start."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found += not os.readlink(f"/proc/self/fd/{number}").endswith("jobs.lock")
    return found


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (0, "memory"),
        (1, "memory"),
        (64 * 1024, "memory"),
        (64 * 1024 + 1, "file"),
        (3 * MiB, "file"),
    ],
)
def test_the_size_chooses_where_a_body_is(uploads: Forebay, size: int, kind: str, announced: bool):
    content = os.urandom(size)

    async def main() -> None:
        pieces = [content[i : i + 50_000] for i in range(0, size, 50_000)] or [b""]
        scope = scope_for(size if announced else None)
        async with uploads.body(scope, messages(*pieces)) as body:
            assert (body.kind, body.size) == (kind, size)
            assert await body.read() == content
            assert await body.read() == content
            reader = await asyncio.to_thread(body.open)
            with reader:
                assert reader.read() == content
            if size:
                with body.mmap() as mapped:
                    assert mapped[:] == content

    asyncio.run(main())
    assert uploads.engine.context.budget.used == 0


def test_a_body_is_gone_when_its_block_ends(uploads: Forebay):
    async def main() -> None:
        await asyncio.to_thread(int)  # the threads' own descriptors, before counting
        async with uploads.body(scope_for(1), messages(b"x")):
            pass
        before = descriptors()
        async with uploads.body(scope_for(200_000), messages(b"x" * 200_000)) as body:
            assert descriptors() > before
        assert descriptors() == before
        with pytest.raises(InvalidRequest):
            body.open()
        with pytest.raises(ZeroDivisionError):
            async with uploads.body(scope_for(200_000), messages(b"x" * 200_000)):
                raise ZeroDivisionError
        assert descriptors() == before

    asyncio.run(main())
    assert uploads.engine.context.budget.used == 0
    assert [p for p in Path(uploads.settings.dir).iterdir() if p.name != ".forebay"] == []


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_moved_body_stays(uploads: Forebay, size: int):
    content = os.urandom(size)

    async def main() -> None:
        async with uploads.body(scope_for(size), messages(content)) as body:
            stored = await body.move_to("a/b.bin")
            assert stored.file.size == size
            with pytest.raises(InvalidRequest):
                await body.move_to("again")
        async with uploads.body(scope_for(size), messages(content)) as body:
            with pytest.raises(NameTaken):
                await body.move_to("a/b.bin")
            stored = await body.move_to("a/b.bin", conflict=Conflict.RENAME)
            assert stored.file.name == "a/b (1).bin"

    asyncio.run(main())
    root = Path(uploads.settings.dir)
    assert (root / "a/b.bin").read_bytes() == content
    assert (root / "a/b (1).bin").read_bytes() == content


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", ".hidden", "a/.forebay/b", ""])
def test_a_hostile_destination_is_refused_and_the_body_stays(uploads: Forebay, name: str):
    async def main() -> None:
        async with uploads.body(scope_for(3), messages(b"abc")) as body:
            with pytest.raises(InvalidName):
                await body.move_to(name)
            assert await body.read() == b"abc"

    asyncio.run(main())


def test_bodies_in_memory_share_one_budget(uploads: Forebay):
    """Two of 60 KiB do not fit in 100 KiB: the second is on the disk."""

    async def main() -> None:
        content = b"x" * 60 * 1024
        async with uploads.body(scope_for(len(content)), messages(content)) as first:
            assert first.kind == "memory"
            async with uploads.body(scope_for(len(content)), messages(content)) as second:
                assert second.kind == "file"
                assert await second.read() == content
        async with uploads.body(scope_for(len(content)), messages(content)) as third:
            assert third.kind == "memory"

    asyncio.run(main())
    assert uploads.engine.context.budget.used == 0


def test_no_limit_unless_asked_for(uploads: Forebay):
    async def main() -> None:
        with pytest.raises(TooLarge):
            async with uploads.body(scope_for(11), messages(b"x" * 11), max_size=10):
                pass
        with pytest.raises(TooLarge):
            async with uploads.body(scope_for(None), messages(b"x" * 6, b"x" * 5), max_size=10):
                pass
        async with uploads.body(scope_for(None), messages(b"x" * 6, b"x" * 4), max_size=10) as body:
            assert body.size == 10

    asyncio.run(main())


def test_a_body_that_breaks_off_leaves_nothing(uploads: Forebay):
    async def main() -> None:
        for length in (200_000, None):
            with pytest.raises(IncompleteBody):
                async with uploads.body(scope_for(length), messages(b"x" * 100_000, cut=True)):
                    pass
        with pytest.raises(IncompleteBody):  # a server that ends a body early
            async with uploads.body(scope_for(5), messages(b"abc")):
                pass

    asyncio.run(main())
    assert uploads.engine.context.budget.used == 0
    assert uploads.engine.context.admission.running == 0


def test_progress_comes_to_callbacks_and_iterators_and_ends_with_the_whole(uploads: Forebay):
    told: list[Progress] = []

    async def main() -> list[Progress]:
        feed = ProgressFeed(total=1_000_000)
        feed.listen(told.append)

        async def follow() -> list[Progress]:
            return [progress async for progress in feed]

        follower = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        pieces = [b"x" * 100_000] * 10
        async with uploads.body(scope_for(1_000_000), messages(*pieces), progress=feed):
            return await follower

    iterated = asyncio.run(main())
    assert iterated[-1].received == told[-1].received == 1_000_000
    assert told[-1].total == 1_000_000
    assert [p.received for p in told] == sorted(p.received for p in told)


def test_a_progress_listener_that_raises_does_not_end_the_upload(
    uploads: Forebay, caplog: pytest.LogCaptureFixture
):
    told: list[Progress] = []

    def fails(progress: Progress) -> None:
        raise ValueError("a bug of the listener")

    async def main() -> int:
        feed = ProgressFeed(total=1_000_000)
        feed.listen(fails)
        feed.listen(told.append)
        pieces = [b"x" * 100_000] * 10
        async with uploads.body(scope_for(1_000_000), messages(*pieces), progress=feed) as body:
            return body.size

    assert asyncio.run(main()) == 1_000_000
    assert told[-1].received == 1_000_000
    assert caplog.text.count("it is not called any more") == 1


class BlockedStore:
    """Stands between a sink and its store and lets nothing through until told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reached = threading.Event()

    def hold(self, write: Callable[..., None]) -> Callable[..., None]:
        def held(data: memoryview, offset: int) -> None:
            self.reached.set()
            self.gate.wait()
            write(data, offset)

        return held


def test_a_blocked_store_stops_the_reading_and_it_goes_on_after(uploads: Forebay, monkeypatch):
    """Backpressure: what is taken from the client while the store is blocked has a bound."""
    from forebay.stores.files.staged import StagedFile

    blocked = BlockedStore()
    original = StagedFile.write
    monkeypatch.setattr(
        StagedFile,
        "write",
        lambda self, data, offset: blocked.hold(original.__get__(self))(data, offset),
    )
    taken = 0
    piece = b"x" * 65536
    total = 64 * MiB

    async def receive() -> dict[str, Any]:
        nonlocal taken
        await asyncio.sleep(0)
        taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": taken < total}

    async def main() -> None:
        async def upload() -> int:
            async with uploads.body(scope_for(total), receive, threshold=0) as body:
                return body.size

        task = asyncio.ensure_future(upload())
        await asyncio.to_thread(blocked.reached.wait)
        for _ in range(5000):  # every chance to read on
            await asyncio.sleep(0)
        assert taken <= 3 * MiB
        blocked.gate.set()
        assert await task == total

    asyncio.run(main())


def test_a_moved_body_is_compressed_at_rest_like_any_other(tmp_path: Path):
    content = b"the same line again and again\n" * 20_000

    async def main() -> None:
        uploads = Forebay(tmp_path / "s", compress_at_rest="zstd")
        try:
            async with uploads.body(scope_for(len(content)), messages(content)) as body:
                stored = await body.move_to("a/b.txt")
            assert stored.file.size == len(content)
            assert stored.file.stored_size == (tmp_path / "s/a/b.txt").stat().st_size
            assert stored.file.stored_size < len(content) / 4
            request, receive = scope_for(len(content)), messages(content)
            async with uploads.received(request, receive, to="a/c.txt") as upload:
                assert upload.size == len(content)
                assert (tmp_path / "s/a/c.txt").stat().st_size < len(content) / 4
                assert await upload.read() == content  # whatever lies at its path
        finally:
            await asyncio.to_thread(uploads.close)

    asyncio.run(main())
