"""The descriptors of a store's root and of its own folders `.forebay/`, `uploads/` and `tmp/`.

They are opened when they are needed, so that files can be read from a full or read-only disk. When
the folders are removed and made anew, the descriptors are switched to the new ones, and at no
moment is their number that of something else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading

from forebay.errors import StorageFailed, from_os_error
from forebay.stores.files.folders import close_quietly, make_root, open_folder

OWN_FOLDER = ".forebay"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclasses.dataclass(slots=True)
class Descriptors:
    """`unnamed`: whether staged files need no name in them; None until that was tried."""

    own: int
    uploads: int
    tmp: int
    unnamed: bool | None = None

    def numbers(self) -> tuple[int, int, int]:
        return self.own, self.uploads, self.tmp


class OwnFolders:
    """Thread-safe. `root`: the absolute path that is served."""

    def __init__(self, root: str, strict: bool) -> None:
        self.root = root
        self.root_fd = -1
        self._strict = strict
        self._fds: Descriptors | None = None
        self._lock = threading.Lock()
        self._closed = False

    def open_root(self, mode: int) -> None:
        """Makes it when it is missing. Raises OSError."""
        make_root(self.root, mode, strict=self._strict)
        self.root_fd = os.open(self.root, _FLAGS)

    def fds(self) -> Descriptors:
        """Those of the own folders, made when they are missing. Raises StorageError."""
        found = self._fds
        if found is not None:
            return found
        with self._lock:
            if self._closed:
                raise StorageFailed("The store is closed.")
            if self._fds is None:
                try:
                    self._fds = self._open()
                except OSError as error:
                    raise from_os_error(error) from error
            return self._fds

    def _open(self) -> Descriptors:
        with contextlib.ExitStack() as opened:
            own = open_folder(self.root_fd, OWN_FOLDER, 0o700)
            opened.callback(close_quietly, own)
            uploads = open_folder(own, "uploads", 0o700)
            opened.callback(close_quietly, uploads)
            tmp = open_folder(own, "tmp", 0o700)
            opened.callback(close_quietly, tmp)
            device = os.fstat(self.root_fd).st_dev
            if any(os.fstat(fd).st_dev != device for fd in (own, uploads, tmp)):
                raise StorageFailed(
                    f"{self.root}/{OWN_FOLDER} must be on the filesystem of {self.root}: "
                    "files cannot be published across two."
                )
            if self._strict:
                os.fsync(own)
                os.fsync(self.root_fd)
            opened.pop_all()
            return Descriptors(own, uploads, tmp)

    def refresh(self) -> bool:
        """See `FileStore.refresh`. Raises StorageFailed when the root is gone, StorageError,
        OSError.
        """
        with self._lock:
            if self._closed:
                return False
            changed = self._refresh_root()
            if self._fds is not None and (changed or self._is_gone(self._fds)):
                fresh = self._open()
                try:
                    for new, old in zip(fresh.numbers(), self._fds.numbers(), strict=True):
                        os.dup2(new, old, inheritable=False)
                finally:
                    for fd in fresh.numbers():
                        close_quietly(fd)
                self._fds.unnamed = None
                changed = True
        return changed

    def _refresh_root(self) -> bool:
        try:
            if os.path.samestat(os.stat(self.root), os.fstat(self.root_fd)):
                return False
            fd = os.open(self.root, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StorageFailed(
                f"The folder {self.root} is not there any more; make it again."
            ) from error
        try:
            os.dup2(fd, self.root_fd, inheritable=False)
        finally:
            close_quietly(fd)
        return True

    def _is_gone(self, fds: Descriptors) -> bool:
        """Whether one of them is not what its path leads to any more."""
        places = (
            (fds.own, OWN_FOLDER, self.root_fd),
            (fds.uploads, "uploads", fds.own),
            (fds.tmp, "tmp", fds.own),
        )
        try:
            return not all(
                os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=parent, follow_symlinks=False))
                for fd, name, parent in places
            )
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._closed = True
            fds, self._fds = self._fds, None
            root, self.root_fd = self.root_fd, -1
        for fd in (*(fds.numbers() if fds is not None else ()), root):
            if fd >= 0:
                close_quietly(fd)
