"""`on_complete` where uploads leave no record (`resumable = false`).

It is called once when the file is published, and again by this process while it fails. What is
still to be called when the process ends is lost: only a session store outlives it.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from forebay.engine.files.withdraw import withdraw
from forebay.engine.outbox.notifier import Notifier
from forebay.engine.outbox.pending import WholeUpload
from forebay.model import Stored, UploadState
from forebay.record import Outcome
from forebay.sessions.memory import MemorySessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")

_MOST = 10_000
"""Files that are remembered at most."""


class InMemoryOutbox:
    """Calls about files, remembering in memory those whose call failed. It may be used again after
    it was closed.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._sessions = MemorySessions()
        self._notifier: Notifier | None = None

    async def notify(self, upload: WholeUpload, stored: Stored) -> None:
        """See `Notifier.notify`."""
        if not self._engine.hooks.completes:
            return
        if self._notifier is None:
            await self._sessions.open()
            self._notifier = Notifier(self._engine, self._sessions)
        notifier = self._notifier
        if await self._sessions.count() >= _MOST:
            await self._forget_one()
        record = dataclasses.replace(
            upload.record(stored.file.size),
            state=UploadState.COMPLETE,
            final_name=stored.file.name,
            final_size=stored.file.size,
            outcome=Outcome(stored.digests)
            .published(stored.file, replaced=stored.replaced, duration=stored.duration)
            .encode(),
            notify_at=time.time(),
        )
        await self._sessions.create(record)
        await notifier.notify(record, upload.context)

    async def _forget_one(self) -> None:
        [oldest] = await self._sessions.page(limit=1)
        await self._sessions.delete(oldest.id)
        logger.error(
            "too many calls of on_complete failed: that about %r is not made again",
            oldest.final_name,
        )

    async def close(self) -> None:
        """Ends the calls; what failed is forgotten."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            await notifier.close()
            await self._sessions.close()


class InMemoryNotification:
    """A `forebay.engine.outbox.pending.PendingNotification` that is recorded nowhere."""

    def __init__(
        self, engine: EngineContext, outbox: InMemoryOutbox, upload: WholeUpload, stored: Stored
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._upload = upload
        self.stored = stored

    async def notify(self) -> None:
        await self._outbox.notify(self._upload, self.stored)

    async def take_back(self) -> None:
        await self._engine.workers.run(withdraw, self._engine.store, self.stored)

    def abandon(self) -> None:
        """Nothing: what is not recorded goes with its request."""
