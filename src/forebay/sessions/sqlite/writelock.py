"""One writer at a time among all processes that share a database.

SQLite has a lock of its own; this one is taken around it for two reasons. SQLite 3.7.0 to 3.51.2
can lose a committed transaction when one process checkpoints the write-ahead log while another
restarts it (https://sqlite.org/wal.html#walresetbug), and most systems still ship such a version.
That cannot happen when commits, and the checkpoints inside them, never overlap. And SQLite waits
for a busy database in steps of up to 100 ms.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from forebay.errors import SessionsUnavailable

_FIRST_WAIT = 0.0005
_LONGEST_WAIT = 0.005
"""Seconds between two tries: `flock` itself can only wait without a limit."""
WHILE_STUCK = 0.25
"""Seconds to wait after a wait that timed out, as for a process that is stopped: otherwise each
operation in turn would wait for the whole time-out.
"""


class WriteLock:
    """An advisory lock on `path`, free the moment its holder dies. Used by one thread."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._descriptor = -1
        self._stuck = False

    def open(self) -> None:
        """Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)

    def close(self) -> None:
        """Idempotent. The file stays: if it were removed, two processes could each lock one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for the block. Raises SessionsUnavailable after the time-out."""
        self._acquire()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _acquire(self) -> None:
        patience = min(self._timeout, WHILE_STUCK) if self._stuck else self._timeout
        deadline = time.monotonic() + patience
        wait = _FIRST_WAIT
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stuck = False
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self._stuck = True
                    raise SessionsUnavailable(retry_after=1) from None
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
