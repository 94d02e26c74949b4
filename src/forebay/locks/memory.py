"""Locks within one process."""

from __future__ import annotations

import threading

from forebay.locks.base import Lock


class MemoryLocks:
    """See `forebay.locks.base.Locks`."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def try_acquire(self, key: str) -> Lock | None:
        with self._lock:
            if key in self._held:
                return None
            self._held.add(key)
        return _Held(self._held, key)


class _Held:
    def __init__(self, held: set[str], key: str) -> None:
        self._held = held
        self._key = key

    def release(self) -> None:
        self._held.discard(self._key)
