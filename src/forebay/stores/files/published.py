"""Published files in a store of files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import stat

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.errors import NotAFolder, NotFound, from_os_error
from forebay.model import FileInfo
from forebay.stores.base import Publication, Reader
from forebay.stores.files.folders import close_quietly, sync
from forebay.stores.files.place import Place, check_id
from forebay.stores.files.publish import identity_of, info_of
from forebay.stores.naming import check_path, on_disk, split
from forebay.stores.reading import DescriptorReader

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE}


class PublishedFiles(Place):
    """The published half of `FileStore`: see `Files`."""

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        folder, base = split(name)
        try:
            with self.folders.opened(folder) as folder_fd:
                final = os.stat(on_disk(base), dir_fd=folder_fd, follow_symlinks=False)
                attribute = self._attribute_in(folder_fd, base)
                found = identity_of(folder_fd, base)
                if identity:
                    same = found == identity
                else:  # recorded by 0.1.0: the staging name is there as well
                    check_id(upload_id)
                    staged = os.stat(upload_id, dir_fd=self.uploads_fd, follow_symlinks=False)
                    same = os.path.samestat(staged, final)
                if not same:
                    return None
                if self.strict:
                    sync(folder_fd)
                return dataclasses.replace(info_of(name, final, attribute), identity=found)
        except (FileNotFoundError, NotFound, NotAFolder):
            return None
        except OSError as error:
            raise from_os_error(error) from error

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
                info = self._entry(folder_fd, base)
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
            info = info_of(name, status, self._attribute(fd))
        except OSError as error:
            close_quietly(fd)
            raise from_os_error(error, reading=True) from error
        except BaseException:
            close_quietly(fd)
            raise
        return DescriptorReader(fd, info)

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
                    names = self.names.after(fd, after, wanted, since)
                    found += [info for base in names if (info := self._entry(fd, base)) is not None]
                    if len(names) < wanted:
                        break
                    after = names[-1]
            except OSError as error:
                raise from_os_error(error, reading=True) from error
        return found

    def _entry(self, folder_fd: int, base: str) -> FileInfo | None:
        """A plain file or folder; None for links, devices and what has just gone."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(on_disk(base), dir_fd=folder_fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                attribute = self._attribute_in(folder_fd, base) if status.st_size else b""
                return info_of(base, status, attribute)
            if stat.S_ISDIR(status.st_mode):
                return info_of(base, status)
        return None

    def _attribute_in(self, folder_fd: int, base: str) -> bytes:
        return self._attribute(b"/proc/self/fd/%d/%s" % (folder_fd, on_disk(base)))

    def _attribute(self, file: int | bytes) -> bytes:
        """By descriptor or path (no link is followed); b"" for a file without one."""
        if not self.attribute:
            return b""
        try:
            if isinstance(file, int):
                return os.getxattr(file, self.attribute)
            return os.getxattr(file, self.attribute, follow_symlinks=False)
        except (OSError, AttributeError):  # none, or no support for any
            return b""

    def holds_attributes(self) -> bool:
        """Tried with a file in the own folder. Raises StorageError when nothing can be written."""
        name = secrets.token_hex(16)
        try:
            with contextlib.ExitStack() as stack:
                # Named, so that it is read as in a listing; locked, so that no sweep removes it.
                fd = self.create_locked(name, self.tmp_fd)
                stack.callback(os.close, fd)
                stack.callback(os.unlink, name, dir_fd=self.tmp_fd)
                os.setxattr(fd, self.attribute, b"1")
                return self._attribute_in(self.tmp_fd, name) == b"1"
        except AttributeError:
            return False
        except OSError as error:
            if error.errno in _UNWRITABLE:
                raise from_os_error(error) from error
            return False
