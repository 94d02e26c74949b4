"""Files on a local filesystem: `ROOT/NAME`, and the store's own folder `ROOT/.forebay/`.

    .forebay/uploads/ID      data of resumable uploads, each locked by its writer
    .forebay/tmp/            named temporaries where there is no O_TMPFILE, locked as well
    .forebay/names.lock      held while a file is replaced or deleted

Bodies of single requests are staged without any name where the filesystem can do that, so
that a crash leaves nothing behind (invariant 5).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator

from forebay.errors import (
    AlreadyExists,
    NotAFolder,
    NotFound,
    StorageFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import NO_PRECONDITIONS, Durability, FileInfo, Preconditions
from forebay.stores.base import Capabilities, Publication, Space, Staged
from forebay.stores.folders import Folders, sync
from forebay.stores.publishing import Publisher, info_of, lookup, split, tag_of
from forebay.stores.staging import StagedFile

OWN_FOLDER = ".forebay"
_ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_TMPFILE = getattr(os, "O_TMPFILE", 0)


class FileStore:
    """See `forebay.stores.base.Store`.

    Args:
        root: folder that holds the published files; made when missing.
        min_free: bytes that must stay free on the filesystem; may be assigned at any time.
        file_mode, folder_mode: permission bits of what is published; the umask is not applied.
        numbered: makes `name (n).ext` of a base name and a number.
        unnamed: False forces named temporaries, as on a filesystem without O_TMPFILE.

    Raises StorageDenied or another StorageError when the folder cannot be used.
    """

    def __init__(
        self,
        root: str,
        *,
        durability: Durability = Durability.STRICT,
        min_free: int = 0,
        file_mode: int = 0o640,
        folder_mode: int = 0o750,
        numbered: Callable[[str, int], str],
        unnamed: bool = True,
    ) -> None:
        self.root = os.path.abspath(root)
        self.durability = durability
        self.strict = durability is Durability.STRICT
        self.min_free = min_free
        self.file_mode = file_mode
        try:
            self._open_folders(folder_mode)
        except OSError as error:
            raise from_os_error(error) from error
        self.folders = Folders(self.root_fd, mode=folder_mode, strict=self.strict)
        self.publisher = Publisher(
            self.folders,
            own_fd=self.own_fd,
            uploads_fd=self.uploads_fd,
            strict=self.strict,
            numbered=numbered,
        )
        self.unnamed = unnamed and bool(_TMPFILE) and self._can_publish_unnamed()
        self.capabilities = Capabilities(descriptor=True, resumable=True, durable=True)

    def _open_folders(self, folder_mode: int) -> None:
        os.makedirs(self.root, folder_mode, exist_ok=True)
        own = os.path.join(self.root, OWN_FOLDER)
        for folder in (own, os.path.join(own, "uploads"), os.path.join(own, "tmp")):
            os.makedirs(folder, 0o700, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.root_fd = os.open(self.root, flags)
        self.own_fd = os.open(OWN_FOLDER, flags | os.O_NOFOLLOW, dir_fd=self.root_fd)
        self.uploads_fd = os.open("uploads", flags | os.O_NOFOLLOW, dir_fd=self.own_fd)
        self.tmp_fd = os.open("tmp", flags | os.O_NOFOLLOW, dir_fd=self.own_fd)
        if self.strict:
            os.fsync(self.own_fd)
            os.fsync(self.root_fd)

    def _can_publish_unnamed(self) -> bool:
        """Tried for real once: overlay filesystems and containers without /proc differ."""
        name = f"{secrets.token_hex(8)}.probe"
        try:
            fd = os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.tmp_fd)
        except OSError:
            return False
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self.tmp_fd)
            os.unlink(name, dir_fd=self.tmp_fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    # --- staging -----------------------------------------------------------------------------

    def stage(self) -> Staged:
        try:
            if not self.unnamed:
                return self._stage_named()
            fd = os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.own_fd)
            try:
                os.fchmod(fd, self.file_mode)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise from_os_error(error) from error
        return StagedFile(self, fd, path=None, folder_fd=self.own_fd)

    def _stage_named(self) -> StagedFile:
        while True:
            name = secrets.token_hex(16)
            fd = self._create_locked(name, self.tmp_fd)
            if fd is not None:
                return StagedFile(self, fd, path=name, folder_fd=self.tmp_fd)

    def _create_locked(self, name: str, folder_fd: int) -> int | None:
        """A new file, locked. None when a sweeper got hold of it before we did."""
        fd = os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder_fd
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # a sweeper holds it only for a moment
            os.fchmod(fd, self.file_mode)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def create(self, upload_id: str) -> Staged:
        self._check_id(upload_id)
        try:
            fd = self._create_locked(upload_id, self.uploads_fd)
            if self.strict:
                sync(self.uploads_fd)
        except FileExistsError as error:
            raise AlreadyExists from error
        except OSError as error:
            raise from_os_error(error) from error
        if fd is None:
            raise StorageFailed("The new upload was swept away; try again.")
        return StagedFile(self, fd, path=upload_id, folder_fd=self.uploads_fd)

    def resume(self, upload_id: str, offset: int) -> Staged:
        fd = self._open_locked(upload_id)
        try:
            size = os.fstat(fd).st_size
            if size < offset:
                raise StorageFailed(
                    f"The upload has lost data: {size} of {offset} bytes are there."
                )
            if size > offset:
                os.ftruncate(fd, offset)
        except OSError as error:
            os.close(fd)
            raise from_os_error(error) from error
        except BaseException:
            os.close(fd)
            raise
        return StagedFile(self, fd, path=upload_id, folder_fd=self.uploads_fd, offset=offset)

    def _open_locked(self, upload_id: str) -> int:
        self._check_id(upload_id)
        try:
            fd = os.open(
                upload_id, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.uploads_fd
            )
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(fd).st_nlink:
                raise NotFound
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UploadBusy(retry_after=1) from error
            raise from_os_error(error) from error
        except BaseException:
            os.close(fd)
            raise
        return fd

    def remove(self, upload_id: str) -> None:
        try:
            fd = self._open_locked(upload_id)
        except NotFound:
            return
        try:
            os.unlink(upload_id, dir_fd=self.uploads_fd)
        except OSError as error:
            raise from_os_error(error) from error
        finally:
            os.close(fd)

    def claim(self, upload_id: str) -> Staged:
        fd = self._open_locked(upload_id)
        size = os.fstat(fd).st_size
        return StagedFile(self, fd, path=upload_id, folder_fd=self.uploads_fd, offset=size)

    def staged_ids(self) -> Iterator[str]:
        with os.scandir(self.uploads_fd) as entries:
            for entry in entries:
                if _ID.match(entry.name):
                    yield entry.name

    def sweep_temporaries(self) -> int:
        count = 0
        with os.scandir(self.tmp_fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                count += self._sweep_one(name)
        return count

    def _sweep_one(self, name: str) -> int:
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.tmp_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=self.tmp_fd)
        except BlockingIOError:
            return 0
        finally:
            os.close(fd)
        return 1

    def _check_id(self, upload_id: str) -> None:
        if not _ID.match(upload_id):
            raise NotFound

    def published_from(self, upload_id: str, name: str) -> FileInfo | None:
        self._check_id(upload_id)
        folder, base = split(name)
        try:
            staged = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
            with self.folders.opened(folder) as folder_fd:
                final = os.stat(base, dir_fd=folder_fd, follow_symlinks=False)
        except (FileNotFoundError, NotFound, NotAFolder):
            return None
        same = (staged.st_dev, staged.st_ino) == (final.st_dev, final.st_ino)
        return info_of(name, final) if same else None

    # --- published files ----------------------------------------------------------------------

    def check_target(self, how: Publication) -> None:
        try:
            self.publisher.check(how)
        except OSError as error:
            raise from_os_error(error) from error

    def stat(self, name: str) -> FileInfo:
        folder, base = split(name)
        with self.folders.opened(folder) as folder_fd:
            try:
                info = lookup(folder_fd, base) if base else info_of("", os.fstat(folder_fd))
            except OSError as error:
                raise from_os_error(error) from error
        if info is None:
            raise NotFound
        return FileInfo(name, info.size, info.mtime_ns, info.tag, info.is_folder)

    def open(self, name: str) -> tuple[int, FileInfo]:
        folder, base = split(name)
        with self.folders.opened(folder) as folder_fd:
            try:
                # O_NONBLOCK: a FIFO or device that an operator put there must not hang us.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                fd = os.open(base, flags, dir_fd=folder_fd)
            except FileNotFoundError as error:
                raise NotFound from error
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise NotFound from error
                raise from_os_error(error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise NotFound("That is not a file.")
        return fd, FileInfo(name, status.st_size, status.st_mtime_ns, tag_of(status))

    def delete(self, name: str, preconditions: Preconditions = NO_PRECONDITIONS) -> None:
        try:
            self.publisher.delete(name, preconditions)
        except OSError as error:
            raise from_os_error(error) from error

    def list_folder(self, name: str, *, after: str = "", limit: int = 1000) -> list[FileInfo]:
        with self.folders.opened(name) as fd:
            try:
                with os.scandir(fd) as entries:
                    names = sorted(
                        entry.name
                        for entry in entries
                        if entry.name > after and not entry.name.startswith(".")
                    )
                found: list[FileInfo] = []
                for base in names:
                    info = _entry(fd, base)
                    if info is not None:
                        found.append(info)
                        if len(found) == limit:
                            break
            except OSError as error:
                raise from_os_error(error) from error
        return found

    def space(self) -> Space:
        try:
            status = os.statvfs(self.root_fd)
        except OSError as error:
            raise from_os_error(error) from error
        return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    def probe(self) -> None:
        staged = self.stage()
        try:
            staged.write(memoryview(b"probe"), 0)
        finally:
            staged.discard()

    def close(self) -> None:
        for attribute in ("tmp_fd", "uploads_fd", "own_fd", "root_fd"):
            fd = getattr(self, attribute, -1)
            setattr(self, attribute, -1)
            if fd >= 0:
                os.close(fd)


def _entry(folder_fd: int, base: str) -> FileInfo | None:
    """A plain file or folder; None for links, devices and what has just gone."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(base, dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return info_of(base, status)
    return None
