"""A file on its way: unnamed (`O_TMPFILE`), or named under the store's own folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time

from forebay.errors import (
    OffsetMismatch,
    StorageFailed,
    SyncFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import Commit, FileInfo, Lease, MiB
from forebay.stores.base import Publication, Published, Reader
from forebay.stores.files.flock import try_lock
from forebay.stores.files.folders import close_quietly, sync
from forebay.stores.files.place import Place
from forebay.stores.files.publish import identity_of
from forebay.stores.files.room import Room
from forebay.stores.files.syscalls import copy_range, start_writeback
from forebay.stores.reading import DescriptorReader, read_bytes
from forebay.stores.staged import AlwaysRoom

_WRITEBACK = 8 * MiB


class StagedFile(AlwaysRoom):
    """See `forebay.stores.base.Staged`.

    Args:
        path: its name in `folder_fd`; None while the file has no name at all.
        resumable: the data outlives this object; else it vanishes when closed.
        readonly: opened for reading alone, as our permission to write was taken.
        allocated: bytes on the disk, should a dead process have reserved more than it wrote.
    """

    __slots__ = (
        "_place",
        "_readonly",
        "_resumable",
        "_room",
        "_sealed",
        "_written_back",
        "dead",
        "fd",
        "folder_fd",
        "offset",
        "path",
    )

    prepare_waits = False

    def __init__(
        self,
        place: Place,
        fd: int,
        *,
        path: str | None,
        folder_fd: int,
        offset: int = 0,
        resumable: bool = False,
        readonly: bool = False,
        allocated: int = 0,
    ) -> None:
        self._place = place
        self.fd = fd
        self.path = path
        self.folder_fd = folder_fd
        self.offset = offset
        self._resumable = resumable
        self._sealed = False
        self._readonly = readonly
        self._written_back = offset
        self._room = Room(place, fd, offset, allocated)
        self.dead = False
        """A sync has failed."""

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        size = len(data)
        if offset + size > self._room.held:
            self._room.take(offset, offset + size)
        try:
            done = os.pwrite(self.fd, data, offset)
            while done < size:
                wrote = os.pwrite(self.fd, data[done:], offset + done)
                if wrote == 0:
                    raise OSError(errno.EIO, "pwrite wrote nothing")
                done += wrote
        except OSError as error:
            self._room.went(offset + size)
            self._room.release(self.offset)  # else before publication
            raise from_os_error(error) from error
        self.offset = offset + size
        # Under strict the disk starts early, so that the sync at the end is short.
        if self._place.strict and self.offset - self._written_back >= _WRITEBACK:
            start_writeback(self.fd, self._written_back, self.offset - self._written_back)
            self._written_back = self.offset

    def append_from(self, source: Reader, start: int, size: int) -> int:
        self._check_writable()
        fd = source.fileno()
        if fd is None:
            data = read_bytes(source, start, min(size, MiB))
            if not data:
                raise _ended()
            self.write(memoryview(data), self.offset)
            return len(data)
        if self.offset + size > self._room.held:
            self._room.take(self.offset, self.offset + size)
        try:
            done = copy_range(fd, start, self.fd, self.offset, size)
        except OSError as error:
            self._room.went(self.offset + size)
            self._room.release(self.offset)
            raise from_os_error(error) from error
        if not done:
            raise _ended()
        self._room.went(self.offset + done)
        self.offset += done
        return done

    def _check_writable(self) -> None:
        if self.dead:
            raise SyncFailed
        if self._sealed:
            raise StorageFailed("The data of this upload is whole and cannot be changed any more.")
        if self._readonly:
            self._open_for_writing()

    def end_writing(self) -> None:
        self._sealed = True

    def _open_for_writing(self) -> None:
        """Another program changed the mode of the file; that does not end the upload."""
        assert self.path is not None
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            os.fchmod(self.fd, self._place.staging_mode)
            fd = os.open(self.path, flags, dir_fd=self.folder_fd)
            try:
                if not os.path.samestat(os.fstat(fd), os.fstat(self.fd)):
                    raise OSError(errno.ESTALE, "the data was replaced")
                self._take_over(fd)
            finally:
                close_quietly(fd)
        except OSError as error:
            raise from_os_error(error) from error
        self._readonly = False

    def _take_over(self, fd: int) -> None:
        """From now on the data is that behind `fd`; its lock is ours. Raises OSError."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        if not try_lock(fd):
            raise UploadBusy(retry_after=1)
        # At no moment is the number of our descriptor another file's.
        os.dup2(fd, self.fd, inheritable=False)

    def reserve(self, size: int) -> None:
        self._check_writable()
        self._room.reserve(self.offset, size)

    def rollback(self, offset: int) -> None:
        if not 0 <= offset <= self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        try:
            if self._resumable and os.fstat(self.fd).st_nlink > 1:
                self._detach(offset)
            else:
                os.ftruncate(self.fd, offset)
        except OSError as error:
            raise from_os_error(error) from error
        self.offset = offset
        self._room.cut(offset)
        self._written_back = min(self._written_back, offset)

    def _detach(self, size: int) -> None:
        """Goes on with a copy of the first `size` bytes: the file has another name, of a backup or
        under which it was published just before a power loss, and is not ours to cut.
        """
        assert self.path is not None
        place = self._place
        name = secrets.token_hex(16)
        fd = place.create_locked(name, place.tmp_fd)
        try:
            done = 0
            while done < size:
                copied = copy_range(self.fd, done, fd, done, size - done)
                if not copied:
                    raise OSError(errno.EIO, "the data is shorter than it was")
                done += copied
            if place.strict:
                sync(fd)
            os.rename(name, self.path, src_dir_fd=place.tmp_fd, dst_dir_fd=self.folder_fd)
            os.dup2(fd, self.fd, inheritable=False)
            if place.strict:
                sync(self.folder_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=place.tmp_fd)
            raise
        finally:
            close_quietly(fd)

    @property
    def commit_waits(self) -> bool:
        return self._place.strict

    def commit(self, *, flush: bool) -> Commit:
        if self.dead:
            raise SyncFailed
        offset = self.offset  # first: a write may run beside the sync
        if self._place.strict:
            try:
                if self._resumable and not os.fstat(self.fd).st_nlink:
                    raise StorageFailed("The data of this upload was removed by another program.")
                os.fdatasync(self.fd)
            except OSError as error:
                self.dead = True
                raise SyncFailed(errno=error.errno) from error
        return Commit(offset)

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        """Nothing waits for it: a commit is all there is of it."""

    def seal(self) -> Reader:
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            if self.path is not None:
                fd = os.open(self.path, flags, dir_fd=self.folder_fd)
            else:
                fd = os.open(f"/proc/self/fd/{self.fd}", flags)
        except OSError as error:
            raise from_os_error(error) from error
        return DescriptorReader(fd, FileInfo("", self.offset, 0, ""))

    @property
    def identity(self) -> str:
        try:
            return identity_of(self.fd)
        except OSError as error:
            raise from_os_error(error) from error

    def set_attribute(self, value: bytes) -> None:
        try:
            os.setxattr(self.fd, self._place.attribute, value)
        except OSError as error:
            raise from_os_error(error) from error

    def prepare(self, name: str) -> bool:
        return True

    def publish(self, how: Publication) -> Published:
        if self.dead:
            raise SyncFailed
        if self.fd < 0:
            raise StorageFailed("This upload is closed.")
        try:
            self._make_final()
            published = self._place.publisher.publish(self, how)
        except SyncFailed:
            self.dead = True
            raise
        except OSError as error:
            raise from_os_error(error) from error
        self._sealed = True
        if not self._resumable:
            self.close()
        return published

    def _check_own(self) -> None:
        """Its staging name, which is linked next, is that of another file after a backup was put
        back over it. Raises StorageFailed, OSError.
        """
        assert self.path is not None
        try:
            there = os.stat(self.path, dir_fd=self.folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self.fd)):
            raise StorageFailed("The data of this upload was removed or replaced by a program.")

    def _make_final(self) -> None:
        """Length, mode and time as they will be seen, and on the disk under strict."""
        if not self._sealed:  # else it is published
            self._check_writable()
            if self._resumable:  # a process that died may have reserved more than we know of
                os.ftruncate(self.fd, self.offset)
                self._check_own()
            self._room.trim(self.offset)
            if self._resumable or self._place.file_mode != self._place.staging_mode:
                os.fchmod(self.fd, self._place.file_mode)
            # The kernel's clock ticks in milliseconds: a file of the same size that gets the
            # inode of one just replaced could have its tag as well.
            now = time.time_ns()
            os.utime(self.fd, ns=(now, now))
        if self._place.strict:
            sync(self.fd)

    def discard(self) -> None:
        if self.fd >= 0 and self._resumable:  # once closed the data may be another's
            self._unlink()
        self.close()

    def close(self) -> None:
        if self.fd < 0:
            return
        if not self._resumable:
            self._unlink()
        elif not self._sealed and self.path is not None:
            self._room.release(self.offset)
        fd, self.fd = self.fd, -1
        close_quietly(fd)

    def _unlink(self) -> None:
        path, self.path = self.path, None
        if path is not None:
            with contextlib.suppress(OSError):  # what stays is swept, or expires
                os.unlink(path, dir_fd=self.folder_fd)

    def __del__(self) -> None:
        # A safety net only: the engine closes what it opened. Nothing but the descriptor, as
        # this may run late, or in a forked child.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _ended() -> StorageFailed:
    return StorageFailed("A part of the upload ended too soon.")
