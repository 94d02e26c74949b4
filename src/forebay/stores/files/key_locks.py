"""Locks that all processes of a store share, by key and without a file for each."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable

_FLOCK = "hhqqi0q"
"""`struct flock` of fcntl(2): type, whence, start, length, process."""


def try_lock(path: str, folder_fd: int, key: str) -> Callable[[], None] | None:
    """Locks `key` in the file `path` of a folder. What lets go of it; None when it is locked.

    The lock is one byte of the file, and belongs to a descriptor of its own: it holds between
    threads too, and is free the moment its process dies. Raises OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
    try:
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        position = int.from_bytes(digest, "big") >> 2
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    except BaseException:
        os.close(fd)
        raise

    def release() -> None:
        os.close(fd)

    return release
