"""The zstd seekable format: frames that can each be decoded alone, and a table of them.

Any zstd program reads such a file from its start (the table is a frame that decoders skip);
we read it from anywhere. The layout is that of `seekable_format.md` in zstd's own sources.
Frames follow RFC 8878, with checksums, and stay within the window of RFC 9659, so that they
can be sent as `Content-Encoding: zstd` too.
"""

from __future__ import annotations

import functools
import struct
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Generic, TypeVar

from forebay.errors import ConfigError, StorageFailed
from forebay.model import FileInfo, MiB
from forebay.stores.base import Reader

T = TypeVar("T")

FRAME = 2 * MiB
"""Bytes of content in each frame but the last."""
LEVEL = 3

_LARGEST_FRAME = 16 * MiB
_SKIPPABLE = struct.Struct("<II")
_SKIPPABLE_MAGIC = 0x184D2A5E
_FOOTER = struct.Struct("<IBI")
_SEEKABLE_MAGIC = 0x8F92EAB1
_MOST_FRAMES = 0x8000000


@functools.cache
def zstd() -> Any:
    """The standard library's module, or its backport. Raises ConfigError without either."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd as module
        else:
            from backports import zstd as module
    except ImportError as error:
        raise ConfigError(
            "Files compressed at rest (--compress-at-rest) need the zstd module: "
            "pip install 'forebay[zstd]'"
        ) from error
    return module


def _module() -> Any:
    """As `zstd`, for a request: it fails, and the server goes on."""
    try:
        return zstd()
    except ConfigError as error:
        raise StorageFailed(error.message) from error


def compress_frame(data: memoryview) -> bytes:
    """One frame of at most `FRAME` bytes, with a checksum."""
    module = zstd()
    parameter = module.CompressionParameter
    options = {parameter.compression_level: LEVEL, parameter.checksum_flag: 1}
    compressor = module.ZstdCompressor(options=options)
    frame: bytes = compressor.compress(data, compressor.FLUSH_FRAME)
    return frame


class Sizes:
    """The sizes of frames as they are written, and the table made of them."""

    def __init__(self) -> None:
        self._sizes = array("I")

    def add(self, compressed: int, content: int) -> None:
        self._sizes.extend((compressed, content))

    def table(self) -> bytes:
        """What goes behind the last frame."""
        count = len(self._sizes) // 2
        body = _little_endian(self._sizes).tobytes() + _FOOTER.pack(count, 0, _SEEKABLE_MAGIC)
        return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(body)) + body


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers = array("I", numbers)
        numbers.byteswap()
    return numbers


class Table:
    """Where each frame of a file begins."""

    def __init__(self, starts: array[int], frame: int, size: int) -> None:
        self.starts = starts
        """Of every frame, and of the table behind them."""
        self.frame = frame
        self.size = size

    @property
    def coded_size(self) -> int:
        """Bytes of all frames, without the table."""
        return self.starts[-1]

    @classmethod
    def read(cls, file: Reader, stored: int, size: int) -> Table:
        """Of a file of `stored` bytes that holds `size` bytes of content.

        Raises StorageFailed for a file that is damaged, or was changed by others.
        """
        count, descriptor, magic = _FOOTER.unpack(_exactly(file, stored - 9, 9, stored))
        body = count * 8 + _FOOTER.size
        begin = stored - body - _SKIPPABLE.size
        if magic != _SEEKABLE_MAGIC or descriptor & 0x83 or not 0 < count < _MOST_FRAMES:
            raise _damaged("it has no seek table")
        head = _SKIPPABLE.unpack(_exactly(file, begin, _SKIPPABLE.size, stored))
        if head != (_SKIPPABLE_MAGIC, body):
            raise _damaged("it has no seek table")
        numbers = array("I")
        numbers.frombytes(_exactly(file, begin + _SKIPPABLE.size, count * 8, stored))
        numbers = _little_endian(numbers)
        starts = array("Q", accumulate(numbers[0::2], initial=0))
        contents = numbers[1::2]
        frame = contents[0]
        # Of one size, so that a division finds the frame of a byte.
        alike = contents[:-1].count(frame) == count - 1 and 0 < contents[-1] <= frame
        if not alike or frame > _LARGEST_FRAME or sum(contents) != size or starts[-1] != begin:
            raise _damaged("its seek table does not fit it")
        return cls(starts, frame, size)


def _exactly(file: Reader, start: int, size: int, stored: int) -> memoryview:
    if start < 0 or start + size > stored:
        raise _damaged("it is too short")
    data, done = memoryview(bytearray(size)), 0
    while done < size:
        got = file.read_into(data[done:], start + done)
        if not got:
            raise _damaged("it is too short")
        done += got
    return data


def _damaged(why: str) -> StorageFailed:
    return StorageFailed(f"The file is compressed at rest and cannot be read: {why}.")


class Unpacker:
    """Reads content from anywhere in compressed files. In threads; thread-safe.

    Caches what was decoded last, `budget` bytes for all together: a slow client, or many
    connections to one file, do not make a frame be decoded again for each piece.
    """

    def __init__(self, budget: int = 16 * MiB, entries: int = 1 << 20) -> None:
        self._frames: _Cache[bytes] = _Cache(budget, len)
        self._tables: _Cache[Table] = _Cache(entries, lambda table: len(table.starts))

    def coded_size(self, file: Reader, info: FileInfo) -> int:
        """Bytes at the start of the file that are its content, coded by zstd.

        Raises StorageFailed.
        """
        _module()
        return self._table(file, info).coded_size

    def read(self, file: Reader, info: FileInfo, start: int, size: int) -> memoryview:
        """At least one and at most `size` bytes of content from `start` on, which is in it.

        Raises StorageFailed.
        """
        table = self._table(file, info)
        number, offset = divmod(start, table.frame)
        key = (info.tag, number)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._decode(file, table, number)
            self._frames.put(key, frame)
        return memoryview(frame)[offset : offset + size]

    def _table(self, file: Reader, info: FileInfo) -> Table:
        assert info.stored_size is not None
        table = self._tables.get((info.tag, 0))
        if table is None:
            table = Table.read(file, info.stored_size, info.size)
            self._tables.put((info.tag, 0), table)
        return table

    def _decode(self, file: Reader, table: Table, number: int) -> bytes:
        start, stop = table.starts[number], table.starts[number + 1]
        expected = min(table.frame, table.size - number * table.frame)
        if stop - start > 2 * _LARGEST_FRAME:
            raise _damaged("a frame is too large")
        module = _module()
        decoder = module.ZstdDecompressor()
        try:
            # One byte more: what decodes to too much is damaged as well.
            frame: bytes = decoder.decompress(
                _exactly(file, start, stop - start, table.starts[-1]), expected + 1
            )
        except module.ZstdError as error:
            raise _damaged("a frame is damaged") from error
        if len(frame) != expected or not decoder.eof:
            raise _damaged("a frame has another length than it should")
        return frame


class _Cache(Generic[T]):
    """What was used last, up to a total weight; always the very last. Thread-safe."""

    def __init__(self, most: int, weigh: Callable[[T], int]) -> None:
        self._most = most
        self._weigh = weigh
        self._lock = threading.Lock()
        self._held = 0
        self._values: OrderedDict[tuple[str, int], T] = OrderedDict()

    def get(self, key: tuple[str, int]) -> T | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: tuple[str, int], value: T) -> None:
        with self._lock:
            if key in self._values:
                return
            self._values[key] = value
            self._held += self._weigh(value)
            while self._held > self._most and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self._held -= self._weigh(dropped)
