"""Commits of a running append: every few MiB or every second, beside the receiving.

The offset that is told is a promise, so only what was committed is told. A commit runs while
more bytes come in; it covers what had been written when it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable

from forebay.engine.transfer.workers import Workers
from forebay.errors import UploadError
from forebay.model import MiB, UploadRecord
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged

STEP = 16 * MiB
INTERVAL = 1.0


class Commits:
    """The commits of one append.

    Args:
        record: as it is committed; `record` is as it was committed last.
        retention: seconds an upload lives on after each commit; 0 for ever.
        told: called on the event loop with each newly committed offset.
    """

    def __init__(
        self,
        record: UploadRecord,
        staged: Staged,
        *,
        sessions: Sessions,
        workers: Workers,
        retention: float,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self.record = record
        self._staged = staged
        self._sessions = sessions
        self._workers = workers
        self._retention = retention
        self._told = told
        self._task: asyncio.Task[None] | None = None
        self._last = time.monotonic()
        self.committed = record.offset
        self.failed: UploadError | None = None

    def after_turn(self) -> None:
        """Begins a commit when one is due. Raises what the last one ran into."""
        if self._task is not None:
            if not self._task.done():
                return
            self._task = None
        if self.failed is not None:
            raise self.failed
        fresh = self._staged.offset - self.committed
        if fresh >= STEP or (fresh and time.monotonic() - self._last >= INTERVAL):
            self._task = asyncio.ensure_future(self._in_background())

    async def _in_background(self) -> None:
        try:
            await self._commit()
        except UploadError as error:
            self.failed = error

    async def _commit(self) -> None:
        self._last = time.monotonic()
        flush = functools.partial(self._staged.commit, flush=True)
        commit = await self._workers.run(flush) if self._staged.commit_waits else flush()
        expires = expiry(self._retention)
        self.record = await self._sessions.advance(self.record.id, commit.offset, expires)
        if commit.added or commit.dropped:
            await self._workers.run(self._staged.recorded, commit, None)
        self.committed = commit.offset
        if self._told is not None:
            self._told(commit.offset)

    async def settle(self) -> None:
        """Waits for a commit under way; also when the waiting task is cancelled."""
        while self._task is not None and not self._task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])

    async def finish(self) -> int:
        """Commits the rest; the committed offset. Raises StorageError."""
        await self.settle()
        if self.failed is not None:
            raise self.failed
        if self._staged.offset != self.committed:
            await self._commit()
        return self.committed


def expiry(retention: float) -> float | None:
    """The end of life of an upload that is touched now, in seconds since the epoch."""
    return time.time() + retention if retention else None
