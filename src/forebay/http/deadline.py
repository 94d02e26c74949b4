"""One timer for a connection, which can be moved without a call to the event loop each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `passed` at the time that was set last."""

    __slots__ = ("_loop", "_passed", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def set(self, seconds: float) -> None:
        """Moves the deadline to so many seconds from now; 0: never."""
        self._when = 0.0
        if not seconds:
            return
        self._when = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._when:
                return  # it fires early, and is set again then
            self._timer.cancel()
        self._timer = self._loop.call_at(self._when, self._fire)

    def clear(self) -> None:
        """Sets no deadline."""
        self._when = 0.0

    def close(self) -> None:
        """Stops the timer for good. Drops `passed`, whose owner holds this object: a cycle."""
        self._when = 0.0
        self._passed = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if not self._when:
            return
        if self._when > self._loop.time() + 0.001:
            self._timer = self._loop.call_at(self._when, self._fire)
        else:
            self._when = 0.0
            self._passed()


def _nothing() -> None:
    return None
