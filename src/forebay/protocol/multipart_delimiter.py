"""Finds the delimiter of a form in a buffer, fast even in data made to be slow."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

_WINDOW = 64 << 10
_TWO_WAY_FROM = 30_000
"""Bytes of a buffer from which `bytes.find` uses two-way search for such a needle."""
_LINES = 32
_SAMPLES = 256
_PAIRS = 32


class DelimiterFinder:
    """Finds the delimiter with the search that is fastest for the data, which samples decide.

    Data without CR is skipped by memchr. On random bytes glibc's `memmem` reaches 12 to 25 GB/s,
    and CPython's `find` (two-way), used where there is no glibc, 5 to 10. On data made for it
    `memmem` falls to 0.5 (zeros can do that) and `find` to 0.2. `rfind` (Horspool from the first
    byte) is slower on random bytes, but the first byte of the delimiter, CR, occurs in it only
    once, so it stays above 0.6.
    """

    __slots__ = ("_salt", "_slow", "_slow_pairs", "delimiter", "size")

    def __init__(self, delimiter: bytes) -> None:
        self.delimiter = delimiter
        self.size = len(delimiter)
        self._slow = _slow_bytes(delimiter)
        self._slow_pairs = _slow_pairs(delimiter)
        # `hash` differs in each process, so no body can be made to fit the samples.
        self._salt = hash(delimiter) % 32

    def find(self, data: bytes | bytearray, position: int, end: int) -> int:
        """The index of the first whole delimiter in `data[position:end]`, -1 if there is none."""
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
                # Finding the first may be slow, but the number of delimiters is limited.
                return data.find(delimiter, position, last + size)
            position = data.find(b"\r", stop - size + 1, end)
        return -1

    def _by_line_feeds(self, data: bytes | bytearray, position: int, end: int) -> tuple[int, bool]:
        """Looks at the first lines. True, with the index of the delimiter or -1, when that decides;
        else False, with the index to go on at. Data without line feeds passes at memchr speed.
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
        # This is `_hash2`, inlined: calls would cost more than searching a small buffer.
        for first, second in zip(data[position:end:step], data[position + 1 : end : step]):  # noqa: B905
            if second - (first << 3) & 255 in slow:
                found += 1
        return 4 * found <= _PAIRS

    def partial(self, data: bytes | bytearray, position: int, end: int) -> int:
        """The index from which `data[position:end]` may begin a delimiter, `end` if nowhere."""
        cut = data.rfind(b"\r", max(position, end - self.size + 1), end)
        return cut if cut >= 0 and self.delimiter.startswith(data[cut:end]) else end


def _slow_bytes(needle: bytes) -> bytes:
    """The bytes at which two-way search advances by less than 4 (CPython's `fastsearch.h`).

    Like CPython it compares only the six low bits. This affects nothing but speed.
    """
    classes = {byte & 63 for byte in needle[-4:-1]}
    return bytes(one + high for one in classes for high in (0, 64, 128, 192))


def _slow_pairs(needle: bytes) -> frozenset[int]:
    """Pairs (by `hash2`) at which glibc's `memmem` advances by less than 10; a step takes 5 ns."""
    return frozenset(_hash2(*pair) for pair in itertools.pairwise(needle[-11:]))


def _hash2(first: int, second: int) -> int:
    return (second - (first << 3)) & 255


Memmem = Callable[[bytes | bytearray, int, int, bytes], int]


@functools.cache
def memmem() -> Memmem | None:
    """`data.find(needle, start, end)` by the C library, None where that is slow.

    glibc has a fast one since 2.29; others search byte by byte. Loaded with the first form, since
    importing ctypes takes time.
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
            held: object = ctypes.c_char.from_buffer(data)  # it cannot be resized meanwhile
            first = ctypes.addressof(held)  # type: ignore[arg-type]
        else:
            held = ctypes.c_char_p(data)
            first = ctypes.cast(held, ctypes.c_void_p).value or 0
        found = search(first + start, end - start, needle, len(needle))
        return -1 if found is None else found - first

    return find
