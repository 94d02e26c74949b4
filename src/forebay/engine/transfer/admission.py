"""Admission of uploads: how many run in all worker processes together; and the drain."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.errors import LengthRequired, ShuttingDown, TooLarge, TooManyUploads

if TYPE_CHECKING:
    from forebay.config import Settings

_SLOT = struct.Struct("qqq")
_NUMBER = struct.Struct("q")
_IDLE, _ASKED = _NUMBER.size, 2 * _NUMBER.size


class Tally:
    """Counts of each worker process in memory that all share: its uploads, how many of these hardly
    send, and how many of those others have asked it to end.

    Each process writes its own slot, except for requests to others. Nothing is locked: two that
    admit at the same moment may pass the limit by one each.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = max(1, processes)
        self._map = mmap.mmap(-1, _SLOT.size * self._processes)
        self._slot = 0

    def take_slot(self, number: int) -> None:
        """Sets the slot of this process, after the fork, and clears it."""
        self._slot = number
        self.clear(number)

    def set(self, running: int) -> None:
        _NUMBER.pack_into(self._map, self._slot * _SLOT.size, running)

    def set_idle(self, idle: int) -> None:
        _NUMBER.pack_into(self._map, self._slot * _SLOT.size + _IDLE, idle)

    def clear(self, number: int) -> None:
        """Clears the slot of a dead process."""
        _SLOT.pack_into(self._map, number * _SLOT.size, 0, 0, 0)

    def total(self) -> int:
        return sum(running for running, _, _ in _SLOT.iter_unpack(self._map[:]))

    def ask_another(self) -> bool:
        """Asks another process to end an upload that hardly sends. False when there is none."""
        for number in range(self._processes):
            start = number * _SLOT.size
            _, idle, asked = _SLOT.unpack_from(self._map, start)
            if number != self._slot and idle > asked:
                _NUMBER.pack_into(self._map, start + _ASKED, asked + 1)
                return True
        return False

    def asked(self) -> int:
        """How many uploads others have asked to end here since the last call."""
        start = self._slot * _SLOT.size + _ASKED
        (asked,) = _NUMBER.unpack_from(self._map, start)
        _NUMBER.pack_into(self._map, start, 0)
        return int(asked)


def smallest(*limits: int | None) -> int | None:
    """The smallest of some limits; None when there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def append_too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"One request may bring at most {limit} bytes of an upload (--max-append-size); send "
        "the rest in others.",
        limit=limit,
    )


class Admission:
    """Decides before anything of a body is read. Used on the event loop only."""

    def __init__(self, settings: Settings, tally: Tally | None = None) -> None:
        self.settings = settings
        self.draining = False
        self.running = 0
        self._tally = tally or Tally()
        self.make_room: Callable[[], bool] = lambda: False
        """Ends an upload that hardly sends in favour of another. False when there is none."""

    def check_length(self, length: int | None, limit: int | None) -> None:
        """Raises LengthRequired or TooLarge. `limit` is the smallest that applies."""
        if length is None:
            if self.settings.require_length:
                raise LengthRequired
        elif limit is not None and length > limit:
            raise TooLarge(
                f"The body has {length} bytes; at most {limit} are taken (--max-size).",
                limit=limit,
            )

    def check_append(self, length: int | None) -> None:
        """Checks the length of one request of a resumable upload. Raises TooLarge."""
        limit = self.settings.max_append_size
        if limit is not None and length is not None and length > limit:
            raise append_too_large(limit)

    def enter(self) -> None:
        """Counts an upload in. Raises ShuttingDown or TooManyUploads; else call `leave`."""
        if self.draining:
            raise ShuttingDown(retry_after=5)
        limit = self.settings.max_uploads
        if limit and self._tally.total() >= limit and not self._has_room_made():
            raise TooManyUploads(retry_after=5)
        self.running += 1
        self._tally.set(self.running)

    def _has_room_made(self) -> bool:
        """Ends one here, or soon in another process, which is as full as this one."""
        return self.make_room() or self._tally.ask_another()

    def share_idle(self, idle: int) -> None:
        """Tells others how many uploads hardly send here, and ends those they asked for."""
        for _ in range(self._tally.asked()):
            if not self.make_room():
                break
            idle -= 1
        self._tally.set_idle(idle)

    def leave(self) -> None:
        self.running -= 1
        self._tally.set(self.running)
