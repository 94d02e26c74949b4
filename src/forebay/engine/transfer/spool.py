"""The memory budget of bodies, and a sink that moves from memory to a file."""

from __future__ import annotations

import threading
from collections.abc import Callable

from forebay.stores.base import Staged


class Budget:
    """Bytes that bodies may hold in memory at once. Thread-safe; `limit` may be assigned."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self.used -= size


class Spool:
    """A sink that begins in memory and goes on in a staged file beyond its threshold, or when the
    budget is used up.
    """

    def __init__(self, stage: Callable[[], Staged], budget: Budget, threshold: int) -> None:
        self._stage = stage
        self._budget = budget
        self._threshold = threshold
        self._taken = 0
        self.memory: bytearray | None = bytearray()
        self.staged: Staged | None = None

    def write(self, data: memoryview, offset: int) -> None:
        if self.memory is not None:
            if len(self.memory) + len(data) <= self._threshold and self._budget.take(len(data)):
                self._taken += len(data)
                self.memory += data
                return
            self._spill()
        assert self.staged is not None
        self.staged.write(data, offset)

    def reserve(self, size: int) -> None:
        """Reserves room for a body that is known not to stay in memory."""
        if size > self._threshold and self.staged is None:
            self._spill()
        if self.staged is not None:
            self.staged.reserve(size)

    def _spill(self) -> None:
        staged = self._stage()
        try:
            with memoryview(self.memory or b"") as held:
                staged.write(held, 0)
        except BaseException:
            staged.discard()
            raise
        self.staged = staged
        self._free_memory()

    def _free_memory(self) -> None:
        self.memory = None
        self._budget.give_back(self._taken)
        self._taken = 0

    def to_file(self) -> Staged:
        """The staged file; made now if the body was in memory. It belongs to the caller then."""
        if self.staged is None:
            self._spill()
        staged, self.staged = self.staged, None
        assert staged is not None
        return staged

    def discard(self) -> None:
        if self.staged is not None:
            self.staged.discard()
            self.staged = None
        self._free_memory()
