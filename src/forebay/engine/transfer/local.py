"""Data whose final name is not known yet, for stores that have to know it first.

It is in an unlinked local temporary file, and copied into the store when it is published.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile

from forebay.errors import DiskFull, NameTaken, OffsetMismatch, StorageFailed, from_os_error
from forebay.model import Commit, Conflict, FileInfo, Lease, MiB
from forebay.stores.base import (
    ALWAYS_ROOM,
    Publication,
    Published,
    Reader,
    Staged,
    Store,
)
from forebay.stores.reading import DescriptorReader
from forebay.stores.staged import AlwaysRoom, append_read

_TURN = 16 * MiB
"""Bytes that a turn of `LocalStaged.prepare` copies."""


def stage(store: Store, how: Publication | None = None, size: int | None = None) -> Staged:
    """In a thread: data of one request. `how` and `size` are None when they are not known.

    A name that is still to be chosen is not known: see `Staging.binds_names`. Raises StorageError.
    """
    known = how is not None and how.conflict is not Conflict.RENAME
    if store.binds_names and not known:
        return LocalStaged(store)
    staged = store.stage(how, size)
    if how is None and staged.room() < ALWAYS_ROOM:
        staged.discard()
        return LocalStaged(store)
    return staged


class LocalStaged(AlwaysRoom):
    """A `forebay.stores.base.Staged`, which is used as those are. Raises StorageError."""

    dead = False
    commit_waits = False
    prepare_waits = True

    def __init__(self, store: Store) -> None:
        self._store = store
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise from_os_error(error) from error
        self._target: Staged | None = None
        self._name = ""
        self._writable = True
        self.offset = 0

    @property
    def identity(self) -> str:
        return "" if self._target is None else self._target.identity

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], offset + done)
        except OSError as error:
            raise from_os_error(error) from error
        self.offset = offset + len(data)

    def append_from(self, source: Reader, start: int, size: int) -> int:
        return append_read(self, source, start, size)

    def _check_writable(self) -> None:
        if not self._writable or self._file.closed:
            raise StorageFailed("The data of this upload cannot be changed any more.")

    def reserve(self, size: int) -> None:
        self._check_writable()
        status = os.fstatvfs(self._file.fileno())
        free = status.f_bavail * status.f_frsize
        if size - self.offset > free:
            raise DiskFull(free=free)

    def rollback(self, offset: int) -> None:
        if not 0 <= offset <= self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        os.ftruncate(self._file.fileno(), offset)
        self.offset = offset

    def commit(self, *, flush: bool) -> Commit:
        return Commit(self.offset)

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        """Nothing waits for it."""

    def seal(self) -> Reader:
        try:
            fd = os.dup(self._file.fileno())
        except OSError as error:
            raise from_os_error(error) from error
        return DescriptorReader(fd, FileInfo("", self.offset, 0, ""))

    def prepare(self, name: str) -> bool:
        """Copies a part of it into the store."""
        if self._target is None or self._name != name:
            self._drop_target()
            self._target = self._store.stage(Publication(name, Conflict.REFUSE), self.offset)
            self._name = name
        left = self.offset - self._target.offset
        turn = min(left, _TURN)
        reader = self.seal()
        try:
            while turn > 0:
                turn -= self._target.append_from(reader, self._target.offset, turn)
        finally:
            reader.close()
        return self._target.offset == self.offset and self._target.prepare(name)

    def publish(self, how: Publication) -> Published:
        if self._file.closed:
            raise StorageFailed("This upload is closed.")
        renames = how.conflict is Conflict.RENAME and self._store.binds_names
        bound = self._renamed(how) if renames and not how.preconditions else how
        while True:
            while not self.prepare(bound.name):
                pass
            assert self._target is not None
            try:
                published = self._target.publish(bound)
                break
            except NameTaken:
                if not renames:
                    raise
                bound = self._renamed(how)
        self._target = None
        self.close()
        return dataclasses.replace(published, renamed=published.file.name != how.name)

    def _renamed(self, how: Publication) -> Publication:
        """With a name that is free now, for a store that cannot choose one itself."""
        return Publication(self._store.free_name(how), Conflict.REFUSE, how.preconditions)

    def end_writing(self) -> None:
        self._writable = False

    def _drop_target(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            target.discard()

    def discard(self) -> None:
        self.close()

    def close(self) -> None:
        self._drop_target()
        self._file.close()
