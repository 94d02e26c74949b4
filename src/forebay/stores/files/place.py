"""The folders of one store, and what all that works in them has to know.

.forebay/uploads/ID      data of resumable uploads, each locked by its writer
.forebay/tmp/            named temporaries where there is no O_TMPFILE, locked as well
.forebay/names.lock      held while a file is replaced or deleted
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import threading
from collections.abc import Callable

from forebay.errors import (
    DiskFull,
    NoDescriptors,
    NotFound,
    QuotaExceeded,
    StorageDenied,
    from_os_error,
)
from forebay.model import Durability
from forebay.stores.base import Space
from forebay.stores.files.flock import lock_soon
from forebay.stores.files.folders import Folders, close_quietly
from forebay.stores.files.layout import OwnFolders
from forebay.stores.files.publish import Publisher, link_unnamed
from forebay.stores.files.sorted_names import SortedNames

_TMPFILE = getattr(os, "O_TMPFILE", 0)

_PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
)


ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
"""Of uploads: the names of their data."""


def check_id(upload_id: str) -> None:
    """Raises NotFound for what no upload can be called."""
    if not ID.match(upload_id):
        raise NotFound


class Place:
    """See `forebay.stores.files.store.FileStore` for the arguments."""

    binds_names = False

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
        attribute: str = "",
    ) -> None:
        self.root = os.path.abspath(root)
        self.durability = durability
        self.strict = durability is Durability.STRICT
        self.min_free = min_free
        self.file_mode = file_mode
        self.staging_mode = file_mode | 0o600  # we must be able to open it again
        self.attribute = attribute
        self._wants_unnamed = unnamed and bool(_TMPFILE)
        self.own = OwnFolders(self.root, self.strict)
        self.names = SortedNames()
        self.taking_room = threading.Lock()
        """Held while room is judged and taken, so that many uploads together leave `min_free`."""
        self.generation = 0
        """Rises whenever folders of it were found to be made anew."""
        try:
            self.own.open_root(folder_mode)
            self.folders = Folders(self.root_fd, mode=folder_mode, strict=self.strict)
            self.publisher = Publisher(
                self.folders, own=lambda: self.own_fd, strict=self.strict, numbered=numbered
            )
            with contextlib.suppress(DiskFull, QuotaExceeded, StorageDenied, NoDescriptors):
                _ = self.unnamed  # opens the own folders too; else they are opened when needed
        except OSError as error:
            self.close()
            raise from_os_error(error) from error
        except BaseException:
            self.close()
            raise

    @property
    def root_fd(self) -> int:
        return self.own.root_fd

    @property
    def own_fd(self) -> int:
        """Raises StorageError while the store's own folder cannot be opened."""
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

    def retried(self, make: Callable[[], int]) -> int:
        """What `make` opens; when our folders were removed, in those that are made anew.

        Raises StorageError, OSError.
        """
        try:
            return make()
        except (FileNotFoundError, PermissionError):  # EPERM: ext4, of a file without a name
            if not self.refresh():
                raise
            return make()

    def open_unnamed(self) -> int:
        """A new file without a name. Raises StorageError, OSError."""
        return os.open(".", os.O_RDWR | _TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=self.own_fd)

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

    def space(self) -> Space:
        try:
            status = os.statvfs(self.root_fd)
        except OSError as error:
            raise from_os_error(error) from error
        return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    def close(self) -> None:
        self.own.close()
