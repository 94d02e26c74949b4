"""Files on a local filesystem: `ROOT/NAME`, and the store's own folder `ROOT/.forebay/`.

    .forebay/uploads/ID      data of resumable uploads, each locked by its writer
    .forebay/tmp/            named temporaries where there is no O_TMPFILE, locked as well
    .forebay/names.lock      held while a file is replaced or deleted

Bodies of single requests are staged without any name where the filesystem can do that, so
that a crash leaves nothing behind (invariant 5).
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    StorageDenied,
    StorageFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import NO_PRECONDITIONS, Durability, FileInfo, Preconditions
from forebay.stores.base import Capabilities, Publication, Space, Staged
from forebay.stores.folders import Folders, make_folder, make_root, scan, sync
from forebay.stores.marks import mark_in, read_mark
from forebay.stores.naming import check_path, split
from forebay.stores.packing import check_support
from forebay.stores.publishing import Publisher, info_of, link_unnamed
from forebay.stores.sorted_names import SortedNames
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
        numbered: makes `name (n).ext` of a name and a number.
        unnamed: False forces named temporaries, as on a filesystem without O_TMPFILE.
        packs: whether a file of that name is to be compressed at rest; None: none is.

    Raises StorageDenied or another StorageError when the folder cannot be used, ConfigError
    when files cannot be compressed in it.
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
        packs: Callable[[str], bool] | None = None,
    ) -> None:
        self.root = os.path.abspath(root)
        self.durability = durability
        self.strict = durability is Durability.STRICT
        self.min_free = min_free
        self.file_mode = file_mode
        self.staging_mode = file_mode | 0o600  # we must be able to open it again
        try:
            self._open_folders(folder_mode)
            self.folders = Folders(self.root_fd, mode=folder_mode, strict=self.strict)
            self.publisher = Publisher(
                self.folders, own_fd=self.own_fd, strict=self.strict, numbered=numbered
            )
            self.unnamed = unnamed and bool(_TMPFILE) and self._can_publish_unnamed()
        except OSError as error:
            self.close()
            raise from_os_error(error) from error
        except BaseException:
            self.close()
            raise
        self._names = SortedNames()
        self.packs = packs or _never
        if packs is not None:
            try:
                check_support(self)
            except BaseException:
                self.close()
                raise
        self.capabilities = Capabilities(
            descriptor=True, resumable=True, durable=True, prepares=packs is not None
        )

    def _open_folders(self, folder_mode: int) -> None:
        make_root(self.root, folder_mode, strict=self.strict)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.root_fd = os.open(self.root, flags)
        self.own_fd, _ = make_folder(self.root_fd, OWN_FOLDER, 0o700)
        self.uploads_fd, _ = make_folder(self.own_fd, "uploads", 0o700)
        self.tmp_fd, _ = make_folder(self.own_fd, "tmp", 0o700)
        device = os.fstat(self.root_fd).st_dev
        for fd in (self.own_fd, self.uploads_fd, self.tmp_fd):
            if os.fstat(fd).st_dev != device:
                raise StorageFailed(
                    f"{self.root}/{OWN_FOLDER} must be on the filesystem of {self.root}: "
                    "files cannot be published across two."
                )
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
            with self.publisher.locked():  # else a sweep elsewhere could be quicker to remove it
                link_unnamed(fd, name, self.tmp_fd)
                os.unlink(name, dir_fd=self.tmp_fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    # --- staging -----------------------------------------------------------------------------

    def stage(self) -> Staged:
        return self.stage_file()

    def stage_file(self) -> StagedFile:
        """As `stage`."""
        try:
            if not self.unnamed:
                name = secrets.token_hex(16)
                fd = self._create_locked(name, self.tmp_fd)
                return StagedFile(self, fd, path=name, folder_fd=self.tmp_fd)
            fd = os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.own_fd)
            try:
                os.fchmod(fd, self.staging_mode)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise from_os_error(error) from error
        return StagedFile(self, fd, path=None, folder_fd=self.own_fd)

    def _create_locked(self, name: str, folder_fd: int) -> int:
        """A new file, locked; made again when a sweep got hold of it before we did."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)  # a sweep holds it only for a moment
                if os.fstat(fd).st_nlink:
                    os.fchmod(fd, self.staging_mode)
                    return fd
            except BaseException:
                os.close(fd)
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder_fd)
                raise
            os.close(fd)

    def create(self, upload_id: str) -> Staged:
        self._check_id(upload_id)
        try:
            fd = self._create_locked(upload_id, self.uploads_fd)
        except FileExistsError as error:
            raise AlreadyExists from error
        except OSError as error:
            raise from_os_error(error) from error
        staged = StagedFile(self, fd, path=upload_id, folder_fd=self.uploads_fd, kept=True)
        try:
            if self.strict:
                sync(self.uploads_fd)
        except BaseException:
            staged.discard()
            raise
        return staged

    def keep(self, staged: StagedFile, upload_id: str) -> None:
        """See `Staged.keep`: the name among the resumable ones."""
        self._check_id(upload_id)
        try:
            fcntl.flock(staged.fd, fcntl.LOCK_EX)  # ours alone: nobody else has it open
            if staged.path is None:
                link_unnamed(staged.fd, upload_id, self.uploads_fd)
            else:
                folders = {"src_dir_fd": staged.folder_fd, "dst_dir_fd": self.uploads_fd}
                os.link(staged.path, upload_id, **folders, follow_symlinks=False)
                os.unlink(staged.path, dir_fd=staged.folder_fd)
            if self.strict:
                self._sync_kept(upload_id)
        except FileExistsError as error:
            raise AlreadyExists from error
        except OSError as error:
            raise from_os_error(error) from error

    def _sync_kept(self, upload_id: str) -> None:
        try:
            sync(self.uploads_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(upload_id, dir_fd=self.uploads_fd)
            raise

    def resume(self, upload_id: str, offset: int) -> Staged:
        fd = self._open_locked(upload_id, os.O_RDWR)
        try:
            status = os.fstat(fd)
            if status.st_size < offset:
                raise StorageFailed(
                    f"The upload has lost data: {status.st_size} of {offset} bytes are there."
                )
            published = status.st_nlink > 1
            if published and status.st_size > offset:
                raise StorageFailed("The upload is published already and cannot go on.")
            if not published:  # also frees what was reserved
                os.ftruncate(fd, offset)
        except OSError as error:
            os.close(fd)
            raise from_os_error(error) from error
        except BaseException:
            os.close(fd)
            raise
        return StagedFile(
            self,
            fd,
            path=upload_id,
            folder_fd=self.uploads_fd,
            offset=offset,
            kept=True,
            sealed=published,
        )

    def _open_locked(self, upload_id: str, flags: int) -> int:
        self._check_id(upload_id)
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(upload_id, flags, dir_fd=self.uploads_fd)
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the opening and the lock its holder may have let go of it: what we hold
            # then is nothing, or a published file, which nobody may touch (invariant 3).
            named = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
            if not os.path.samestat(named, os.fstat(fd)):
                raise NotFound
        except FileNotFoundError as error:
            os.close(fd)
            raise NotFound from error
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
        with contextlib.suppress(NotFound):
            fd = self._open_locked(upload_id, os.O_RDONLY)
            try:
                os.unlink(upload_id, dir_fd=self.uploads_fd)
            except OSError as error:
                raise from_os_error(error) from error
            finally:
                os.close(fd)

    def claim(self, upload_id: str) -> Staged:
        try:
            fd = self._open_locked(upload_id, os.O_RDWR)
        except StorageDenied:  # published, and with a mode that forbids writing
            fd = self._open_locked(upload_id, os.O_RDONLY)
        status = os.fstat(fd)
        return StagedFile(
            self,
            fd,
            path=upload_id,
            folder_fd=self.uploads_fd,
            offset=status.st_size,
            kept=True,
            sealed=status.st_nlink > 1,
            allocated=status.st_blocks * 512,
        )

    def open_staged(self, upload_id: str) -> int:
        self._check_id(upload_id)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(upload_id, flags, dir_fd=self.uploads_fd)
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error

    def staged_ids(self) -> Iterator[str]:
        try:
            with scan(self.uploads_fd) as entries:
                for entry in entries:
                    if _ID.match(entry.name):
                        yield entry.name
        except OSError as error:
            raise from_os_error(error) from error

    def sweep_temporaries(self) -> int:
        try:
            with scan(self.tmp_fd) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            raise from_os_error(error) from error
        return sum(self._sweep_one(name) for name in names)

    def _sweep_one(self, name: str) -> bool:
        # What is held, or has just gone, or cannot be opened: the next sweep looks again.
        with contextlib.suppress(OSError), self.publisher.locked():
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=self.tmp_fd)
            try:
                # Names with a suffix live no longer than the lock that we hold. Their data may be
                # locked: it is an upload's, which goes on after a replacement was killed.
                if "." not in name:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=self.tmp_fd)
            finally:
                os.close(fd)
            return True
        return False

    def _check_id(self, upload_id: str) -> None:
        if not _ID.match(upload_id):
            raise NotFound

    def published_from(self, upload_id: str, name: str) -> FileInfo | None:
        folder, base = split(name)
        try:
            self._check_id(upload_id)
            staged = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
            with self.folders.opened(folder) as folder_fd:
                final = os.stat(base, dir_fd=folder_fd, follow_symlinks=False)
                mark = mark_in(folder_fd, base, final.st_size)
                marked = mark is not None and mark.origin == upload_id
                if not marked and not os.path.samestat(staged, final):
                    return None
                if self.strict:
                    sync(folder_fd)
                return info_of(name, final, mark)
        except (FileNotFoundError, NotFound, NotAFolder):
            return None
        except OSError as error:
            raise from_os_error(error) from error

    # --- published files ----------------------------------------------------------------------

    def free_name(self, how: Publication) -> str:
        try:
            return self.publisher.free_name(how)
        except OSError as error:
            raise from_os_error(error) from error

    def check_target(self, how: Publication) -> None:
        try:
            self.publisher.check(how)
        except OSError as error:
            raise from_os_error(error) from error

    def stat(self, name: str) -> FileInfo:
        folder, base = split(name) if name else ("", ".")
        with self.folders.opened(folder) as folder_fd:
            try:
                info = _entry(folder_fd, base)
            except OSError as error:
                raise from_os_error(error) from error
        if info is None:
            raise NotFound
        return dataclasses.replace(info, name=name)

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
            raise NotFound("That is not a file.", folder=stat.S_ISDIR(status.st_mode))
        return fd, info_of(name, status, read_mark(fd, status.st_size))

    def delete(self, name: str, preconditions: Preconditions = NO_PRECONDITIONS) -> None:
        try:
            self.publisher.delete(name, preconditions)
        except OSError as error:
            raise from_os_error(error) from error

    def list_folder(self, name: str, *, after: str = "", limit: int = 1000) -> list[FileInfo]:
        if name:
            check_path(name)
        found: list[FileInfo] = []
        with self.folders.opened(name) as fd:
            try:
                while (wanted := limit - len(found)) > 0:
                    names = self._names.after(fd, after, wanted)
                    found += [info for base in names if (info := _entry(fd, base)) is not None]
                    if len(names) < wanted:
                        break
                    after = names[-1]
            except OSError as error:
                raise from_os_error(error) from error
        return found

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        """Whether this process alone does what `name` stands for, for as long as it is held."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self.own_fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)

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


def _never(name: str) -> bool:
    return False


def _entry(folder_fd: int, base: str) -> FileInfo | None:
    """A plain file or folder; None for links, devices and what has just gone."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(base, dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            mark = mark_in(folder_fd, base, status.st_size) if status.st_size else None
            return info_of(base, status, mark)
        if stat.S_ISDIR(status.st_mode):
            return info_of(base, status)
    return None
