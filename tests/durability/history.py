"""What clients asked for and what they were told, in order."""

from __future__ import annotations

import dataclasses
import itertools
import threading


@dataclasses.dataclass(slots=True)
class Attempt:
    """One upload. `status` is None while no answer came, and for ever if none did.

    `began` and `ended` are places in one order of events of all clients; an attempt without
    an answer never ended, so it may take effect at any time.
    """

    target: str
    method: str
    seed: str
    size: int
    sha256: str
    chunked: bool
    began: int
    ended: int | None = None
    status: int | None = None
    name: str | None = None
    """The name that the answer gave."""

    @property
    def acknowledged(self) -> bool:
        return self.status in (200, 201)

    def overlaps_or_follows(self, other: Attempt) -> bool:
        """Whether it may have taken effect after `other`."""
        return self.ended is None or other.ended is None or self.ended > other.began


class History:
    """All attempts of one run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock = itertools.count()
        self.attempts: list[Attempt] = []

    def begin(
        self, target: str, method: str, seed: str, size: int, sha256: str, *, chunked: bool
    ) -> Attempt:
        with self._lock:
            attempt = Attempt(target, method, seed, size, sha256, chunked, next(self._clock))
            self.attempts.append(attempt)
        return attempt

    def end(self, attempt: Attempt, status: int, name: str | None) -> None:
        with self._lock:
            attempt.status, attempt.name = status, name
            attempt.ended = next(self._clock)

    def acknowledged(self) -> list[Attempt]:
        with self._lock:
            return [attempt for attempt in self.attempts if attempt.acknowledged]

    def snapshot(self) -> list[Attempt]:
        with self._lock:
            return list(self.attempts)
