"""The lock on names that all threads and processes of one store share, with a deadline.

`flock` frees it the moment its holder dies, but not while the holder is stopped. So no thread waits
for it without end, and few wait for long: the others are needed to serve.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator

from forebay.errors import DiskFull, QuotaExceeded, StorageBusy, StorageDenied
from forebay.stores.files.folders import close_quietly

NAME = "names.lock"

DEADLINE = 3.0
"""Seconds without any thread of this process getting the lock, after which it is given up."""
SHORT = 0.5
"""Seconds after which all waiting threads but `LONG_WAITERS` give up."""
LONG_WAITERS = 1
_LONGEST = 4 * DEADLINE
"""Seconds that one thread waits at most, also while others get the lock."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01


def try_lock(fd: int) -> bool:
    """Locks an open file unless it is locked; whether it did. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_soon(fd: int) -> None:
    """Locks a file that others hold for a moment at most. Raises StorageBusy, OSError."""
    deadline = time.monotonic() + DEADLINE
    pause = _FIRST_PAUSE
    while not try_lock(fd):
        if time.monotonic() >= deadline:
            raise StorageBusy(retry_after=1)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class NamesLock:
    """Held while a file is replaced or deleted. Thread-safe.

    `folder`: the descriptor of the folder that the lock's file is in. `root`: of one that is there
    also when the disk is too full to make the other.
    """

    def __init__(self, folder: Callable[[], int], root: int) -> None:
        self._folder = folder
        self._root = root
        self._own = threading.Lock()
        self._taken = 0
        """How often this process got it: while that grows, waiting threads get their turn."""
        self._long = 0
        self._stuck = False
        """A thread gave up, and none has got it since: the next ones do not wait at all."""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Raises StorageBusy when others hold it for too long, StorageError, OSError."""
        fd = self._open()
        try:
            self._acquire(fd)
            yield
        finally:
            close_quietly(fd)

    def _open(self) -> int:
        folder = self._root
        with contextlib.suppress(OSError, DiskFull, QuotaExceeded, StorageDenied):
            folder = self._folder()
            return os.open(NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
        # Where the file cannot be made, as on a full disk, the folder stands in: what makes room
        # has to go on. What else is wrong shows here as well.
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)

    def _acquire(self, fd: int) -> None:
        if not try_lock(fd):
            self._wait(fd)
        with self._own:
            self._taken += 1
            self._stuck = False

    def _wait(self, fd: int) -> None:
        begun = since = time.monotonic()
        seen, pause, long = self._taken, _FIRST_PAUSE, False
        try:
            while not self._stuck:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if try_lock(fd):
                    return
                now = time.monotonic()
                if self._taken != seen:
                    seen, since = self._taken, now
                if now - since > SHORT and not long:
                    long = self._may_wait_long()
                    if not long:
                        break
                if now - since > DEADLINE or now - begun > _LONGEST:
                    self._stuck = now - since > DEADLINE
                    break
        finally:
            if long:
                with self._own:
                    self._long -= 1
        raise StorageBusy(retry_after=1)

    def _may_wait_long(self) -> bool:
        with self._own:
            if self._long >= LONG_WAITERS:
                return False
            self._long += 1
            return True
