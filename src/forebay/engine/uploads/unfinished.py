"""How many uploads are unfinished, and no more of them than `--max-unfinished`.

Those of which no byte has come are the first to go when there are too many: they cost a client one
small request each. Nobody counts at each creation: data is counted now and then, in a thread, and
what this process adds meanwhile is added. Other processes add as well: so it is counted again when
this one has added its share of what was left, and all together go beyond the limit by a little.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay.engine.maintenance.sweep import Sweeper
from forebay.errors import TooManyUnfinished

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.sessions.base import Sessions

_COUNT_AGAIN = 10.0
"""Least seconds between two counts."""
_EMPTY_FOR = 60.0
"""Seconds that an upload without a byte has from its creation before it may give way."""
_SHARE = 20
"""At least so many times what a count took passes until the next one."""


class Unfinished:
    """Used on the event loop only."""

    def __init__(self, engine: EngineContext, sessions: Sessions) -> None:
        self._engine = engine
        self._sweeper = Sweeper(engine.store, sessions, engine.workers, engine.locks)
        self._ending: asyncio.Task[int] | None = None
        self._known = 0
        self._again_at: float | None = None
        self._rested_at = 0.0
        """Not to be counted before, as it takes long."""
        self._share = 0
        """At so many in all it is counted again."""
        self._counting: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Before an upload is created. Raises TooManyUnfinished."""
        limit = self._engine.settings.max_unfinished
        if not limit:
            return
        if self._is_due():
            if self._counting is None or self._counting.done():
                self._counting = asyncio.ensure_future(self._count())
            if self._again_at is None or self._known >= min(self._share, limit):
                await asyncio.shield(self._counting)
        if self._known >= limit:
            await self._make_room()
        if self._known >= limit:
            raise TooManyUnfinished(retry_after=60)

    async def _make_room(self) -> None:
        """One looks at a time; others wait for what it finds."""
        if self._ending is None or self._ending.done():
            self._ending = asyncio.ensure_future(self._sweeper.end_empty(time.time() - _EMPTY_FOR))
            self._ending.add_done_callback(self._ended)
        await asyncio.shield(self._ending)

    def _ended(self, ending: asyncio.Task[int]) -> None:
        if not ending.cancelled() and ending.exception() is None:
            self._known -= ending.result()

    def _is_due(self) -> bool:
        if self._again_at is None:
            return True
        now = asyncio.get_running_loop().time()
        return now >= self._again_at or (self._known >= self._share and now >= self._rested_at)

    def added(self) -> None:
        self._known += 1

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._known = await self._engine.workers.run(self._count_all)
        ended = loop.time()
        self._rested_at = ended + _SHARE * (ended - begun)
        self._again_at = max(ended + _COUNT_AGAIN, self._rested_at)
        settings = self._engine.settings
        left = settings.max_unfinished - self._known
        self._share = self._known + max(1, left // (2 * settings.workers))

    def _count_all(self) -> int:
        return sum(1 for _ in self._engine.store.remains())
