"""The store of a folder that is served, and its locks, by a server or within an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.locks.base import Locks
from forebay.locks.files import FileLocks
from forebay.protocol.names import numbered
from forebay.stores.compressed.choice import packs
from forebay.stores.files.store import FileStore

if TYPE_CHECKING:
    from forebay.config import Settings


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
