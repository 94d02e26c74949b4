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
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Sequence

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.errors import (
    AlreadyExists,
    DiskFull,
    NoDescriptors,
    NotAFolder,
    NotFound,
    QuotaExceeded,
    StorageBusy,
    StorageDenied,
    StorageFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import Durability, FileInfo, Lease, Piece, UploadRecord
from forebay.stores.base import Publication, Reader, Space, Staged
from forebay.stores.compressed.job import check_support
from forebay.stores.compressed.reading import DecodedReader
from forebay.stores.compressed.seekable import Unpacker
from forebay.stores.compressed.xattr import mark_in, read_mark
from forebay.stores.files.flock import lock_soon, try_lock
from forebay.stores.files.folders import Folders, close_quietly, scan, sync
from forebay.stores.files.layout import OwnFolders
from forebay.stores.files.publish import Publisher, identity_of, info_of, link_unnamed
from forebay.stores.files.sorted_names import SortedNames
from forebay.stores.files.staged import StagedFile
from forebay.stores.naming import check_path, on_disk, split
from forebay.stores.reading import DescriptorReader

_ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_TMPFILE = getattr(os, "O_TMPFILE", 0)

_PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
)


class FileStore:
    """See `forebay.stores.base.Store`.

    Args:
        root: folder that holds the published files; made when missing.
        min_free: bytes that must stay free on the filesystem; may be assigned at any time.
        file_mode, folder_mode: permission bits of what is published; the umask is not applied.
        numbered: makes `name (n).ext` of a name and a number.
        unnamed: False forces named temporaries, as on a filesystem without O_TMPFILE.
        packs: whether a file of that name is to be compressed at rest; None: none is.

    What is there is served also when nothing can be written: a full disk, a missing permission.
    Raises StorageError when the root cannot be opened, ConfigError when files cannot be
    compressed in it.
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
        self.folder_mode = folder_mode
        self.packing = packs is not None
        self.packs = packs or _never
        self._wants_unnamed = unnamed and bool(_TMPFILE)
        self._numbered = numbered
        self._names = SortedNames()
        self._unpacker = Unpacker()
        self.own = OwnFolders(self.root, self.strict)
        self.taking_room = threading.Lock()
        """Held while room is judged and taken, so that many uploads together leave `min_free`."""
        self.generation = 0
        """Rises whenever folders of it were found to be made anew."""
        try:
            self._open()
            if packs is not None:
                check_support(self)
        except OSError as error:
            self.close()
            raise from_os_error(error) from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """The root, and the own folders unless only the disk's state is in the way."""
        self.own.open_root(self.folder_mode)
        self.folders = Folders(self.root_fd, mode=self.folder_mode, strict=self.strict)
        self.publisher = Publisher(
            self.folders,
            own=lambda: self.own_fd,
            strict=self.strict,
            numbered=self._numbered,
        )
        with contextlib.suppress(DiskFull, QuotaExceeded, StorageDenied, NoDescriptors):
            _ = self.unnamed  # opens them too; else tried again whenever they are needed

    binds_names = False

    @property
    def root_fd(self) -> int:
        return self.own.root_fd

    @property
    def own_fd(self) -> int:
        """Raises StorageError while the store's own folder cannot be had."""
        return self.own.fds().own

    @property
    def uploads_fd(self) -> int:
        """As `own_fd`."""
        return self.own.fds().uploads

    @property
    def tmp_fd(self) -> int:
        """As `own_fd`."""
        return self.own.fds().tmp

    @property
    def unnamed(self) -> bool:
        """Whether staged files have no name until they are published. As `own_fd`."""
        fds = self.own.fds()
        if fds.unnamed is None:
            fds.unnamed = self._can_publish_unnamed() if self._wants_unnamed else False
        return fds.unnamed is not False

    @unnamed.setter
    def unnamed(self, unnamed: bool) -> None:
        self.own.fds().unnamed = unnamed

    def refresh(self) -> bool:
        """Goes over to the folders that are there now, when the root or an own one was removed and
        made anew; whether any was. Raises StorageError.
        """
        try:
            changed = self.own.refresh()
            if changed:
                self.generation += 1
                self.folders.reset()
        except OSError as error:
            raise from_os_error(error) from error
        return changed

    def _can_publish_unnamed(self) -> bool | None:
        """Tried for real once: overlay filesystems and containers without /proc differ. None
        where something that passes is in the way, such as a full disk.
        """
        name = secrets.token_hex(16)
        try:
            fd = os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.tmp_fd)
        except OSError as error:
            return None if error.errno in _PASSING else False
        try:
            lock_soon(fd)  # else a sweep elsewhere could be quicker to remove it
            link_unnamed(fd, name, self.tmp_fd)
            os.unlink(name, dir_fd=self.tmp_fd)
        except OSError as error:
            return None if error.errno in _PASSING else False
        finally:
            close_quietly(fd)
        return True

    # --- staging -----------------------------------------------------------------------------

    def stage(self, how: Publication | None = None, size: int | None = None) -> Staged:
        return self.stage_file()

    def stage_file(self) -> StagedFile:
        """As `stage`."""
        try:
            if not self.unnamed:
                name = secrets.token_hex(16)
                fd = self._where_it_is(lambda: self.create_locked(name, self.tmp_fd))
                return StagedFile(self, fd, path=name, folder_fd=self.tmp_fd)
            fd = self._where_it_is(lambda: self._open_unnamed(self.own_fd))
            try:
                os.fchmod(fd, self.staging_mode)
                return StagedFile(self, fd, path=None, folder_fd=self.own_fd)
            except BaseException:
                close_quietly(fd)
                raise
        except OSError as error:
            raise from_os_error(error) from error

    def _where_it_is(self, make: Callable[[], int]) -> int:
        """What `make` opens, once more when somebody has removed our folders. Raises StorageError,
        OSError.
        """
        try:
            return make()
        except (FileNotFoundError, PermissionError):  # EPERM: ext4, of a file without a name
            if not self.refresh():
                raise
            return make()

    @staticmethod
    def _open_unnamed(folder_fd: int) -> int:
        return os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)

    def create_locked(self, name: str, folder_fd: int) -> int:
        """A new file, locked; made again when a sweep got hold of it before we did.

        Raises StorageBusy, OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
            try:
                lock_soon(fd)  # a sweep holds it only for a moment
                if os.fstat(fd).st_nlink:
                    os.fchmod(fd, self.staging_mode)
                    return fd
            except BaseException:
                close_quietly(fd)
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder_fd)
                raise
            close_quietly(fd)

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> Staged:
        upload_id = record.id
        self._check_id(upload_id)
        try:
            fd = self._where_it_is(lambda: self.create_locked(upload_id, self.uploads_fd))
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
            lock_soon(staged.fd)  # a stranger may look at it, where it has a name
            if staged.path is None:
                link_unnamed(staged.fd, upload_id, self.uploads_fd)
            else:
                folders = {"src_dir_fd": staged.folder_fd, "dst_dir_fd": self.uploads_fd}
                os.link(staged.path, upload_id, **folders, follow_symlinks=False)
                with contextlib.suppress(OSError):  # what stays is swept
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

    def resume(self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None) -> Staged:
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
        self._check_id(upload_id)
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
        # then is nothing, or a published file, which nobody may touch (invariant 3).
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

    def claim(self, upload_id: str) -> Staged:
        readonly = False
        try:
            fd = self._open_locked(upload_id, os.O_RDWR)
        except StorageDenied:  # published, or somebody took our permission to write
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
            kept=True,
            readonly=readonly,
            # A file that has another name may be published: what looks at it leaves its times.
            allocated=0 if readonly or status.st_nlink > 1 else status.st_blocks * 512,
        )

    def open_staged(self, record: UploadRecord, pieces: Sequence[Piece]) -> Reader:
        self._check_id(record.id)
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

    def _check_id(self, upload_id: str) -> None:
        if not _ID.match(upload_id):
            raise NotFound

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        folder, base = split(name)
        try:
            self._check_id(upload_id)
            with self.folders.opened(folder) as folder_fd:
                final = os.stat(on_disk(base), dir_fd=folder_fd, follow_symlinks=False)
                mark = mark_in(folder_fd, base, final.st_size)
                found = identity_of(folder_fd, base)
                if identity:
                    same = found == identity
                else:  # recorded by 0.1.0: the staging name is there as well
                    staged = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
                    same = mark is not None and mark.origin == upload_id
                    same = same or os.path.samestat(staged, final)
                if not same:
                    return None
                if self.strict:
                    sync(folder_fd)
                return dataclasses.replace(info_of(name, final, mark), identity=found)
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
                raise from_os_error(error, reading=True) from error
        if info is None:
            raise NotFound
        return dataclasses.replace(info, name=name)

    def open(self, name: str) -> Reader:
        folder, base = split(name)
        with self.folders.opened(folder) as folder_fd:
            try:
                # O_NONBLOCK: a FIFO or device that an operator put there must not hang us.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                fd = os.open(on_disk(base), flags, dir_fd=folder_fd)
            except FileNotFoundError as error:
                raise NotFound from error
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise NotFound from error
                raise from_os_error(error, reading=True) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound("That is not a file.", folder=stat.S_ISDIR(status.st_mode))
            info = info_of(name, status, read_mark(fd, status.st_size))
        except OSError as error:
            close_quietly(fd)
            raise from_os_error(error, reading=True) from error
        except BaseException:
            close_quietly(fd)
            raise
        reader = DescriptorReader(fd, info)
        if info.stored_size is None:
            return reader
        return DecodedReader(reader, info, self._unpacker)

    def identity(self, name: str) -> str:
        folder, base = split(name)
        with self.folders.opened(folder) as folder_fd:
            try:
                return identity_of(folder_fd, base)
            except FileNotFoundError as error:
                raise NotFound from error
            except OSError as error:
                raise from_os_error(error, reading=True) from error

    def delete(
        self,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        identity: str = "",
    ) -> None:
        try:
            self.publisher.delete(name, preconditions, identity)
        except OSError as error:
            raise from_os_error(error) from error

    def list_folder(
        self, name: str, *, after: str = "", limit: int = 1000, since: float | None = None
    ) -> list[FileInfo]:
        if name:
            check_path(name)
        found: list[FileInfo] = []
        with self.folders.opened(name) as fd:
            try:
                while (wanted := limit - len(found)) > 0:
                    names = self._names.after(fd, after, wanted, since)
                    found += [info for base in names if (info := _entry(fd, base)) is not None]
                    if len(names) < wanted:
                        break
                    after = names[-1]
            except OSError as error:
                raise from_os_error(error, reading=True) from error
        return found

    # --- notes of this machine, in the own folder ---------------------------------------------

    def read_note(self, name: str) -> bytes:
        """At most 64 KiB. Raises NotFound, StorageError."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.own_fd)
            with os.fdopen(fd, "rb") as file:
                return file.read(1 << 16)
        except FileNotFoundError as error:
            raise NotFound from error
        except OSError as error:
            raise from_os_error(error) from error

    def write_note(self, name: str, data: bytes) -> None:
        """Replaces it as a whole; not synced. Raises StorageError."""
        temporary, flags = f"{name}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        folder = self.own_fd
        try:
            fd = os.open(temporary, flags | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise from_os_error(error) from error

    def space(self) -> Space:
        try:
            status = os.statvfs(self.root_fd)
        except OSError as error:
            raise from_os_error(error) from error
        return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    def probe(self) -> None:
        self.refresh()
        staged = self.stage()
        try:
            staged.write(memoryview(b"probe"), 0)
        finally:
            staged.discard()
        mode = os.W_OK | os.X_OK
        try:
            self._probe_uploads()
            # Asked and not tried: whoever watches the folder would see a file come and go.
            may_write = os.access(".", mode, dir_fd=self.root_fd, effective_ids=True)
        except OSError as error:
            raise from_os_error(error) from error
        if not may_write:
            raise StorageDenied(f"The server may not write to {self.root}.")

    def _probe_uploads(self) -> None:
        name = f"{secrets.token_hex(8)}.probe"  # no id, so a sweep does not look at it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.uploads_fd)
        try:
            os.unlink(name, dir_fd=self.uploads_fd)
        finally:
            close_quietly(fd)

    def close(self) -> None:
        self.own.close()


def _never(name: str) -> bool:
    return False


def _entry(folder_fd: int, base: str) -> FileInfo | None:
    """A plain file or folder; None for links, devices and what has just gone."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(on_disk(base), dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            mark = mark_in(folder_fd, base, status.st_size) if status.st_size else None
            return info_of(base, status, mark)
        if stat.S_ISDIR(status.st_mode):
            return info_of(base, status)
    return None
