"""Commits of a running append: every few MiB or every second, beside the receiving.

The offset that is told to a client is a promise, so only committed offsets are. A commit runs
while more bytes come in; it covers what had been written when it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.errors import UploadError
from forebay.model import MiB

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.uploads.access import UploadAccess

STEP = 16 * MiB
INTERVAL = 1.0
"""Seconds."""


class Commits:
    """The commits of one append. `on_offset` is called on the event loop with each new offset."""

    def __init__(
        self,
        engine: EngineContext,
        access: UploadAccess,
        on_offset: Callable[[int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._access = access
        self._on_offset = on_offset
        self._task: asyncio.Task[None] | None = None
        self._last = time.monotonic()
        self.failed: UploadError | None = None

    def after_turn(self) -> None:
        """Begins a commit when one is due. Raises what the last one ran into."""
        if self._task is not None:
            if not self._task.done():
                return
            self._task = None
        if self.failed is not None:
            raise self.failed
        fresh = self._access.staged.offset - self._access.record.offset
        if fresh >= STEP or (fresh and time.monotonic() - self._last >= INTERVAL):
            self._task = asyncio.ensure_future(self._in_background())

    async def _in_background(self) -> None:
        try:
            await self._commit(flush=False)
        except UploadError as error:
            self.failed = error

    async def _commit(self, *, flush: bool) -> None:
        self._last = time.monotonic()
        before, staged = self._access.record.offset, self._access.staged
        if staged.commit_waits:
            call = functools.partial(staged.commit, flush=flush)
            commit = await self._engine.workers.run(call)
        else:
            commit = staged.commit(flush=flush)
        await self._access.advance(commit, expiry(self._engine.settings.retention))
        if self._on_offset is not None and commit.offset > before:
            self._on_offset(commit.offset)

    async def wait(self) -> None:
        """Waits for a commit under way; also when the waiting task is cancelled."""
        while self._task is not None and not self._task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])

    async def finish(self) -> None:
        """Commits all that was written. Raises StorageError, LeaseLost."""
        await self.wait()
        if self.failed is not None:
            raise self.failed
        if self._access.staged.offset != self._access.record.offset:
            await self._commit(flush=True)


def expiry(retention: float) -> float | None:
    """The end of life of an upload that is used now, in seconds since the epoch."""
    return time.time() + retention if retention else None
