"""Whether uploads can be received: tries all that one needs, at most once a second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay.errors import DiskFull, StorageError, UploadError
from forebay.stores.base import Roomy

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.state import State

_FRESH = 1.0
"""Seconds for which a result is used again."""
_PATIENCE = 3.0
"""Seconds that a probe may take; a disk or a database that takes longer is not ready."""


class Readiness:
    """Of one engine, on its event loop."""

    def __init__(self, engine: EngineContext, state: State) -> None:
        self._engine = engine
        self._state = state
        self._checked = 0.0
        self._reason: str | None = None
        self._probing: asyncio.Task[str | None] | None = None

    async def why_not(self) -> str | None:
        """The reason why no uploads can be received, with its code; None when they can."""
        if self._state.error is not None:
            return _describe(self._state.error)
        if self._checked and time.monotonic() - self._checked <= _FRESH:
            return self._reason
        probing = self._probing
        if probing is None or probing.get_loop() is not asyncio.get_running_loop():
            probing = self._probing = asyncio.ensure_future(self._probe())
        await asyncio.wait([probing], timeout=_PATIENCE)
        if not probing.done():  # the next call waits for the same probe
            return "FB_STORAGE: the disk or the upload state does not answer"
        self._probing = None
        self._checked, self._reason = time.monotonic(), probing.result()
        return self._reason

    async def _probe(self) -> str | None:
        engine = self._engine
        try:
            await engine.workers.run(self._probe_store)
            if self._state.sessions is not None:
                await self._state.sessions.probe()
        except StorageError as error:
            return _describe(error)
        return None

    def _probe_store(self) -> None:
        store = self._engine.store
        if isinstance(store, Roomy):
            store.probe()
            if store.space().free < store.min_free:
                raise DiskFull


def _describe(error: UploadError) -> str:
    return f"{error.code}: {error.message}"
