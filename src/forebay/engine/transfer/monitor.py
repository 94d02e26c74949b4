"""Checks running bodies once a second: stalled, too slow, or too late for the drain.

One timer serves all uploads, so that a body costs nothing per read. Only time in which nothing but
the client is waited for counts against it; a slow disk does not.

Where the limit of uploads is reached, one that hardly sends is ended in favour of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.engine.transfer.pump import BodyWriter, Source
from forebay.errors import BodyTimeout, ShuttingDown, TooManyUploads, TooSlow
from forebay.model import KiB

if TYPE_CHECKING:
    from forebay.config import Settings

_TICK = 1.0
_IDLE_RATE = KiB
"""Bytes a second below which an upload is ended in favour of another, or `min_rate` if that is
more.
"""
_FIRST_RATE = 1.6
_DECAY = 0.9
"""The weight of the rate so far, after a second. A new upload begins above the needed rate: one
that sends nothing is below it after five seconds, when clients that were refused come again.
"""


class Transfer:
    """A running body as the monitor sees it."""

    __slots__ = (
        "ended",
        "rate",
        "rate_bytes",
        "rate_seconds",
        "seen",
        "source",
        "started",
        "writer",
    )

    def __init__(self, source: Source, writer: BodyWriter, now: float, rate: float) -> None:
        self.source = source
        self.writer = writer
        self.started = now
        self.seen = 0
        self.rate_bytes = 0
        self.rate_seconds = 0.0
        self.rate = rate
        """Bytes a second, as a moving average."""
        self.ended = False


class Monitor:
    """All running transfers of one process. Used on the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._transfers: set[Transfer] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._drain_until: float | None = None
        self._idle = 0
        self.share_idle: Callable[[int], None] = lambda idle: None
        """Called once a second with the number of uploads that hardly send."""

    def __len__(self) -> int:
        return len(self._transfers)

    def add(self, source: Source, writer: BodyWriter) -> Transfer:
        loop = asyncio.get_running_loop()
        transfer = Transfer(source, writer, loop.time(), _FIRST_RATE * self._needed_rate)
        self._transfers.add(transfer)
        if self._timer is None:
            self._timer = loop.call_later(_TICK, self._tick, loop)
        return transfer

    def remove(self, transfer: Transfer) -> None:
        self._transfers.discard(transfer)
        if self._idle and not self._transfers:
            self._share()

    @property
    def _needed_rate(self) -> int:
        return max(_IDLE_RATE, self.settings.min_rate)

    def make_room(self) -> bool:
        """Ends the slowest of the uploads that hardly send. False when there is none."""
        idle = self._those_idle()
        if not idle:
            return False
        slowest = min(idle, key=lambda each: each.rate)
        slowest.ended = True
        slowest.source.stop(
            TooManyUploads(
                "All --max-uploads are taken, and this upload hardly sent anything: it gave way to "
                "another. Try again soon.",
                retry_after=5,
            )
        )
        return True

    def _those_idle(self) -> list[Transfer]:
        least = self._needed_rate
        return [each for each in self._transfers if not each.ended and each.rate < least]

    def _share(self) -> None:
        self._idle = len(self._those_idle())
        self.share_idle(self._idle)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TICK, self._tick, loop) if self._transfers else None
        now = loop.time()
        for transfer in list(self._transfers):
            self._look_at(transfer, now)
        self._share()

    def _look_at(self, transfer: Transfer, now: float) -> None:
        settings = self.settings
        source = transfer.source
        if self._drain_until is not None and self._too_late(transfer, now):
            source.stop(ShuttingDown(retry_after=5))
            return
        received = transfer.writer.received
        fresh, transfer.seen = received - transfer.seen, received
        waiting = source.waiting_since
        transfer.rate_bytes += fresh
        if waiting is None and not fresh:
            return  # we are slow, not the client
        transfer.rate = _DECAY * transfer.rate + (1 - _DECAY) * fresh / _TICK
        if waiting is None:
            return
        if settings.body_timeout and now - max(waiting, transfer.started) > settings.body_timeout:
            source.stop(BodyTimeout())
            return
        if settings.min_rate:
            transfer.rate_seconds += _TICK
            if transfer.rate_seconds >= settings.min_rate_window:
                if transfer.rate_bytes < settings.min_rate * transfer.rate_seconds:
                    source.stop(TooSlow())
                transfer.rate_bytes = 0
                transfer.rate_seconds = 0.0

    def _too_late(self, transfer: Transfer, now: float) -> bool:
        """Whether it cannot finish in the time that the drain leaves, at its rate so far."""
        assert self._drain_until is not None
        left = self._drain_until - now
        if left <= 0:
            return True
        total = transfer.source.length
        received = transfer.writer.received
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
