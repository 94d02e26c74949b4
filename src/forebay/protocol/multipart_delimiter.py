"""Finding the delimiter of a form in a buffer, quickly whatever the buffer holds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

_WINDOW = 64 << 10
_TWO_WAY_FROM = 30_000
"""From this size on `bytes.find` looks for a needle of this length with two-way search."""
_LINES = 32
_SAMPLES = 256
_PAIRS = 32


class DelimiterFinder:
    """Finds the delimiter at the speed of `memmem`, also where someone wants it slow.

    What has no CR is skipped by memchr. On random bytes glibc's `memmem` does 12 to 25 GB/s;
    CPython's `find` (two-way), for where there is no glibc, 5 to 10. Both fall on text made for
    it, `memmem` to 0.5 (zeros can be such a text), `find` to 0.2. `rfind` (Horspool from the
    first byte) does less on random bytes, but as nothing in the delimiter repeats its first
    byte, the CR, it hardly compares and stays above 0.6. Samples decide.
    """

    __slots__ = ("_salt", "_slow", "_slow_pairs", "delimiter", "size")

    def __init__(self, delimiter: bytes) -> None:
        self.delimiter = delimiter
        self.size = len(delimiter)
        self._slow = _slow_bytes(delimiter)
        self._slow_pairs = _slow_pairs(delimiter)
        # Of this process alone (`hash`), so that no body can be made to look well in samples.
        self._salt = hash(delimiter) % 32

    def find(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Where in `data[position:end]` the first whole delimiter begins, -1 if nowhere."""
        delimiter, size = self.delimiter, self.size
        position = data.find(b"\r", position, end)
        if position >= 0 and self._suits_two_way(data, position, end):
            quick = memmem()
            if quick is not None and self._suits_memmem(data, position, end):
                return quick(data, position, end, delimiter)
            return data.find(delimiter, position, end)
        if position >= 0:
            at, whole = self._by_line_feeds(data, position, end)
            if whole:
                return at
            position = at
        while 0 <= position <= end - size:
            stop = min(position + _WINDOW, end)
            last = data.rfind(delimiter, position, stop)
            if last >= 0:
                # Which is first may take a slow search, but delimiters are counted.
                return data.find(delimiter, position, last + size)
            position = data.find(b"\r", stop - size + 1, end)
        return -1

    def _by_line_feeds(self, data: bytes | bytearray, position: int, end: int) -> tuple[int, bool]:
        """Looks at the lines of a text that has few: where the delimiter begins, or -1, and True;
        else how far it came, and False. Text without line feeds passes at the speed of memchr.
        """
        at = data.find(b"\n", position + 1, end)
        for _ in range(_LINES):
            if at < 0:
                return -1, True
            if data.startswith(self.delimiter, at - 1, end):
                return at - 1, True
            at = data.find(b"\n", at + 1, end)
        return (-1, True) if at < 0 else (at - 1, False)

    def _suits_two_way(self, data: bytes | bytearray, position: int, end: int) -> bool:
        if end - position < _TWO_WAY_FROM:
            return False
        sample = data[position : end : (end - position) // _SAMPLES + self._salt]
        return 4 * len(sample.translate(None, self._slow)) > 3 * len(sample)

    def _suits_memmem(self, data: bytes | bytearray, position: int, end: int) -> bool:
        step = (end - position) // _PAIRS + self._salt
        slow, found = self._slow_pairs, 0
        # As in `_hash2`; written out, as calls would cost more than the search of a small buffer.
        for first, second in zip(data[position:end:step], data[position + 1 : end : step]):  # noqa: B905
            if second - (first << 3) & 255 in slow:
                found += 1
        return 4 * found <= _PAIRS

    def partial(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Where at the end of `data[position:end]` a delimiter may have begun, else `end`."""
        cut = data.rfind(b"\r", max(position, end - self.size + 1), end)
        return cut if cut >= 0 and self.delimiter.startswith(data[cut:end]) else end


def _slow_bytes(needle: bytes) -> bytes:
    """The bytes at which two-way search moves on by less than 4 (CPython's `fastsearch.h`).

    Like CPython it tells bytes apart by their six low bits. This is of weight for speed only.
    """
    classes = {byte & 63 for byte in needle[-4:-1]}
    return bytes(one + high for one in classes for high in (0, 64, 128, 192))


def _slow_pairs(needle: bytes) -> frozenset[int]:
    """Pairs at which glibc's `memmem` moves on by less than 10, by its `hash2`: a step of its
    takes about 5 ns.
    """
    return frozenset(_hash2(*pair) for pair in itertools.pairwise(needle[-11:]))


def _hash2(first: int, second: int) -> int:
    return (second - (first << 3)) & 255


Memmem = Callable[[bytes | bytearray, int, int, bytes], int]


@functools.cache
def memmem() -> Memmem | None:
    """`data.find(needle, start, end)` by the C library, None where its own is not the quick one.

    glibc has the quick one since 2.29; others search byte by byte. Not loaded before the
    first form: ctypes takes its time.
    """
    import ctypes

    try:
        library = ctypes.CDLL(None)
        version = library.gnu_get_libc_version
        version.restype = ctypes.c_char_p
        if tuple(map(int, version().decode().split(".")[:2])) < (2, 29):
            return None
        search = library.memmem
    except (OSError, AttributeError, ValueError):
        return None
    search.restype = ctypes.c_void_p
    search.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

    def find(data: bytes | bytearray, start: int, end: int, needle: bytes) -> int:
        if not 0 <= start <= end <= len(data):
            raise IndexError("memmem: outside of the buffer")
        if start == end:
            return -1  # an empty buffer has no address
        if isinstance(data, bytearray):
            kept: object = ctypes.c_char.from_buffer(data)  # it cannot be resized meanwhile
            first = ctypes.addressof(kept)  # type: ignore[arg-type]
        else:
            kept = ctypes.c_char_p(data)
            first = ctypes.cast(kept, ctypes.c_void_p).value or 0
        found = search(first + start, end - start, needle, len(needle))
        return -1 if found is None else found - first

    return find
