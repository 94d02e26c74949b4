"""Pending calls of `on_complete`: recorded in the upload state, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.outbox.in_memory import InMemoryOutbox

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.recorded import RecordedPublication
    from forebay.model import Principal, Receive, Stored


class Outbox:
    """Of one engine. `recorded`: what records uploads now, see `State.recorded`."""

    def __init__(
        self, engine: EngineContext, recorded: Callable[[], RecordedPublication | None]
    ) -> None:
        self._engine = engine
        self._recorded = recorded
        self._in_memory: InMemoryOutbox | None = None

    @property
    def recorded(self) -> RecordedPublication | None:
        """Publishes uploads so that no crash loses their call; None where calls are not recorded.

        Raises SessionsUnavailable.
        """
        return self._recorded()

    async def notify(
        self,
        stored: Stored,
        command: Receive,
        principal: Principal,
        upload_id: str,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Calls `on_complete` about a file that is recorded nowhere: what fails is called again
        by this process alone.
        """
        if self._engine.hooks.completes:
            self._in_memory = self._in_memory or InMemoryOutbox(self._engine)
            await self._in_memory.notify(stored, command, principal, upload_id, context)

    async def close(self) -> None:
        """Ends what is in memory. It may be used again."""
        in_memory, self._in_memory = self._in_memory, None
        if in_memory is not None:
            await in_memory.close()
