"""A file on its way: unnamed (`O_TMPFILE`), or named under the store's own folder."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from forebay.errors import DiskFull, OffsetMismatch, StorageError, SyncFailed, from_os_error
from forebay.model import MiB
from forebay.stores.base import Publication, Published
from forebay.stores.folders import sync
from forebay.stores.syscalls import reserve_blocks, start_writeback

if TYPE_CHECKING:
    from forebay.stores.files import FileStore

_WRITEBACK = 8 * MiB


class StagedFile:
    """See `forebay.stores.base.Staged`. `path` is None while the file has no name at all."""

    __slots__ = (
        "_dead",
        "_published",
        "_store",
        "_written_back",
        "fd",
        "folder_fd",
        "offset",
        "path",
    )

    def __init__(
        self, store: FileStore, fd: int, *, path: str | None, folder_fd: int, offset: int = 0
    ) -> None:
        self._store = store
        self.fd = fd
        self.path = path
        self.folder_fd = folder_fd
        self.offset = offset
        self._written_back = offset
        self._dead = False
        self._published = False

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        size = len(data)
        try:
            done = os.pwrite(self.fd, data, offset)
            while done < size:
                wrote = os.pwrite(self.fd, data[done:], offset + done)
                if wrote == 0:
                    raise OSError(errno.EIO, "pwrite wrote nothing")
                done += wrote
        except OSError as error:
            raise from_os_error(error) from error
        self.offset = offset + size
        # Under strict the disk starts early, so that the sync at the end is short.
        if self._store.strict and self.offset - self._written_back >= _WRITEBACK:
            start_writeback(self.fd, self._written_back, self.offset - self._written_back)
            self._written_back = self.offset

    def reserve(self, size: int) -> None:
        """Raises DiskFull also when the reservation would leave less than `min_free`."""
        try:
            reserved = reserve_blocks(self.fd, size)
        except OSError as error:
            raise from_os_error(error) from error
        # Asked after the blocks are ours, so that ten at once cannot all be promised them.
        wanted = 0 if reserved else max(0, size - self.offset)
        if self._store.space().free - wanted < self._store.min_free:
            self._release()
            raise DiskFull(free=self._store.space().free)

    def _release(self) -> None:
        """Gives back blocks beyond `offset` that were reserved but not written."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, self.offset)

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise from_os_error(error) from error
        self.offset = size
        self._written_back = min(self._written_back, size)

    def commit(self) -> int:
        if self._dead:
            raise SyncFailed
        if self._store.strict:
            try:
                os.fdatasync(self.fd)
            except OSError as error:
                self._dead = True
                raise SyncFailed(errno=error.errno) from error
        return self.offset

    def open_read(self) -> int:
        try:
            if self.path is not None:
                return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder_fd)
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error) from error

    def publish(self, how: Publication) -> Published:
        if self._dead:
            raise SyncFailed
        try:
            if self._store.strict:
                sync(self.fd)
            published = self._store.publisher.publish(self, how)
        except SyncFailed:
            self._dead = True
            raise
        except OSError as error:
            raise from_os_error(error) from error
        self._published = True
        self.close()
        return published

    def discard(self) -> None:
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path, dir_fd=self.folder_fd)
            self.path = None
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self.path is not None and not self._published:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, self.offset)  # frees what was reserved beyond it
            os.close(fd)

    def __del__(self) -> None:
        # A safety net only: the engine closes what it opened.
        with contextlib.suppress(OSError, StorageError):
            self.close()
