"""Room on the disk for one file that is being written."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

from forebay.errors import DiskFull, TooLarge, from_os_error
from forebay.model import MiB
from forebay.stores.files.place import Place
from forebay.stores.files.syscalls import reserve_blocks

_LARGEST = 2**63 - 1
_ALLOCATE_FROM = MiB
"""What ends before is written before its room could be taken."""
_LEAST_AHEAD = MiB
_MOST_AHEAD = 64 * MiB
_NEAR = 256 * MiB
"""Free room so near to `min_free` that even what is small is allocated, and judged again."""


class Room:
    """Takes room on the disk itself, as bytes arrive and not as they are announced: at most as much
    again as there is, at most 64 MiB ahead, and only while `min_free` stays free.

    Args:
        fd: the open file.
        offset: bytes of it that count.
        beyond: how far a reservation or a failed write may have gone past `offset`.
    """

    __slots__ = ("_announced", "_beyond", "_fd", "_place", "held")

    def __init__(self, place: Place, fd: int, offset: int, beyond: int) -> None:
        self._place = place
        self._fd = fd
        self._beyond = max(offset, beyond)
        self._announced = 0
        self.held = offset
        """Up to where room was taken, or judged to be there: no write up to here asks again."""

    def went(self, end: int) -> None:
        """A write may have gone up to `end`."""
        self._beyond = max(self._beyond, end)

    def cut(self, offset: int) -> None:
        """The file ends at `offset` now."""
        self._beyond = self.held = offset

    def trim(self, offset: int) -> None:
        """Cuts off what is beyond `offset`. An untouched file retains its time and tag.

        Raises OSError.
        """
        if self._beyond > offset:
            os.ftruncate(self._fd, offset)
            self.cut(offset)

    def release(self, offset: int) -> None:
        """As `trim`, for what is trimmed once more before publication."""
        with contextlib.suppress(OSError):
            self.trim(offset)

    def reserve(self, offset: int, size: int) -> None:
        """Judges `size` bytes in all against the free room. Raises TooLarge, DiskFull."""
        if size > _LARGEST:
            raise TooLarge("The filesystem cannot hold a file of that size.")
        self._announced = size
        if max(0, size - max(offset, self._beyond)) > self._free():
            self._refuse(offset)

    def take(self, offset: int, end: int) -> None:
        """Takes room up to `end`, where a write is about to end, and some for what comes next.

        Raises DiskFull when less than `min_free` would stay free, or does: many may take at once.
        """
        ahead = end + max(_LEAST_AHEAD, min(end, _MOST_AHEAD))
        if self._announced >= end:
            ahead = min(ahead, self._announced)
        elif end < _ALLOCATE_FROM:
            ahead = end
        if ahead < _ALLOCATE_FROM and self._free() - (end - max(offset, self._beyond)) >= _NEAR:
            self.held = end
            return
        with self._place.taking_room:  # what one sees as free, another must not take meanwhile
            self.held = self._allocate(offset, end, ahead)

    def _allocate(self, offset: int, end: int, ahead: int) -> int:
        """Up to where there is room then."""
        have, free = max(offset, self._beyond), self._free()
        if ahead - have > free:
            ahead = end
        if end - have > free:
            self._refuse(offset)
        self._beyond = max(self._beyond, ahead)
        try:
            taken = reserve_blocks(self._fd, ahead - have, have)
        except OSError as error:
            self.release(offset)  # the filesystem may hold the part that it could allocate
            raise from_os_error(error) from error
        if not taken:
            return end  # it is not ours before it is written: judged at each write
        if self._free() < 0:  # other processes take room, too
            self._refuse(offset)
        return ahead

    def _free(self) -> int:
        """Bytes that may be taken."""
        return self._place.space().free - self._place.min_free

    def _refuse(self, offset: int) -> NoReturn:
        self.release(offset)
        raise DiskFull(free=self._place.space().free)
