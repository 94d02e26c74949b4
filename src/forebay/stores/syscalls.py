"""Two Linux calls that the standard library does not have. Elsewhere they do nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache
from typing import Any

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_LARGEST = 2**63 - 1
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE}


@cache
def _libc() -> Any | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        libc.sync_file_range.argtypes = [
            ctypes.c_int,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_uint,
        ]
    except (OSError, AttributeError):
        return None
    return libc


def reserve_blocks(fd: int, size: int) -> bool:
    """Allocates blocks for bytes 0 to `size` of `fd` without changing its length.

    Never the emulation of posix_fallocate, which writes every byte. Returns False where the
    filesystem cannot; raises OSError (ENOSPC, EDQUOT, EFBIG) where it will not.
    """
    if size > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # ctypes would cut it short
    libc = _libc()
    if libc is None or size <= 0:
        return False
    while libc.fallocate(fd, _KEEP_SIZE, 0, size) != 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number in _UNSUPPORTED:
            return False
        raise OSError(number, os.strerror(number))
    return True


def start_writeback(fd: int, offset: int, size: int) -> None:
    """Asks the kernel to begin writing that range to the disk; does not wait for it.

    Says nothing about durability: an error shows in the fsync that follows.
    """
    libc = _libc()
    if libc is not None:
        libc.sync_file_range(fd, offset, size, _WRITE)
