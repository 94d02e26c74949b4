"""Publishing whole uploads. Pending calls of `on_complete` are in the upload state or in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.engine.files.publish import prepare
from forebay.engine.outbox.durable import DurableOutbox
from forebay.engine.outbox.in_memory import InMemoryNotification, InMemoryOutbox
from forebay.engine.outbox.pending import PendingNotification, WholeUpload
from forebay.stores.base import Published, Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext


class Outbox:
    """The outbox of one engine. `durable`: see `State.outbox`."""

    def __init__(self, engine: EngineContext, durable: Callable[[], DurableOutbox | None]) -> None:
        self._engine = engine
        self._durable = durable
        self._in_memory = InMemoryOutbox(engine)

    @property
    def durable(self) -> DurableOutbox | None:
        """Publishes uploads with a row each; None where calls are not recorded. Raises
        SessionsUnavailable.
        """
        return self._durable()

    async def publish(self, staged: Staged, upload: WholeUpload) -> PendingNotification:
        """Publishes the data, which is closed then. Raises what publication raises; the data is
        then still the caller's to discard.
        """
        durable = self.durable
        if durable is not None:
            return await durable.publish(staged, upload)
        name, workers = upload.command.name, self._engine.workers
        await prepare(workers, staged, name)
        published = await workers.run(staged.publish, upload.publication)
        return self.published(upload, published)

    def published(self, upload: WholeUpload, published: Published) -> PendingNotification:
        """The notification about a file that is published and not recorded."""
        stored = upload.stored(published)
        return InMemoryNotification(self._engine, self._in_memory, upload, stored)

    async def close(self) -> None:
        """Ends calls that are only in memory. It may be used again."""
        await self._in_memory.close()
