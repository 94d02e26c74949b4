"""Readers of open files, and what else is made of a `Reader`: bytes, a file object, a map."""

from __future__ import annotations

import io
import mmap
import os
from typing import Any, BinaryIO, cast

from forebay.errors import StorageFailed, from_os_error
from forebay.model import FileInfo, MiB
from forebay.stores.base import Reader

_BUFFER = MiB
"""Bytes that a file object without a descriptor reads at a time."""


class DescriptorReader:
    """See `forebay.stores.base.Reader`. The bytes behind the descriptor `fd`, which it closes."""

    __slots__ = ("_fd", "info")

    def __init__(self, fd: int, info: FileInfo) -> None:
        self._fd = fd
        self.info = info

    def fileno(self) -> int | None:
        return self._fd

    def read_into(self, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise from_os_error(error, reading=True) from error

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_bytes(reader: Reader, offset: int, size: int) -> bytes:
    """At most `size` bytes from `offset` on; b"" at the end. Raises StorageError."""
    buffer = bytearray(size)
    got = reader.read_into(memoryview(buffer), offset)
    return bytes(memoryview(buffer)[:got])


def as_file(reader: Reader) -> BinaryIO:
    """A seekable file object at the start of the content, which closes the reader.

    Not for the event loop. Raises StorageError, also while it is read.
    """
    fd = reader.fileno()
    if fd is None:
        return cast("BinaryIO", io.BufferedReader(_RawFile(reader), _BUFFER))
    try:
        return os.fdopen(os.dup(fd), "rb")
    except OSError as error:
        raise from_os_error(error, reading=True) from error
    finally:
        reader.close()


def as_map(reader: Reader, size: int) -> mmap.mmap:
    """The first `size` bytes, at least one, as memory that is only read. The reader may be closed
    then. Raises StorageError.
    """
    fd = reader.fileno()
    try:
        if fd is not None:
            return mmap.mmap(fd, size, prot=mmap.PROT_READ)
        area = mmap.mmap(-1, size)
    except (OSError, ValueError) as error:
        raise StorageFailed(str(error)) from error
    with memoryview(area) as view:
        done = 0
        while done < size:
            got = reader.read_into(view[done:], done)
            if not got:
                raise StorageFailed("The data is shorter than it was.")
            done += got
    return area


class _RawFile(io.RawIOBase):
    """A reader without a descriptor as a file object."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer).cast("B") as view:
            got = self._reader.read_into(view, self._position)
        self._position += got
        return got

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self._reader.info.size
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence]
        if start + offset < 0:
            raise ValueError("negative position")
        self._position = start + offset
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
