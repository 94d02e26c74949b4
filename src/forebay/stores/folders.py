"""Walking to a folder by descriptors, so that no name and no link leads out of the root.

Every step is opened relative to the one before with O_NOFOLLOW (invariant 8): a symbolic
link anywhere in the path is refused, also one that is put there between two steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from forebay.errors import NotAFolder, NotFound, SyncFailed, from_os_error

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KNOWN_DURABLE = 4096


class Folders:
    """The folders under one root. Thread-safe."""

    def __init__(self, root_fd: int, *, mode: int, strict: bool) -> None:
        self.root_fd = root_fd
        self._device = os.fstat(root_fd).st_dev
        self._mode = mode
        self._strict = strict
        # (inode, inode of parent) of folders whose entry in the parent is known to be synced.
        # A folder that merely exists may have been made by a sibling that has not synced yet.
        self._durable: dict[tuple[int, int], None] = {}

    @contextlib.contextmanager
    def opened(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `path` ("" is the root), closed afterwards.

        Raises NotFound, NotAFolder, StorageError.
        """
        if not path:
            yield self.root_fd
            return
        fd = self._walk(path, create)
        try:
            yield fd
        finally:
            os.close(fd)

    def _walk(self, path: str, create: bool) -> int:
        current = self.root_fd
        try:
            for part in path.split("/"):
                below = self._step(current, part, create)
                if current != self.root_fd:
                    os.close(current)
                current = below
        except BaseException:
            if current != self.root_fd:
                os.close(current)
            raise
        return current

    def _step(self, parent: int, part: str, create: bool) -> int:
        try:
            fd = self._open_or_make(parent, part, create)
        except FileNotFoundError as error:
            raise NotFound(f"There is no folder {part!r} here.") from error
        except OSError as error:
            # O_NOFOLLOW with O_DIRECTORY answers ENOTDIR for a link as for a file.
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotAFolder(f"{part!r} is not a folder and cannot hold files.") from error
            raise from_os_error(error) from error
        try:
            self._check(parent, fd, part, create)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open_or_make(self, parent: int, part: str, create: bool) -> int:
        try:
            return os.open(part, _OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):  # a sibling was quicker
            os.mkdir(part, self._mode, dir_fd=parent)
        return os.open(part, _OPEN_FOLDER, dir_fd=parent)

    def _check(self, parent: int, fd: int, part: str, create: bool) -> None:
        status = os.fstat(fd)
        if status.st_dev != self._device:
            raise NotAFolder(
                f"The folder {part!r} is on another filesystem; files cannot be published there."
            )
        if not (create and self._strict):
            return
        key = (status.st_ino, os.fstat(parent).st_ino)
        if key in self._durable:
            return
        sync(parent)
        if len(self._durable) >= _KNOWN_DURABLE:
            self._durable.clear()
        self._durable[key] = None


def sync(fd: int) -> None:
    """fsync that raises SyncFailed."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(errno=error.errno) from error
