"""The sweeps of a serving process: it recovers at its start, and cleans up from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING

from forebay.engine.clock import CLOCK
from forebay.engine.maintenance.sweep import Sweeper, Swept
from forebay.errors import StorageError, UploadError
from forebay.locks.base import release_lock

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")

_SHORTEST, _LONGEST = 10.0, 600.0
"""Seconds between two clean-ups."""


class Housekeeping:
    """Of one engine, on its event loop. Of several processes that serve one store, one at a time
    cleans up.
    """

    def __init__(self, engine: EngineContext, sweeper: Sweeper) -> None:
        self._engine = engine
        self._sweeper = sweeper
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when serving may begin; the clean-up runs behind it."""
        engine = self._engine
        CLOCK.retention = engine.settings.retention
        await engine.workers.run(CLOCK.restore, engine.store)
        try:
            _log(await self._sweeper.repair())
        except (StorageError, OSError) as error:  # files can be served all the same
            logger.warning("what a crash may have left is looked at later: %s", error)
        self._task = asyncio.ensure_future(self._clean_regularly())

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def clean(self) -> Swept:
        """One clean-up, unless another process is at it. Raises UploadError, OSError."""
        engine = self._engine
        swept = Swept()
        lock = await engine.workers.run(engine.locks.try_acquire, "sweep", undo=release_lock)
        if lock is None:
            return swept
        try:
            CLOCK.retention = engine.settings.retention
            await self._sweeper.clean(CLOCK.now(), swept)
            await engine.workers.run(CLOCK.save, engine.store)
        finally:
            await engine.workers.run(lock.release)
        return swept

    async def _clean_regularly(self) -> None:
        while True:
            try:
                _log(await self.clean())
            except (UploadError, OSError) as error:
                logger.warning("the clean-up failed; it is tried again: %s", error)
            # An upload that has expired is refused at once; the clean-up only frees its room.
            retention = self._engine.settings.retention
            pause = max(_SHORTEST, retention / 10) if retention else _LONGEST
            await asyncio.sleep(min(pause, _LONGEST))


def _log(swept: Swept) -> None:
    if any(dataclasses.astuple(swept)):
        logger.info("swept: %s", swept.summary())
