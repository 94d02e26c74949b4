"""A file on its way: unnamed (`O_TMPFILE`), or named under the store's own folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from forebay.errors import (
    DiskFull,
    OffsetMismatch,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadBusy,
    UploadError,
    from_os_error,
)
from forebay.model import Commit, FileInfo, Lease, MiB
from forebay.stores.base import ALWAYS_ROOM, Publication, Published, Reader
from forebay.stores.compressed.job import LEAST, CompressionJob, Incompressible
from forebay.stores.compressed.xattr import Mark
from forebay.stores.files.flock import try_lock
from forebay.stores.files.folders import close_quietly, sync
from forebay.stores.files.publish import identity_of
from forebay.stores.files.syscalls import copy_range, reserve_blocks, start_writeback
from forebay.stores.reading import DescriptorReader, read_bytes

if TYPE_CHECKING:
    from forebay.stores.files.store import FileStore

_WRITEBACK = 8 * MiB
_LARGEST = 2**63 - 1
_ALLOCATE_FROM = MiB
"""What ends before is written before its room could be taken."""
_LEAST_AHEAD = MiB
_MOST_AHEAD = 64 * MiB
_NEAR = 256 * MiB
"""Free room so near to `min_free` that even what is small is allocated, and judged again."""


class StagedFile:
    """See `forebay.stores.base.Staged`.

    Args:
        path: its name in `folder_fd`; None while the file has no name at all.
        kept: the data outlives this object (resumable); else it vanishes when closed.
        readonly: opened for reading alone, as somebody took our permission to write to it.
        allocated: bytes on the disk, should a dead process have reserved more than it wrote.

    Room is taken on the disk itself, as bytes arrive and not as they are announced: at most as much
    again as there is, at most 64 MiB ahead, and only while `min_free` stays free.
    """

    __slots__ = (
        "_announced",
        "_beyond",
        "_held",
        "_kept",
        "_packing",
        "_readonly",
        "_sealed",
        "_stays",
        "_store",
        "_written_back",
        "dead",
        "fd",
        "folder_fd",
        "mark",
        "offset",
        "path",
    )

    def __init__(
        self,
        store: FileStore,
        fd: int,
        *,
        path: str | None,
        folder_fd: int,
        offset: int = 0,
        kept: bool = False,
        readonly: bool = False,
        allocated: int = 0,
    ) -> None:
        self._store = store
        self.fd = fd
        self.path = path
        self.folder_fd = folder_fd
        self.offset = offset
        self._kept = kept
        self._sealed = False
        self._readonly = readonly
        self._written_back = offset
        # How far a reservation or a failed write may have gone past `offset`.
        self._beyond = max(offset, allocated)
        self._held = offset
        """Up to where room was taken, or judged to be there: nobody looks at each write."""
        self._announced = 0
        self.dead = False
        """A sync has failed."""
        self._packing: CompressionJob | None = None
        # It is compressed, or nothing is to be gained or had by compressing it.
        self._stays = False
        self.mark: Mark | None = None
        """Set on what holds the compressed form of another."""

    def room(self) -> int:
        return ALWAYS_ROOM

    def on_room(self, callback: Callable[[], None]) -> None:
        callback()

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        size = len(data)
        if offset + size > self._held:
            self._take_room(offset + size)
        try:
            done = os.pwrite(self.fd, data, offset)
            while done < size:
                wrote = os.pwrite(self.fd, data[done:], offset + done)
                if wrote == 0:
                    raise OSError(errno.EIO, "pwrite wrote nothing")
                done += wrote
        except OSError as error:
            self._beyond = max(self._beyond, offset + size)
            with contextlib.suppress(OSError):  # tried again before publication
                self._trim()
            raise from_os_error(error) from error
        self.offset = offset + size
        # Under strict the disk starts early, so that the sync at the end is short.
        if self._store.strict and self.offset - self._written_back >= _WRITEBACK:
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
        if self.offset + size > self._held:
            self._take_room(self.offset + size)
        try:
            done = copy_range(fd, start, self.fd, self.offset, size)
        except OSError as error:
            self._beyond = max(self._beyond, self.offset + size)
            with contextlib.suppress(OSError):
                self._trim()
            raise from_os_error(error) from error
        if not done:
            raise _ended()
        self._beyond = max(self._beyond, self.offset + done)
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
        self._sealed = self._stays = True

    def _open_for_writing(self) -> None:
        """Whoever changed the mode of our file did not mean to end the upload."""
        assert self.path is not None
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            os.fchmod(self.fd, self._store.staging_mode)
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
        # Never a moment in which our descriptor's number is somebody else's.
        os.dup2(fd, self.fd, inheritable=False)

    def _trim(self) -> None:
        """Cuts off what is beyond `offset`. An untouched file keeps its time, so its tag."""
        if self._beyond > self.offset:
            os.ftruncate(self.fd, self.offset)
            self._beyond = self._held = self.offset

    def reserve(self, size: int) -> None:
        """Judges `size` against the free room; see the class for when it is taken."""
        self._check_writable()
        if size > _LARGEST:
            raise TooLarge("The filesystem cannot hold a file of that size.")
        self._announced = size
        if max(0, size - self._have) > self._free():
            self._refuse_room()

    @property
    def _have(self) -> int:
        return max(self.offset, self._beyond)

    def _free(self) -> int:
        """Bytes that may be taken."""
        return self._store.space().free - self._store.min_free

    def _refuse_room(self) -> NoReturn:
        with contextlib.suppress(OSError):
            self._trim()
        raise DiskFull(free=self._store.space().free)

    def _take_room(self, end: int) -> None:
        """Has room up to `end`, where a write is about to end, and some for what comes next.

        Raises DiskFull when less than `min_free` would stay free, or does: many may take at once.
        """
        ahead = end + max(_LEAST_AHEAD, min(end, _MOST_AHEAD))
        if self._announced >= end:
            ahead = min(ahead, self._announced)
        elif end < _ALLOCATE_FROM:
            ahead = end
        if ahead < _ALLOCATE_FROM and self._free() - (end - self._have) >= _NEAR:
            self._held = end
            return
        with self._store.taking_room:  # what one sees as free, another must not take meanwhile
            self._held = self._allocate_to(end, ahead)

    def _allocate_to(self, end: int, ahead: int) -> int:
        """Up to where there is room then."""
        free = self._free()
        if ahead - self._have > free:
            ahead = end
        if end - self._have > free:
            self._refuse_room()
        if not self._allocate(ahead):
            return end  # it is not ours before it is written: looked at each time
        if self._free() < 0:  # other processes take room, too
            self._refuse_room()
        return ahead

    def _allocate(self, end: int) -> bool:
        """Whether the filesystem can. Raises what `from_os_error` makes of what it says."""
        start, self._beyond = self._have, max(self._beyond, end)
        try:
            return reserve_blocks(self.fd, end - start, start)
        except OSError as error:
            self._release()  # a filesystem may keep the part that it could allocate
            raise from_os_error(error) from error

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            self._trim()

    def rollback(self, offset: int) -> None:
        if not 0 <= offset <= self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        try:
            if self._kept and os.fstat(self.fd).st_nlink > 1:
                self._detach(offset)
            else:
                os.ftruncate(self.fd, offset)
        except OSError as error:
            raise from_os_error(error) from error
        self.offset = self._beyond = self._held = offset
        self._written_back = min(self._written_back, offset)

    def _detach(self, size: int) -> None:
        """Goes on with a copy of the first `size` bytes: the file has another name, of a backup or
        under which it was published just before a power loss, and is not ours to cut.
        """
        assert self.path is not None
        store = self._store
        name = secrets.token_hex(16)
        fd = store.create_locked(name, store.tmp_fd)
        try:
            done = 0
            while done < size:
                copied = copy_range(self.fd, done, fd, done, size - done)
                if not copied:
                    raise OSError(errno.EIO, "the data is shorter than it was")
                done += copied
            if store.strict:
                sync(fd)
            os.rename(name, self.path, src_dir_fd=store.tmp_fd, dst_dir_fd=self.folder_fd)
            os.dup2(fd, self.fd, inheritable=False)
            if store.strict:
                sync(self.folder_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=store.tmp_fd)
            raise
        finally:
            close_quietly(fd)

    @property
    def commit_waits(self) -> bool:
        return self._store.strict

    def commit(self, *, flush: bool) -> Commit:
        if self.dead:
            raise SyncFailed
        offset = self.offset  # first: a write may run beside the sync
        if self._store.strict:
            try:
                if self._kept and not os.fstat(self.fd).st_nlink:
                    raise StorageFailed("The data of this upload was removed by another program.")
                os.fdatasync(self.fd)
            except OSError as error:
                self.dead = True
                raise SyncFailed(errno=error.errno) from error
        return Commit(offset)

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        """Nothing waits for it: a commit is all there is of it."""

    def keep(self, upload_id: str) -> None:
        self._check_writable()
        if self._kept and self.path == upload_id:
            return
        self._store.keep(self, upload_id)
        self.path, self.folder_fd, self._kept = upload_id, self._store.uploads_fd, True

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
        fd = self.fd if self._packing is None else self._packing.target.fd
        try:
            return identity_of(fd)
        except OSError as error:
            raise from_os_error(error) from error

    @property
    def prepare_waits(self) -> bool:
        return self._store.packing

    def prepare(self, name: str) -> bool:
        if self.dead or self._stays or self.offset < LEAST or not self._store.packs(name):
            self._drop_packing()
            return True
        try:
            if self._packing is None or self._packing.size != self.offset:
                self._begin_packing()
            assert self._packing is not None
            return self._packing.turn()
        except (Incompressible, UploadError, OSError, MemoryError):  # then it is published as it is
            self._drop_packing()
            self._stays = True
            return True

    def _begin_packing(self) -> None:
        self._drop_packing()
        target = self._store.stage_file()
        target._stays = True
        self._packing = CompressionJob(self._store, target, self.fd, self.offset)

    def _drop_packing(self) -> None:
        packing, self._packing = self._packing, None
        if packing is not None:
            packing.target.discard()

    def publish(self, how: Publication) -> Published:
        if self.dead:
            raise SyncFailed
        if self.fd < 0:
            raise StorageFailed("This upload is closed.")
        while not self.prepare(how.name):
            pass
        try:
            if self._packing is not None:
                # Only now: `keep` may have given it its id after it was prepared.
                origin = self.path if self._kept and self.path is not None else ""
                self._packing.sign(origin)
                published = self._packing.target.publish(how)
                self._packing = None
            else:
                self._make_final()
                published = self._store.publisher.publish(self, how)
        except SyncFailed:
            self.dead = True
            raise
        except OSError as error:
            raise from_os_error(error) from error
        self._sealed = True
        if not self._kept:
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
            if self._kept:  # a process that died may have reserved more than we know of
                os.ftruncate(self.fd, self.offset)
                self._check_own()
            self._trim()
            if self._kept or self._store.file_mode != self._store.staging_mode:
                os.fchmod(self.fd, self._store.file_mode)
            # The kernel's clock ticks in milliseconds: a file of the same size that gets the
            # inode of one just replaced could have its tag as well.
            now = time.time_ns()
            os.utime(self.fd, ns=(now, now))
        if self._store.strict:
            sync(self.fd)

    def discard(self) -> None:
        if self.fd >= 0 and self._kept:  # once closed the data may be another's
            self._unlink()
        self.close()

    def close(self) -> None:
        if self.fd < 0:
            return
        self._drop_packing()
        if not self._kept:
            self._unlink()
        elif not self._sealed and self.path is not None:
            self._release()
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
