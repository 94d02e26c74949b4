"""`on_complete` where uploads leave no record (`resumable = false`).

It is called once when the file is published, and again by this process while it fails. What is
still to be called when the process ends is lost: that is what the record is for.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.outbox.notifier import Notifier
from forebay.engine.outbox.recorded import record_of
from forebay.engine.uploads import outcome
from forebay.model import Principal, Receive, Stored, UploadState
from forebay.sessions.memory import MemorySessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")

_MOST = 10_000
"""Files that are remembered at most."""


class InMemoryOutbox:
    """Calls about files, remembering in memory those whose call failed."""

    def __init__(self, engine: EngineContext) -> None:
        self._sessions = MemorySessions()
        self._notifier = Notifier(engine, self._sessions)

    async def notify(
        self,
        stored: Stored,
        command: Receive,
        principal: Principal,
        upload_id: str,
        context: Mapping[str, Any] | None,
    ) -> None:
        """See `Notifier.notify`."""
        await self._sessions.open()
        if await self._sessions.count() >= _MOST:
            await self._forget_one()
        now, file = time.time(), stored.file
        began = now - stored.duration
        record = record_of(upload_id, command, principal, size=file.size, began=began)
        record = dataclasses.replace(
            record,
            state=UploadState.COMPLETE,
            final_name=file.name,
            final_size=file.size,
            outcome=outcome.at_once(stored, stored.duration),
            notify_at=now,
            version=1,
        )
        await self._sessions.create(record)
        await self._notifier.notify(record, context)

    async def _forget_one(self) -> None:
        [oldest] = await self._sessions.page(limit=1)
        await self._sessions.delete(oldest.id)
        logger.error(
            "too many calls of on_complete failed: that about %r is not made again",
            oldest.final_name,
        )

    async def close(self) -> None:
        """Ends it; what failed is forgotten."""
        await self._notifier.close()
        await self._sessions.close()
