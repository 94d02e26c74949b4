"""The time by which uploads expire. Setting the system's clock does not make it jump.

`expires_at` is a time of day, because clients are given it. But when a machine sets its clock, say
after it has found a time server, every upload could expire at once, while its client is sending. So
this clock compares the time of day with a clock that cannot be set (`CLOCK_BOOTTIME`, which runs
during suspension, too). What the time of day gained is subtracted for one retention: until every
upload from before has lived that long. When the clock is set back, uploads live longer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from forebay.errors import StorageError, UploadError
from forebay.model import UploadRecord

TOLERANCE = 60.0
"""Seconds that the clock may be adjusted by between two readings without counting as set."""
_NAME = "clock"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@runtime_checkable
class Notes(Protocol):
    """Small notes of this machine, for processes to come; a store may offer them. In a thread."""

    def read_note(self, name: str) -> bytes:
        """The note of that name. Raises NotFound, StorageError."""
        ...

    def write_note(self, name: str, data: bytes) -> None:
        """Replaces it as a whole; it may be lost with the power. Raises StorageError."""
        ...


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
    """When it was noticed, by the clock that cannot be set."""
    gained: float
    """Seconds."""


class ExpiryClock:
    """Thread-safe. `wall`: the time of day; `running`: the clock that cannot be set; in seconds."""

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
        """Seconds for which a jump is subtracted: the longest life of an upload."""

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
        """Undoes jumps: what was gained by mistake and is lost again was never gained."""
        while lost > 0 and self._jumps:
            jump = self._jumps[-1]
            taken = min(lost, jump.gained)
            jump.gained -= taken
            lost -= taken
            if jump.gained <= 0:
                self._jumps.pop()

    # --- across processes, until the machine starts again -----------------------------------------

    def save(self, store: object) -> None:
        """Saves its state for processes to come, where the store takes notes. In a thread; never
        raises.
        """
        if not isinstance(store, Notes):
            return
        with self._lock:
            wall, running = self._look()
            jumps = [(jump.at, jump.gained) for jump in self._jumps]
        note = {"boot": _boot(), "wall": wall, "running": running, "jumps": jumps}
        with contextlib.suppress(StorageError):
            store.write_note(_NAME, json.dumps(note).encode())

    def restore(self, store: object) -> None:
        """Continues from what an earlier process saved, unless the machine was started since. In a
        thread; never raises.
        """
        if not isinstance(store, Notes):
            return
        try:
            note = json.loads(store.read_note(_NAME))
            seen = float(note["wall"]), float(note["running"])
            jumps = [_Jump(float(at), float(gained)) for at, gained in note["jumps"]]
            boot = note["boot"]
        except (UploadError, ValueError, KeyError, TypeError):
            return
        with self._lock:
            if boot and boot == _boot() and seen[1] <= self._running():
                self._seen, self._jumps = seen, jumps
                self._look()


CLOCK = ExpiryClock()
"""One per process, as there is one time of day."""


def is_expired(record: UploadRecord) -> bool:
    """Whether the upload has expired."""
    ends = record.expires_at
    # The time of day is never behind the clock for expiry, which subtracts jumps.
    return ends is not None and ends <= time.time() and ends <= CLOCK.now()
