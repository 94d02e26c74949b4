"""How much of a body to parse at a time, where that takes longer than receiving it.

A form of tiny parts costs a hundred times what its bytes cost, and Python threads that compute
compete with the event loop. So turns are limited by work too, and costly bodies take them one at a
time.
"""

from __future__ import annotations

from typing import Protocol

_UNPROVEN = 32 << 10
_COSTLY = 16 << 10
_PROVEN = 256 << 10
"""Bytes without much work, after which larger portions are no risk."""
_FREE_WORK = 512
_BYTES = 64
"""A body is costly when it takes more than one unit of work for so many bytes."""


class Worker(Protocol):
    @property
    def work(self) -> int:
        """The work done so far, in units of about 0.3 microseconds."""
        ...


class Meter:
    """Watches how much work a `Worker` has with a body. Used by one thread at a time.

    `costly`: it takes more time than receiving does. Never reset.
    """

    __slots__ = ("_seen", "_taken", "_worker", "costly")

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._seen = 0
        self._taken = 0
        self.costly = False

    @property
    def work(self) -> int:
        return self._worker.work

    def room(self, size: int) -> int:
        """How many of `size` bytes may be fed at a time."""
        if self.costly:
            return min(size, _COSTLY)
        return size if self._taken >= _PROVEN else min(size, _UNPROVEN)

    def fed(self, size: int) -> None:
        """Notes that so many bytes were fed."""
        worked = self._worker.work - self._seen
        self._seen += worked
        self._taken += size
        if worked > _FREE_WORK and worked * _BYTES > size:
            self.costly = True
