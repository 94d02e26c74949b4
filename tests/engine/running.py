"""An engine with resumable uploads, and bodies that come when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from engine.completion import PACKED
from forebay.backends import FolderStore, make_locks, make_sessions
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.uploads.service import UploadService
from forebay.http.asgi_source import ReceiveSource
from forebay.model import AppendUpload, Conflict, CreateUpload
from forebay.protocol.names import numbered
from forebay.sessions.memory import MemorySessions
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.files.store import FileStore
from kinds import StoredFolder, backing_of


@contextlib.asynccontextmanager
async def running(
    folder: Path | StoredFolder, *, sqlite: bool = True, **settings: Any
) -> AsyncIterator[Engine]:
    """On files, or what `folder` stands for; once more finds what was there before."""
    made = Settings(dir=str(folder), min_free=0, **settings)
    store: Any
    backing = backing_of(folder)
    if backing is not None:
        store = backing.store()
        engine = Engine(made, store)
        await engine.open_uploads(backing.shared())
    else:
        packs = (lambda name: True) if PACKED in os.environ else None
        files = FileStore(
            made.dir, durability=made.durability, numbered=numbered, attribute=ATTRIBUTE
        )
        store = FolderStore(files, packs)
        engine = Engine(made, store, locks=make_locks(store))
        await engine.open_uploads(make_sessions(made, store) if sqlite else MemorySessions())
    try:
        yield engine
    finally:
        await engine.close_uploads()
        engine.close()
        store.close()


def resumables(engine: Engine) -> UploadService:
    return engine.uploads


class Wire:
    """The client's side of one request's body."""

    def __init__(self, length: int | None = None) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.source = ReceiveSource(self._messages.get, length)

    def send(self, data: bytes, *, last: bool = False) -> None:
        self._messages.put_nowait({"type": "http.request", "body": data, "more_body": not last})

    def cut(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})


def body(data: bytes) -> ReceiveSource:
    wire = Wire(len(data))
    wire.send(data, last=True)
    return wire.source


def wish(length: int | None = None, name: str = "f.bin", **more: Any) -> CreateUpload:
    return CreateUpload("tus", name, Conflict.RENAME, length, **more)


def at(upload_id: str, offset: int, **more: Any) -> AppendUpload:
    return AppendUpload(upload_id, "tus", offset, **more)
