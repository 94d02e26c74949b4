"""The time by which uploads expire, which a clock that is set does not make jump.

Ends of life are times of day, because clients are told them. But a clock that is set, once a
machine has found a time server, may pass the end of every upload at once, while their clients
are sending. So time that has not passed does not count: what the clock of the day has gained on
the clock that only runs (`CLOCK_BOOTTIME`, which counts suspension too) is left out, until every
upload from before has had its whole retention. A clock that is set back lets uploads live longer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable

from forebay.errors import StorageError
from forebay.model import UploadRecord
from forebay.stores.files.store import FileStore

TOLERANCE = 60.0
"""Seconds that the clock may be slewed between two looks without being taken for set."""
_FILE = "clock"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def _running() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _boot() -> str:
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""


@dataclasses.dataclass(slots=True)
class _Jump:
    at: float
    """When it was seen, by the clock that runs."""
    gained: float
    """Seconds."""


class ExpiryClock:
    """Thread-safe. `wall`, `running`: the two clocks, in seconds."""

    def __init__(
        self,
        wall: Callable[[], float] = lambda: time.time(),
        running: Callable[[], float] = _running,
    ) -> None:
        self._wall = wall
        self._running = running
        self._lock = threading.Lock()
        self._jumps: list[_Jump] = []
        self._seen = wall(), running()
        self.retention = 0.0
        """Seconds for which a jump is left out: the longest that an upload lives."""

    def now(self) -> float:
        """Seconds since the epoch, for comparison with `expires_at`."""
        with self._lock:
            wall, _ = self._look()
            return wall - sum(jump.gained for jump in self._jumps)

    def _look(self) -> tuple[float, float]:
        wall, running = self._wall(), self._running()
        last_wall, last_running = self._seen
        gained = (wall - last_wall) - (running - last_running)
        if gained > TOLERANCE:
            self._jumps.append(_Jump(running, gained))
        elif gained < -TOLERANCE:
            self._set_back(-gained)
        self._jumps = [jump for jump in self._jumps if running - jump.at <= self.retention]
        self._seen = wall, running
        return wall, running

    def _set_back(self, lost: float) -> None:
        """What was gained by mistake, and lost again, was never gained."""
        while lost > 0 and self._jumps:
            jump = self._jumps[-1]
            taken = min(lost, jump.gained)
            jump.gained -= taken
            lost -= taken
            if jump.gained <= 0:
                self._jumps.pop()

    # --- across processes, as long as the machine runs -------------------------------------------

    def note(self, store: FileStore) -> None:
        """Writes down how it stands, for processes to come. In a thread; never raises."""
        with self._lock:
            wall, running = self._look()
            jumps = [(jump.at, jump.gained) for jump in self._jumps]
        noted = {"boot": _boot(), "wall": wall, "running": running, "jumps": jumps}
        name = f"{_FILE}.{os.getpid()}"
        with contextlib.suppress(OSError, StorageError):
            folder = store.own_fd
            fd = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=folder
            )
            try:
                os.write(fd, json.dumps(noted).encode())
            finally:
                os.close(fd)
            os.rename(name, _FILE, src_dir_fd=folder, dst_dir_fd=folder)

    def take_over(self, store: FileStore) -> None:
        """Goes on from what an earlier process noted, if the machine has run since. In a thread;
        never raises.
        """
        try:
            fd = os.open(_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=store.own_fd)
            with os.fdopen(fd, "rb") as file:
                noted = json.loads(file.read(1 << 16))
            seen = float(noted["wall"]), float(noted["running"])
            jumps = [_Jump(float(at), float(gained)) for at, gained in noted["jumps"]]
            boot = noted["boot"]
        except (OSError, StorageError, ValueError, KeyError, TypeError):
            return
        with self._lock:
            if boot and boot == _boot() and seen[1] <= self._running():
                self._seen, self._jumps = seen, jumps
                self._look()


CLOCK = ExpiryClock()
"""Of this process: there is one clock on the wall."""


def is_expired(record: UploadRecord) -> bool:
    """Whether its end of life has passed."""
    return record.expires_at is not None and record.expires_at <= CLOCK.now()
