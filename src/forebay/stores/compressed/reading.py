"""Reading a file that is compressed at rest: as its content, or as its frames."""

from __future__ import annotations

import dataclasses

from forebay.model import FileInfo
from forebay.stores.base import Reader
from forebay.stores.compressed.seekable import Unpacker


class DecodedReader:
    """See `forebay.stores.base.Reader` and `Encoded`.

    Nothing is held between two reads: what a slow client waits for costs no memory.

    Args:
        stored: the file as it is stored, which is closed with this.
        info: what it holds.
    """

    coding = "zstd"

    def __init__(self, stored: Reader, info: FileInfo, unpacker: Unpacker) -> None:
        self.info = info
        self._stored = stored
        self._unpacker = unpacker

    def fileno(self) -> int | None:
        return None

    def read_into(self, buffer: memoryview, offset: int) -> int:
        if offset >= self.info.size or not len(buffer):
            return 0
        data = self._unpacker.read(self._stored, self.info, offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def encoded(self) -> Reader:
        size = self._unpacker.coded_size(self._stored, self.info)
        return _Frames(self._stored, dataclasses.replace(self.info, size=size))

    def close(self) -> None:
        self._stored.close()


class _Frames:
    """The start of a stored file, without the table behind its frames."""

    def __init__(self, stored: Reader, info: FileInfo) -> None:
        self.info = info
        self._stored = stored

    def fileno(self) -> int | None:
        return self._stored.fileno()

    def read_into(self, buffer: memoryview, offset: int) -> int:
        left = max(0, self.info.size - offset)
        return self._stored.read_into(buffer[:left], offset) if left else 0

    def close(self) -> None:
        """The file is closed with the reader that this came from."""
