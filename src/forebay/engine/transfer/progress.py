"""Progress of one body: a callback or an async iterator, at most ten reports a second.

Nothing is computed, and no timer runs, while there are no listeners.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from forebay.engine.transfer.pump import BodyWriter
from forebay.model import Progress

logger = logging.getLogger("forebay")

INTERVAL = 0.1
_WINDOW = 20  # samples: the rate is over about two seconds


class ProgressFeed:
    """Passes reports to listeners. Used on the event loop.

    A slow listener misses reports in between, but never the last one.
    """

    __slots__ = ("_callbacks", "_changed", "_last", "_latest", "_samples", "finished", "total")

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self.finished = False
        self._callbacks: list[Callable[[Progress], object]] = []
        self._changed: asyncio.Event | None = None
        self._latest: Progress | None = None
        self._last = 0.0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    def listen(self, callback: Callable[[Progress], object]) -> None:
        """`callback(progress)` runs on the event loop; it must not wait."""
        self._callbacks.append(callback)

    @property
    def wanted(self) -> bool:
        return bool(self._callbacks) or self._changed is not None

    def __aiter__(self) -> AsyncIterator[Progress]:
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._iterate(self._changed)

    async def _iterate(self, changed: asyncio.Event) -> AsyncIterator[Progress]:
        reported: Progress | None = None
        while True:
            if self._latest is not None and self._latest is not reported:
                reported = self._latest
                yield reported
            elif self.finished:
                return
            else:
                changed.clear()
                await changed.wait()

    def report(self, writer: BodyWriter, *, final: bool = False) -> None:
        """Called between turns of the pump."""
        if not self.wanted:
            self.finished = self.finished or final
            return
        now = asyncio.get_running_loop().time()
        if not final and now - self._last < INTERVAL:
            return
        self._last = now
        self._samples.append((now, writer.received))
        since, before = self._samples[0]
        rate = (writer.received - before) / (now - since) if now > since else 0.0
        self._latest = Progress(writer.received, self.total, rate)
        self._call_listeners(final)

    def finish(self) -> None:
        """No report comes after this one; iterators end."""
        self.finished = True
        if self._changed is not None:
            self._changed.set()

    def _call_listeners(self, final: bool) -> None:
        self.finished = self.finished or final
        assert self._latest is not None
        for callback in list(self._callbacks):
            try:
                callback(self._latest)
            except Exception:  # a listener must not end the upload
                logger.exception("a listener of progress failed; it is not called any more")
                self._callbacks.remove(callback)
        if self._changed is not None:
            self._changed.set()
