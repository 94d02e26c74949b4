"""Opens what is behind an engine, from settings: store, locks, and the state of uploads.

The only place that knows which backends there are; everything else works with their ports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from forebay.locks.base import Locks
from forebay.locks.files import FileLocks
from forebay.media_types import matches, media_type_of
from forebay.protocol.names import numbered
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.store import CompressedStore
from forebay.stores.files import destinations
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


class FolderStore(CompressedStore):
    """The store of a served folder: local files, some of them compressed at rest.

    `files`: the local files as they are.
    """

    def __init__(self, files: FileStore, choose: Callable[[str], bool] | None = None) -> None:
        super().__init__(files, choose)
        self.files = files
        self.root = files.root
        self.refresh = files.refresh
        self.read_note = files.read_note
        self.write_note = files.write_note

    @property
    def generation(self) -> int:
        return self.files.generation


def make_store(settings: Settings) -> FolderStore:
    """Makes the folder when it is missing. Raises StorageError, ConfigError."""
    files = FileStore(
        settings.dir,
        durability=settings.durability,
        min_free=settings.min_free,
        file_mode=settings.file_mode,
        folder_mode=settings.folder_mode,
        numbered=numbered,
        attribute=ATTRIBUTE,
    )
    try:
        return FolderStore(files, _chosen(settings))
    except BaseException:
        files.close()
        raise


def _chosen(settings: Settings) -> Callable[[str], bool] | None:
    """Whether a file of that name is to be compressed at rest; None: none is.

    By the media type that its name stands for, which is the one it is given back with; what
    a client says it is does not count.
    """
    if settings.compress_at_rest == "none":
        return None
    types = settings.compress_types
    return lambda name: matches(media_type_of(name), types)


def make_locks(store: FolderStore) -> Locks:
    """Shared by all processes that serve the folder of `store`."""
    return FileLocks(lambda: store.files.own_fd)


def make_sessions(settings: Settings, store: FolderStore) -> Sessions:
    """The session store of a served folder, not open yet."""
    from forebay.sessions.sqlite.sessions import SqliteSessions

    folder = os.path.join(store.root, OWN_FOLDER)
    return SqliteSessions(_database(store), settings.durability, folder)


def has_state(store: FolderStore) -> bool:
    """Whether this folder ever had resumable uploads. May wait for the disk."""
    return os.path.exists(_database(store)) or any(True for _ in store.remains())


def _database(store: FolderStore) -> str:
    return os.path.join(store.root, OWN_FOLDER, "state.db")


def check_folder(store: FolderStore, folder: str) -> None:
    """See `forebay.stores.files.destinations.check_folder`."""
    destinations.check_folder(store.files, folder)


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """What a command works with. `sessions`: open; None for a folder without upload state."""

    store: FolderStore
    locks: Locks
    sessions: Sessions | None


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Backends]:
    """For a command, also beside a server of the same folder. It publishes no files.

    Raises StorageError.
    """
    store = FolderStore(
        FileStore(
            settings.dir, durability=settings.durability, numbered=numbered, attribute=ATTRIBUTE
        )
    )
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
