"""Reading a published file as its content, however it is stored."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO, cast

from forebay.model import FileInfo
from forebay.stores.compressed.seekable import FRAME, Unpacker


def open_content(fd: int, info: FileInfo) -> BinaryIO:
    """A seekable reader of the content behind what `Store.open` gave; it closes `fd`.

    Not for the event loop. Reading raises StorageFailed when the file is damaged.
    """
    if info.stored_size is None:
        return os.fdopen(fd, "rb")
    return cast("BinaryIO", io.BufferedReader(_Unpacked(fd, info), 64 << 10))


class _Unpacked(io.RawIOBase):
    """The content of a file that is compressed at rest."""

    def __init__(self, fd: int, info: FileInfo) -> None:
        self._fd = fd
        self._info = info
        self._unpacker = Unpacker(budget=FRAME)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer).cast("B") as view:
            if self._position >= self._info.size or not len(view):
                return 0
            data = self._unpacker.read(self._fd, self._info, self._position, len(view))
            view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._info.size}[whence]
        if start + offset < 0:
            raise ValueError("negative position")
        self._position = start + offset
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
