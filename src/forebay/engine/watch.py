"""Looks after running bodies once a second: dead, slow, and too late for the drain.

One timer for all uploads, so that a body costs nothing per read. Only time in which the
client alone is waited for counts against it: a slow disk is not its fault.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay.engine.receive import Intake, Source
from forebay.errors import BodyTimeout, ShuttingDown, TooSlow

if TYPE_CHECKING:
    from forebay.config import Settings

_TICK = 1.0


class Transfer:
    """A running body as the watch sees it."""

    __slots__ = ("intake", "rate_bytes", "rate_seconds", "seen", "source", "started")

    def __init__(self, source: Source, intake: Intake, now: float) -> None:
        self.source = source
        self.intake = intake
        self.started = now
        self.seen = 0
        self.rate_bytes = 0
        self.rate_seconds = 0.0


class Watch:
    """All running transfers of one process. Used on the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._transfers: set[Transfer] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._drain_until: float | None = None

    def __len__(self) -> int:
        return len(self._transfers)

    def add(self, source: Source, intake: Intake) -> Transfer:
        loop = asyncio.get_running_loop()
        transfer = Transfer(source, intake, loop.time())
        self._transfers.add(transfer)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._tick, loop)
        return transfer

    def remove(self, transfer: Transfer) -> None:
        self._transfers.discard(transfer)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TICK, self._tick, loop) if self._transfers else None
        now = loop.time()
        for transfer in list(self._transfers):
            self._look_at(transfer, now)

    def _look_at(self, transfer: Transfer, now: float) -> None:
        settings = self.settings
        source = transfer.source
        if self._drain_until is not None and self._too_late(transfer, now):
            source.stop(ShuttingDown(retry_after=5))
            return
        received = transfer.intake.received
        fresh, transfer.seen = received - transfer.seen, received
        waiting = source.waiting_since
        if waiting is None:
            transfer.rate_bytes = 0
            transfer.rate_seconds = 0.0
            return
        if settings.body_timeout and now - max(waiting, transfer.started) > settings.body_timeout:
            source.stop(BodyTimeout())
            return
        if settings.min_rate:
            transfer.rate_bytes += fresh
            transfer.rate_seconds += _TICK
            if transfer.rate_seconds >= settings.min_rate_window:
                if transfer.rate_bytes < settings.min_rate * transfer.rate_seconds:
                    source.stop(TooSlow())
                transfer.rate_bytes = 0
                transfer.rate_seconds = 0.0

    def _too_late(self, transfer: Transfer, now: float) -> bool:
        """Whether it cannot be done in the time the drain leaves, going by its rate so far."""
        assert self._drain_until is not None
        left = self._drain_until - now
        if left <= 0:
            return True
        total = transfer.source.length
        received = transfer.intake.received
        took = now - transfer.started
        if total is None or took < _TICK:
            return False
        return received == 0 or (total - received) * took / received > left

    def drain(self, timeout: float) -> None:
        """From now on ends what cannot finish within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        self._drain_until = loop.time() + timeout
        if self._timer is not None:
            self._timer.cancel()
        self._tick(loop)
        loop.call_at(self._drain_until + 0.01, self._tick, loop)
