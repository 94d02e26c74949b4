"""Limits the number of unfinished uploads to `--max-unfinished`.

When there are too many, uploads without a byte are ended first: each costs a client only one small
request. Creations do not count all uploads: their data is counted now and then, in a thread, and
those that this process creates meanwhile are added. Other processes create some, too: so it is
counted again when this one has created its share of the rest, and all processes together exceed the
limit only by a few.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from forebay.engine.uploads.expire import end_empty
from forebay.errors import TooManyUnfinished
from forebay.model import UNFINISHED
from forebay.sessions.base import each_record
from forebay.stores.base import Lockable, Sweepable

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.uploads.accesses import Accesses

_COUNT_AGAIN = 10.0
"""Fewest seconds between two counts."""
_EMPTY_FOR = 60.0
"""Seconds from its creation on for which an upload without a byte is not ended."""
_SHARE = 20
"""The next count starts at least so many times later than the last one took."""


class Unfinished:
    """Counts the unfinished uploads of one engine, on its event loop."""

    def __init__(self, engine: EngineContext, accesses: Accesses) -> None:
        self._engine = engine
        self._accesses = accesses
        self._ending: asyncio.Task[int] | None = None
        self._known = 0
        self._again_at: float | None = None
        self._rested_at = 0.0
        """When it may be counted again, as counting takes long."""
        self._share = 0
        """The number of uploads at which it is counted again."""
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
        """One call at a time; others wait for its result."""
        if self._ending is None or self._ending.done():
            self._ending = asyncio.ensure_future(
                end_empty(self._accesses, time.time() - _EMPTY_FOR)
            )
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
        """An upload was created."""
        self._known += 1

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._known = await self._count_all()
        ended = loop.time()
        self._rested_at = ended + _SHARE * (ended - begun)
        self._again_at = max(ended + _COUNT_AGAIN, self._rested_at)
        settings = self._engine.settings
        left = settings.max_unfinished - self._known
        self._share = self._known + max(1, left // (2 * settings.workers))

    async def _count_all(self) -> int:
        store = self._engine.store
        if isinstance(store, Lockable) and isinstance(store, Sweepable):
            return await self._engine.workers.run(lambda: sum(1 for _ in store.remains()))
        # Where nothing is locked, new data is not among what remains.
        count = 0
        async for _ in each_record(self._accesses.sessions, *UNFINISHED):
            count += 1
        return count
