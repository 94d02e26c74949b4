"""Opens what is behind an engine, from settings: store, locks, and the state of uploads.

The only place that knows which backends there are; everything else works with their ports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from forebay.locks.base import Locks
from forebay.locks.files import FileLocks
from forebay.protocol.names import numbered
from forebay.stores.compressed.choice import packs
from forebay.stores.files.destinations import check_folder
from forebay.stores.files.layout import OWN_FOLDER
from forebay.stores.files.store import FileStore

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.sessions.base import Sessions

__all__ = [
    "Backends",
    "check_folder",
    "has_state",
    "make_locks",
    "make_sessions",
    "make_store",
    "opened",
]


def make_store(settings: Settings) -> FileStore:
    """Makes the folder when it is missing. Raises StorageError, ConfigError."""
    return FileStore(
        settings.dir,
        durability=settings.durability,
        min_free=settings.min_free,
        file_mode=settings.file_mode,
        folder_mode=settings.folder_mode,
        numbered=numbered,
        packs=packs(settings),
    )


def make_locks(store: FileStore) -> Locks:
    """Shared by all processes that serve the folder of `store`."""
    return FileLocks(lambda: store.own_fd)


def make_sessions(settings: Settings, store: FileStore) -> Sessions:
    """The session store of a served folder, not open yet."""
    from forebay.sessions.sqlite.sessions import SqliteSessions

    folder = os.path.join(store.root, OWN_FOLDER)
    return SqliteSessions(_database(store), settings.durability, folder)


def has_state(store: FileStore) -> bool:
    """Whether this folder ever had resumable uploads. May wait for the disk."""
    return os.path.exists(_database(store)) or any(True for _ in store.remains())


def _database(store: FileStore) -> str:
    return os.path.join(store.root, OWN_FOLDER, "state.db")


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """What a command works with. `sessions`: open; None for a folder without upload state."""

    store: FileStore
    locks: Locks
    sessions: Sessions | None


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Backends]:
    """For a command, also beside a server of the same folder. It publishes no files.

    Raises StorageError.
    """
    store = FileStore(settings.dir, durability=settings.durability, numbered=numbered)
    sessions = None
    try:
        if has_state(store):
            sessions = make_sessions(settings, store)
            await sessions.open()
        yield Backends(store, make_locks(store), sessions)
    finally:
        if sessions is not None:
            await sessions.close()
        store.close()
