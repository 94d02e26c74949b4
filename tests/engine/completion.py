"""One completion on a real store and real sessions, with a place to stop or to look in between.

As a program it is a process that dies: `python -m engine.completion FOLDER ID POINT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.crashes import Point, Watched, crash_at
from engine.notifications import call_all
from forebay.backends import FolderStore, make_locks
from forebay.engine.files.remove import Removal
from forebay.engine.maintenance.sweep import Sweeper, Swept
from forebay.engine.outbox.notifier import Notifier
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.accesses import Accesses
from forebay.engine.uploads.finish import Finisher
from forebay.hooks.base import Completion as Completed
from forebay.hooks.python import PythonHooks
from forebay.model import Conflict, Durability, UploadRecord, UploadState
from forebay.protocol.names import numbered
from forebay.sessions.sqlite.sessions import SqliteSessions
from forebay.stores.base import Publication, Published, Staged
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.seekable import zstd
from forebay.stores.files.layout import OWN_FOLDER
from forebay.stores.files.store import FileStore
from stores.samples import begin

PACKED = "FOREBAY_TEST_PACKED"
"""With this in the environment, files are compressed at rest."""


def content_of(path: Path) -> bytes:
    """Of a published file; compressed ones are decoded by the library alone."""
    if ATTRIBUTE not in os.listxattr(path):
        return path.read_bytes()
    content: bytes = zstd().decompress(path.read_bytes())
    return content


class _WatchedStore:
    """A store whose staged data passes `point` when it is published or discarded."""

    def __init__(self, store: FileStore, point: Point) -> None:
        self._store = store
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, upload_id: str) -> Any:
        return Watched(self._store.claim(upload_id), self._point, ("publish", "discard"))


class Place:
    """A store and its sessions in one folder, as a server has them."""

    def __init__(self, folder: Path, durability: Durability = Durability.RELAXED) -> None:
        self.folder = folder
        packs = (lambda name: True) if PACKED in os.environ else None
        files = FileStore(
            str(folder), durability=durability, numbered=numbered, attribute=ATTRIBUTE
        )
        self.store = FolderStore(files, packs)
        own = folder / OWN_FOLDER
        self.sessions = SqliteSessions(str(own / "state.db"), durability, str(own))
        self.workers = Workers(2, 64 << 10)
        self.locks = make_locks(self.store)

    async def create(
        self,
        upload_id: str,
        body: bytes,
        *,
        name: str = "a.bin",
        conflict: Conflict = Conflict.RENAME,
        expires_at: float | None = None,
        state: UploadState = UploadState.OPEN,
    ) -> UploadRecord:
        """An upload with all its bytes, held by nobody."""
        staged = begin(self.store, upload_id)
        staged.write(memoryview(body), 0)
        staged.commit(flush=True)
        record = UploadRecord(
            id=upload_id,
            principal="",
            dialect="tus",
            state=state,
            offset=len(body),
            length=len(body),
            name=name,
            created_at=time.time(),
            expires_at=expires_at,
            conflict=conflict,
        )
        await self.sessions.create(record)
        staged.close()
        return record

    async def complete(self, upload_id: str, point: Point | None = None) -> UploadRecord:
        """As a server would after a restart: recover, and complete what was not published."""
        watch: Point = point or (lambda _: None)
        async with self.accesses(watch).open_idle(upload_id) as access:
            if access.record.state is not UploadState.COMPLETE:
                await self.finisher().finish(access)
            record = access.record
        await self.notifier(watch).notify_if_new(record)
        return record

    def accesses(self, point: Point = lambda _: None) -> Accesses:
        store: Any = _WatchedStore(self.store, point)
        sessions: Any = Watched(self.sessions, point, ("update",))
        return Accesses(store, sessions, self.workers)

    def finisher(self) -> Finisher:
        hooks = PythonHooks()
        hooks.completers.append(lambda _: None)
        engine: Any = SimpleNamespace(store=self.store, workers=self.workers, hooks=hooks)
        return Finisher(engine, Removal(engine))

    def notifier(self, point: Point = lambda _: None) -> Notifier:
        hooks = PythonHooks()
        hooks.completers.append(Watched(self, point, ("tell",)).tell)
        engine: Any = SimpleNamespace(
            store=self.store, workers=self.workers, hooks=hooks, locks=self.locks
        )
        return Notifier(engine, Watched(self.sessions, point, ("update",)))

    def tell(self, completion: Completed) -> None:
        """Writes down, beyond the life of this process, that the callback was called."""
        with open(self.folder / OWN_FOLDER / "told", "a") as told:
            told.write(f"{completion.id} {completion.stored.file.name}\n")

    def told(self) -> list[str]:
        path = self.folder / OWN_FOLDER / "told"
        return path.read_text().splitlines() if path.exists() else []

    async def sweep(self, now: float | None = None, *, tells: bool = True) -> Swept:
        swept = await Sweeper(self.store, self.sessions, self.workers, self.locks).run(
            now or time.time()
        )
        if tells:
            await call_all(self.notifier())
        return swept

    def published(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): content_of(path)
            for path in self.folder.rglob("*")
            if path.is_file() and OWN_FOLDER not in path.parts
        }

    def staged_ids(self) -> set[str]:
        return set(self.store.remains())


@contextlib.asynccontextmanager
async def opened(folder: Path, durability: Durability = Durability.RELAXED) -> AsyncIterator[Place]:
    place = Place(folder, durability)
    await place.sessions.open()
    try:
        yield place
    finally:
        await place.sessions.close()
        place.workers.close()
        place.store.close()


class WatchedStaged:
    """A staged upload that lets somebody look at each try to publish."""

    def __init__(self, inner: Staged, look: Callable[[Publication], None]) -> None:
        self._inner = inner
        self._look = look

    def publish(self, how: Publication) -> Published:
        self._look(how)
        return self._inner.publish(how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a coroutine function a test."""

    @functools.wraps(test)
    def run(*args: Any, **more: Any) -> None:
        asyncio.run(test(*args, **more))

    return run


async def die_at(folder: Path, upload_id: str, wanted: int) -> None:
    """Completes the upload, but ends this process at the point number `wanted`."""
    async with opened(folder) as place:
        await place.complete(upload_id, crash_at(wanted))


if __name__ == "__main__":
    asyncio.run(die_at(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
