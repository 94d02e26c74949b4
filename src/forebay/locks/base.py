"""The port of locks on jobs that one process at a time does, such as a sweep or a callback.

They do not guard the data of uploads: a store does that itself. Everything here is called in
worker threads, by many at once.
"""

from __future__ import annotations

from typing import Protocol


class Lock(Protocol):
    """A lock that is held. The death of its process releases it too."""

    def release(self) -> None:
        """Called once."""
        ...


class Locks(Protocol):
    """Locks by key, shared by all processes that serve one store."""

    def try_acquire(self, key: str) -> Lock | None:
        """Locks `key` against other processes and threads, without waiting; None when it is locked.

        Raises StorageError.
        """
        ...


def release_lock(lock: Lock | None) -> None:
    """Undoes `Locks.try_acquire`, whatever that returned."""
    if lock is not None:
        lock.release()
