"""Linux calls that the standard library does not have, or not with what to do elsewhere."""

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


def reserve_blocks(fd: int, size: int, start: int = 0) -> bool:
    """Allocates blocks for `size` bytes of `fd` from `start` on without changing its length.

    Never the emulation of posix_fallocate, which writes every byte. Returns False where the
    filesystem cannot; raises OSError (ENOSPC, EDQUOT, EFBIG) where it will not.
    """
    if start + size > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # ctypes would cut it short
    libc = _libc()
    if libc is None or size <= 0:
        return False
    while libc.fallocate(fd, _KEEP_SIZE, start, size) != 0:
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


class _Statx(ctypes.Structure):
    """The kernel's `struct statx`, as far as it is read here."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("_blksize", ctypes.c_uint32),
        ("_attributes", ctypes.c_uint64),
        ("_owner", ctypes.c_uint32 * 3),
        ("_mode", ctypes.c_uint16 * 2),
        ("inode", ctypes.c_uint64),
        ("_sizes", ctypes.c_uint64 * 3),
        ("_accessed", ctypes.c_uint64 * 2),
        ("born", ctypes.c_int64),
        ("born_ns", ctypes.c_uint32),
        ("_rest", ctypes.c_uint8 * 164),
    )


_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x100, 0x1000
_STATX_INO, _STATX_BTIME = 0x100, 0x800


@cache
def _statx() -> Any | None:
    libc = _libc()
    try:
        call = libc.statx if libc is not None else None
    except AttributeError:  # an old libc
        return None
    if call is not None:
        call.argtypes = [
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.POINTER(_Statx),
        ]
    return call


def born(folder_fd: int, name: bytes = b"") -> str:
    """When a file was made, as text that means nothing; "" where that is not known.

    Together with its inode it is the file's identity: nothing that is done to a file changes
    it, and another file that gets the inode later has another. `name` b"": the descriptor's own.
    """
    call = _statx()
    if call is None:
        return ""
    found = _Statx()
    flags = _AT_SYMLINK_NOFOLLOW | (0 if name else _AT_EMPTY_PATH)
    failed = call(folder_fd, name, flags, _STATX_INO | _STATX_BTIME, ctypes.byref(found))
    if failed or not found.mask & _STATX_BTIME:
        return ""
    return f"{found.born:x}.{found.born_ns:x}"


_COPY_ELSEWHERE = {*_UNSUPPORTED, errno.EXDEV, errno.EPERM, errno.ETXTBSY}
_COPY_BUFFER = 1 << 20


def copy_range(source: int, start: int, target: int, offset: int, size: int) -> int:
    """Copies at most `size` bytes between two files; how many. 0 at the end of `source`.

    Where the filesystem can, the blocks are shared and nothing is copied (xfs, btrfs).
    """
    copy = getattr(os, "copy_file_range", None)
    if copy is not None:
        try:
            return int(copy(source, target, size, start, offset))
        except OSError as error:
            if error.errno not in _COPY_ELSEWHERE:
                raise
    data = memoryview(os.pread(source, min(size, _COPY_BUFFER), start))
    done = 0
    while done < len(data):
        done += os.pwrite(target, data[done:], offset + done)
    return done
