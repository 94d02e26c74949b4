"""How many uploads are unfinished, and no more of them than `--max-unfinished`.

Those of which no byte has come are the first to go when there are too many: they cost a client one
small request each. Nobody counts at each creation: data is counted now and then, in a thread, and
what this process adds meanwhile is added. Other processes may each add a little beyond the limit
until then.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay.engine.sweep import Sweeper
from forebay.errors import TooManyUnfinished

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.sessions.base import Sessions

_COUNT_AGAIN = 10.0
"""Least seconds between two counts."""
_EMPTY_FOR = 60.0
"""Seconds that an upload without a byte has from its creation before it may give way."""
_SHARE = 20
"""At least so many times what a count took passes until the next one."""


class Unfinished:
    """Used on the event loop only."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self._engine = engine
        self._sweeper = Sweeper(engine.store, sessions, engine.workers)
        self._ending: asyncio.Task[int] | None = None
        self._known = 0
        self._again_at: float | None = None
        self._counting: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Before an upload is created. Raises TooManyUnfinished."""
        limit = self._engine.settings.max_unfinished
        if not limit:
            return
        if self._again_at is None or asyncio.get_running_loop().time() >= self._again_at:
            if self._counting is None or self._counting.done():
                self._counting = asyncio.ensure_future(self._count())
            if self._again_at is None or self._known >= limit:
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

    def added(self) -> None:
        self._known += 1

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._known = await self._engine.workers.run(self._count_all)
        ended = loop.time()
        self._again_at = ended + max(_COUNT_AGAIN, _SHARE * (ended - begun))

    def _count_all(self) -> int:
        return sum(1 for _ in self._engine.store.staged_ids())
