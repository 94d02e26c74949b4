"""A folder that an earlier version served is taken over: nothing acknowledged in it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.folder_of_0_1_0 import (
    DATA,
    DONE,
    FAILED,
    FINAL,
    IETF,
    PART,
    PENDING,
    PUBLISHED,
    UNFINISHED,
    UNPUBLISHED,
    WHOLE,
    make,
)
from engine.running import at, body
from forebay.backends import make_locks, make_sessions, make_store, opened
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.maintenance.background import Background
from forebay.engine.maintenance.operator import list_uploads, sweep_once
from forebay.engine.uploads.service import UploadService
from forebay.errors import ConfigError, Gone
from forebay.hooks.base import Completion
from forebay.model import AppendUpload, Conflict, Durability, UploadState
from forebay.protocol.names import numbered
from forebay.stores.base import Publication
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.store import CompressedStore
from forebay.stores.files.store import FileStore


class Served:
    """A server that has started on a folder, with a callback."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.called: list[tuple[str, str]] = []
        engine.hooks.completers.append(self._call)  # type: ignore[attr-defined]

    def _call(self, completion: Completion) -> None:
        self.called.append((completion.id, completion.stored.file.name))

    @property
    def uploads(self) -> UploadService:
        return self._engine.uploads


@contextlib.asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    store = make_store(settings)
    engine = Engine(settings, store, locks=make_locks(store))
    server = Served(engine)
    background = Background(engine.context, engine.state, lambda: make_sessions(settings, store))
    await background.start(state=True)
    try:
        yield server
    finally:
        await background.stop()
        await engine.close_uploads()
        engine.close()
        store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make(tmp_path)
    return Settings(dir=str(tmp_path), durability=Durability.RELAXED, min_free=0)


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def staged(folder: Path) -> set[str]:
    return {path.name for path in (folder / ".forebay" / "uploads").iterdir()}


def test_what_a_kill_left_is_recovered_at_the_start(tmp_path: Path, settings: Settings) -> None:
    async def main() -> None:
        async with served(settings) as server:
            assert (await server.uploads.offset(PUBLISHED)).state is UploadState.COMPLETE
            assert (tmp_path / "published.bin").read_bytes() == DATA
            await until(lambda: len(server.called) >= 2 and WHOLE not in staged(tmp_path))
            assert sorted(server.called) == [(PENDING, "pending.bin"), (WHOLE, "whole.bin")]
            assert (await server.uploads.offset(UNPUBLISHED)).state is UploadState.COMPLETE
            assert (tmp_path / "unpublished.bin").read_bytes() == DATA
            assert not {PUBLISHED, UNPUBLISHED, WHOLE} & staged(tmp_path)
            names = sorted(path.name for path in tmp_path.glob("*.bin"))
            assert names == [
                f"{n}.bin" for n in ("done", "pending", "published", "unpublished", "whole")
            ]

    asyncio.run(main())


def test_a_compressed_file_is_known_by_its_mark(tmp_path: Path, settings: Settings) -> None:
    """Its data is another file than the staged one."""
    published = tmp_path / "published.bin"
    published.unlink()
    try:
        compress(tmp_path, published.name)
        value = f"1 {len(DATA)} {published.stat().st_size} {PUBLISHED}"
        os.setxattr(published, ATTRIBUTE, value.encode())
    except (OSError, ConfigError) as error:
        pytest.skip(f"no extended attributes here: {error}")

    async def main() -> None:
        async with served(settings) as server:
            record = await server.uploads.offset(PUBLISHED)
            assert (record.state, record.final_size) == (UploadState.COMPLETE, len(DATA))
            assert PUBLISHED not in staged(tmp_path)
            assert not list(tmp_path.glob("published (1)*"))

    asyncio.run(main())


def compress(folder: Path, name: str) -> None:
    files = FileStore(str(folder), numbered=numbered, attribute=ATTRIBUTE)
    store = CompressedStore(files, lambda _: True)
    data = store.stage()
    data.write(memoryview(DATA), 0)
    while not data.prepare(name):
        pass
    data.publish(Publication(name, Conflict.REFUSE))
    store.close()


def test_unfinished_uploads_go_on_where_they_were(tmp_path: Path, settings: Settings) -> None:
    async def main() -> None:
        async with served(settings) as server:
            uploads = server.uploads
            record = await uploads.offset(UNFINISHED)
            assert (record.offset, record.length, record.media_type) == (4000, 10_240, "text/plain")
            assert record.metadata == b"filename YS5iaW4="
            assert (await uploads.append(at(UNFINISHED, 4000), body(DATA[4000:]))).complete
            assert (tmp_path / "a.bin").read_bytes() == DATA
            assert (await uploads.offset(IETF)).offset == 1000
            last = AppendUpload(IETF, "ietf", 1000, completes=True)
            done = (await uploads.append(last, body(DATA[1000:]))).stored
            assert done is not None
            assert [digest.algorithm for digest in done.digests] == ["sha-256"]
            assert (tmp_path / "ietf.bin").read_bytes() == DATA

    asyncio.run(main())


def test_recorded_digests_and_preconditions_still_hold(tmp_path: Path, settings: Settings) -> None:
    async def main() -> None:
        async with served(settings) as server:
            (tmp_path / "ietf.bin").write_bytes(b"somebody's")
            last = AppendUpload(IETF, "ietf", 1000, completes=True)
            with pytest.raises(Exception) as refused:
                await server.uploads.append(last, body(DATA[1000:]))
            assert refused.value.code in ("FB_NAME_TAKEN", "FB_PRECONDITION_FAILED")  # type: ignore[attr-defined]
            assert (tmp_path / "ietf.bin").read_bytes() == b"somebody's"

    asyncio.run(main())


def test_a_final_upload_is_made_once_its_last_part_is_whole(
    tmp_path: Path, settings: Settings
) -> None:
    async def main() -> None:
        async with served(settings) as server:
            await server.uploads.append(at(PART, 100), body(DATA[100:5000]))
            await until((tmp_path / "final.bin").exists)
            assert (tmp_path / "final.bin").read_bytes() == DATA[:10_000] + DATA[:5000]
            assert (await server.uploads.offset(FINAL)).state is UploadState.COMPLETE

    asyncio.run(main())


def test_what_has_ended_is_still_known(settings: Settings) -> None:
    async def main() -> None:
        async with served(settings) as server:
            again = await server.uploads.append(at(DONE, len(DATA)), body(b""))
            assert again.complete
            assert again.stored is not None
            assert again.stored.file.name == "done.bin"
            with pytest.raises(Gone, match="digest"):
                await server.uploads.offset(FAILED)

    asyncio.run(main())


def test_a_sweep_and_an_operator_know_it_too(tmp_path: Path, settings: Settings) -> None:
    async def main() -> None:
        async with opened(settings) as b:
            found = {r.id: r.state async for r in list_uploads(b.sessions)}
            assert len(found) == 12
            swept = await sweep_once(settings, b.store, b.locks, b.sessions)
            assert swept.repaired == 2
            assert (swept.expired, swept.dropped) == (0, 0)
            assert {UNFINISHED, IETF, UNPUBLISHED, FINAL, PART} <= staged(tmp_path)

    asyncio.run(main())
