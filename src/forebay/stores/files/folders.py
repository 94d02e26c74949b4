"""Walking to a folder by descriptors, so that no name and no link leads out of the root.

Every step is opened relative to the one before with O_NOFOLLOW (invariant 8): a symbolic
link anywhere in the path is refused, also one that is put there between two steps.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import stat
from collections.abc import Iterator

from forebay.errors import NotAFolder, NotFound, SyncFailed, UploadError, from_os_error
from forebay.stores.naming import from_disk, on_disk

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KNOWN_DURABLE = 4096


MADE = "user.forebay.made"
"""An attribute of folders that were made for an upload, and go when they are empty."""


class Folders:
    """The folders under one root. Thread-safe."""

    def __init__(self, root_fd: int, *, mode: int, strict: bool) -> None:
        self.root_fd = root_fd
        self._mode = mode
        self._strict = strict
        # (inode, inode of parent) of folders whose entry in the parent is known to be synced.
        # A folder that merely exists may have been made by a sibling that has not synced yet.
        self._durable: dict[tuple[int, int], None] = {}
        self.reset()

    def reset(self) -> None:
        """After the root's descriptor was made to stand for another folder. Raises OSError."""
        self._device = os.fstat(self.root_fd).st_dev
        self._durable.clear()

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
            close_quietly(fd)

    def prune(self, path: str) -> None:
        """Removes the folder `path`, and those above it, as far as they are empty and were made
        for an upload; what an operator made stays. Raises nothing.
        """
        while path:
            above, _, base = path.rpartition("/")
            with contextlib.suppress(OSError, UploadError):
                with self.opened(path) as fd:
                    os.getxattr(fd, MADE)
                with self.opened(above) as parent:
                    os.rmdir(on_disk(base), dir_fd=parent)
                path = above
                continue
            return

    def _walk(self, path: str, create: bool) -> int:
        current = self.root_fd
        try:
            for part in path.split("/"):
                below = self._step(current, part, create)
                above, current = current, below
                if above != self.root_fd:
                    close_quietly(above)
        except BaseException:
            if current != self.root_fd:
                close_quietly(current)
            raise
        return current

    def _step(self, parent: int, part: str, create: bool) -> int:
        made = False
        try:
            try:
                fd = os.open(on_disk(part), OPEN_FOLDER, dir_fd=parent)
            except FileNotFoundError:
                if not create:
                    raise
                fd, made = make_folder(parent, part, self._mode)
                if made:
                    with contextlib.suppress(OSError):  # then it stays when it is empty
                        os.setxattr(fd, MADE, b"1")
        except FileNotFoundError as error:
            raise NotFound(f"There is no folder {part!r} here.") from error
        except OSError as error:
            # O_NOFOLLOW with O_DIRECTORY answers ENOTDIR for a link as for a file.
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotAFolder(f"{part!r} is not a folder and cannot hold files.") from error
            raise from_os_error(error, reading=not create) from error
        try:
            self._check_device(fd, part)
            if create and self._strict:
                self._make_durable(parent, fd, made)
        except OSError as error:
            close_quietly(fd)
            raise from_os_error(error) from error
        except BaseException:
            close_quietly(fd)
            raise
        return fd

    def _check_device(self, fd: int, part: str) -> None:
        if os.fstat(fd).st_dev != self._device:
            raise NotAFolder(
                f"The folder {part!r} is on another filesystem; files cannot be published there."
            )

    def _make_durable(self, parent: int, fd: int, made: bool) -> None:
        key = (os.fstat(fd).st_ino, os.fstat(parent).st_ino)
        # A folder just made may have the inode number of one that was removed.
        if key in self._durable and not made:
            return
        sync(parent)
        if len(self._durable) >= _KNOWN_DURABLE:
            self._durable.clear()
        self._durable[key] = None


def make_folder(parent: int, name: str, mode: int) -> tuple[int, bool]:
    """Opens a folder, and makes it when missing; whether it did. Raises OSError.

    The umask is not applied. A set-group-id bit that the parent hands down stays.
    """
    raw = on_disk(name)
    try:
        os.mkdir(raw, mode, dir_fd=parent)
    except FileExistsError:  # a sibling was quicker
        return os.open(raw, OPEN_FOLDER, dir_fd=parent), False
    fd = os.open(raw, OPEN_FOLDER, dir_fd=parent)
    try:
        given = stat.S_IMODE(os.fstat(fd).st_mode)
        if given & 0o777 != mode & 0o777:
            os.fchmod(fd, mode | given & stat.S_ISGID)
    except BaseException:
        close_quietly(fd)
        raise
    return fd, True


def open_folder(parent: int, name: str, mode: int) -> int:
    """As `make_folder`, but one that is there is not written to: the disk may be full.

    Raises OSError.
    """
    try:
        return os.open(on_disk(name), OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return make_folder(parent, name, mode)[0]


def close_quietly(fd: int) -> None:
    """Closes a descriptor that nothing was written through, or whose data was synced before if
    it had to be: an error then changes no result.
    """
    with contextlib.suppress(OSError):
        os.close(fd)


def make_root(path: str, mode: int, *, strict: bool) -> None:
    """Makes the folder `path` and those above it, where missing. Raises OSError."""
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    os.makedirs(path, mode, exist_ok=True)
    while strict and path != there:
        path = os.path.dirname(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def scan(folder_fd: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a folder. Raises OSError.

    On a descriptor of its own: readers of a shared one share its position too,
    and each would miss what another has read.
    """
    fd = os.open(".", OPEN_FOLDER, dir_fd=folder_fd)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        close_quietly(fd)


def names_after(folder_fd: int, after: str, limit: int) -> list[str]:
    """The first visible names after `after`, sorted. Raises OSError.

    No more than `limit` are held of however large a folder. A name that is not UTF-8 is left
    out: it cannot be asked for, nor written into an answer.
    """
    with scan(folder_fd) as entries:
        names = (from_disk(entry.name) for entry in entries if is_listed(entry))
        return heapq.nsmallest(limit, (name for name in names if name > after))


def is_listed(entry: os.DirEntry[str]) -> bool:
    """Whether it is a visible file or folder.

    Links and devices go here, where the folder itself tells what they are: a page that left
    them out later would read a folder of many links once for each few of them.
    """
    if not is_visible(from_disk(entry.name)):
        return False
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def is_visible(name: str) -> bool:
    """Neither hidden nor impossible to write into an answer."""
    if name.startswith("."):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def sync(fd: int) -> None:
    """fsync that raises SyncFailed."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(errno=error.errno) from error
