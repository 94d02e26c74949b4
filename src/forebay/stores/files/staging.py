"""Staged data in a store of files: of single requests, and of uploads that outlive theirs."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence

from forebay.errors import (
    AlreadyExists,
    NotFound,
    StorageBusy,
    StorageDenied,
    StorageFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import Lease, Piece, UploadRecord
from forebay.stores.base import Publication, Reader
from forebay.stores.files.flock import try_lock
from forebay.stores.files.folders import close_quietly, scan, sync
from forebay.stores.files.place import ID, Place, check_id
from forebay.stores.files.publish import info_of
from forebay.stores.files.staged import StagedFile
from forebay.stores.reading import DescriptorReader


class StagingFolders(Place):
    """The staging half of `FileStore`: see `Staging`, `Lockable` and `Sweepable`."""

    def stage(self, how: Publication | None = None, size: int | None = None) -> StagedFile:
        try:
            if not self.unnamed:
                name = secrets.token_hex(16)
                fd = self.retried(lambda: self.create_locked(name, self.tmp_fd))
                return StagedFile(self, fd, path=name, folder_fd=self.tmp_fd)
            fd = self.retried(self.open_unnamed)
            try:
                os.fchmod(fd, self.staging_mode)
                return StagedFile(self, fd, path=None, folder_fd=self.own_fd)
            except BaseException:
                close_quietly(fd)
                raise
        except OSError as error:
            raise from_os_error(error) from error

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> StagedFile:
        upload_id = record.id
        check_id(upload_id)
        try:
            fd = self.retried(lambda: self.create_locked(upload_id, self.uploads_fd))
        except FileExistsError as error:
            raise AlreadyExists from error
        except OSError as error:
            raise from_os_error(error) from error
        staged = StagedFile(self, fd, path=upload_id, folder_fd=self.uploads_fd, resumable=True)
        try:
            if self.strict:
                sync(self.uploads_fd)
        except BaseException:
            staged.discard()
            raise
        return staged

    def resume(
        self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None
    ) -> StagedFile:
        upload_id, offset = record.id, record.offset
        fd = self._open_locked(upload_id, os.O_RDWR)
        try:
            status = os.fstat(fd)
            if status.st_size < offset:
                raise StorageFailed(
                    f"The upload has lost data: {status.st_size} of {offset} bytes are there."
                )
            staged = self._claimed(upload_id, fd, status)
        except OSError as error:
            close_quietly(fd)
            raise from_os_error(error) from error
        except BaseException:
            close_quietly(fd)
            raise
        try:
            if staged.offset > offset:
                staged.rollback(offset)
        except BaseException:
            staged.close()
            raise
        return staged

    def _open_locked(self, upload_id: str, flags: int) -> int:
        check_id(upload_id)
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(upload_id, flags, dir_fd=self.uploads_fd)
            try:
                self._lock_named(fd, upload_id)
            except BaseException:
                close_quietly(fd)
                raise
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error
        return fd

    def _lock_named(self, fd: int, upload_id: str) -> None:
        if not try_lock(fd):
            raise UploadBusy(retry_after=1)
        # Between the opening and the lock its holder may have let go of it: what we hold
        # then is nothing, or a published file, which must not be touched (invariant 3).
        named = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
        if not os.path.samestat(named, os.fstat(fd)):
            raise NotFound

    def remove(self, upload_id: str) -> None:
        with contextlib.suppress(NotFound):
            fd = self._open_locked(upload_id, os.O_RDONLY)
            try:
                os.unlink(upload_id, dir_fd=self.uploads_fd)
            except OSError as error:
                raise from_os_error(error) from error
            finally:
                close_quietly(fd)

    def claim(self, upload_id: str) -> StagedFile:
        readonly = False
        try:
            fd = self._open_locked(upload_id, os.O_RDWR)
        except StorageDenied:  # published, or our permission to write was taken
            fd, readonly = self._open_locked(upload_id, os.O_RDONLY), True
        try:
            return self._claimed(upload_id, fd, os.fstat(fd), readonly=readonly)
        except OSError as error:
            close_quietly(fd)
            raise from_os_error(error) from error
        except BaseException:
            close_quietly(fd)
            raise

    def _claimed(
        self, upload_id: str, fd: int, status: os.stat_result, *, readonly: bool = False
    ) -> StagedFile:
        return StagedFile(
            self,
            fd,
            path=upload_id,
            folder_fd=self.uploads_fd,
            offset=status.st_size,
            resumable=True,
            readonly=readonly,
            # A file that has another name may be published: what looks at it leaves its times.
            allocated=0 if readonly or status.st_nlink > 1 else status.st_blocks * 512,
        )

    def open_staged(self, record: UploadRecord, pieces: Sequence[Piece]) -> Reader:
        check_id(record.id)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(record.id, flags, dir_fd=self.uploads_fd)
            try:
                return DescriptorReader(fd, info_of("", os.fstat(fd)))
            except BaseException:
                close_quietly(fd)
                raise
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error

    def remains(self) -> Iterator[str]:
        try:
            with scan(self.uploads_fd) as entries:
                for entry in entries:
                    if ID.match(entry.name):
                        yield entry.name
        except OSError as error:
            raise from_os_error(error) from error

    def sweep_temporaries(self) -> int:
        try:
            with scan(self.tmp_fd) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            raise from_os_error(error) from error
        aside = [name for name in names if "." in name]
        swept = sum(self._sweep_one(name) for name in names if "." not in name)
        # Names with a suffix live no longer than the lock on names is held. Their data may be
        # locked: it is an upload's, which goes on after a replacement was killed.
        with contextlib.suppress(OSError, StorageBusy):
            if aside:
                with self.publisher.locked():
                    for name in aside:
                        with contextlib.suppress(OSError):
                            os.unlink(name, dir_fd=self.tmp_fd)
                            swept += 1
        return swept

    def _sweep_one(self, name: str) -> bool:
        # What is held, or has just gone, or cannot be opened: the next sweep looks again.
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=self.tmp_fd)
            try:
                if not try_lock(fd):
                    return False
                os.unlink(name, dir_fd=self.tmp_fd)
            finally:
                close_quietly(fd)
            return True
        return False
