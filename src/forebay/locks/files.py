"""Locks of the processes of one machine: a byte of one file for each key."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable

from forebay.errors import from_os_error
from forebay.locks.base import Lock

NAME = "jobs.lock"

_FLOCK = "hhqqi0q"
"""`struct flock` of fcntl(2): type, whence, start, length, process."""


class FileLocks:
    """See `forebay.locks.base.Locks`.

    A lock belongs to a descriptor of its own: it holds between threads too, and is free the moment
    its process dies.

    Args:
        folder: gives the descriptor of the folder that the file is in; may raise StorageError.
    """

    def __init__(self, folder: Callable[[], int]) -> None:
        self._folder = folder

    def try_acquire(self, key: str) -> Lock | None:
        folder = self._folder()
        try:
            fd = os.open(NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
            locked = False
            try:
                digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
                position = int.from_bytes(digest, "big") >> 2
                wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
                locked = True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            finally:
                if not locked:
                    os.close(fd)
        except OSError as error:
            raise from_os_error(error) from error
        return _Held(fd) if locked else None


class _Held:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        os.close(self._fd)
