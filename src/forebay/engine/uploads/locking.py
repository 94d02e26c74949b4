"""Who writes to which upload, and how another request gets it (invariant 10).

The lock on the data file decides, also between processes. What is here only makes a holder
let go: in this process by its source's `stop`, in others by a wake-up.

An upload whose request has ended well stays locked for a moment: when the next request of the
same client is here soon, it finds data and state at hand. Whoever else asks gets it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from forebay.engine.transfer.workers import Workers
from forebay.errors import Interrupted, UploadBusy, UploadError
from forebay.model import UploadRecord
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged

logger = logging.getLogger("forebay")

Lock = Callable[[], Awaitable[Staged | None]]

PATIENCE = 15.0
"""Seconds a newcomer waits for a holder, which may be inside a write to a slow disk."""

KEPT_FOR = 0.25
"""Seconds an upload stays locked for its client's next request."""
KEPT_MOST = 64
"""Most uploads that are kept so in one process, each with a descriptor."""
_WANDERING_MOST = 1024

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


class Stoppable(Protocol):
    """What reads for a holder: a request's body, or a copy of parts."""

    def stop(self, error: UploadError) -> None: ...


LEAST_HOLD = 0.25
"""Seconds that a request may read before it has to give way to another."""


class HeldLock:
    """One request's hold of an upload; `source` is set while it reads.

    `record`: its state, where that is known without asking; who leaves it behind, `keep`s it.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self.record: UploadRecord | None = None
        self.source: Stoppable | None = None
        self.asked = False
        self.released = asyncio.Event()

    def read_from(self, source: Stoppable, least: float = LEAST_HOLD) -> None:
        """`least`: seconds before it is stopped for another; 0 where no client is waited for."""
        self.source = source
        self._until = asyncio.get_running_loop().time() + least
        if self.asked:
            self._stop_soon(source)

    def ask(self) -> None:
        already, self.asked = self.asked, True
        if self.source is not None and not already:
            self._stop_soon(self.source)

    def _stop_soon(self, source: Stoppable) -> None:
        """Not before it had a moment to bring something: else many who ask would end each other
        for ever, and nothing of the upload would arrive.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            source.stop(Interrupted())
        else:
            loop.call_at(self._until, lambda: source.stop(Interrupted()))


@dataclasses.dataclass(slots=True)
class _Kept:
    record: UploadRecord
    staged: Staged
    timer: asyncio.TimerHandle


class UploadLocks:
    """All uploads that requests of this process hold, or have just held. Used on the event loop
    only.
    """

    def __init__(self, sessions: Sessions, workers: Workers) -> None:
        self._sessions = sessions
        self._workers = workers
        self._held: dict[str, HeldLock] = {}
        self._kept: dict[str, _Kept] = {}
        # Their requests come to other processes in turn: to keep them would only hold those up.
        self._wandering: dict[str, None] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._closed = False
        sessions.on_release_asked(self.release)

    def release(self, upload_id: str) -> None:
        """Another process asks for it: the holder in this one, if any, stops between two reads."""
        holding = self._held.get(upload_id)
        if holding is not None:
            holding.ask()
        elif upload_id in self._kept:
            self._let_go(upload_id)
            if len(self._wandering) >= _WANDERING_MOST:
                del self._wandering[next(iter(self._wandering))]
            self._wandering[upload_id] = None

    @contextlib.asynccontextmanager
    async def taken(
        self, upload_id: str, lock: Lock, *, ask: bool = True, kept: bool = False
    ) -> AsyncIterator[tuple[HeldLock, Staged | None]]:
        """Holds the upload: yields `(Holding, what lock() returned)`; with `kept` and when it
        was, what was kept, and its `record` in the Holding.

        `lock` raises UploadBusy while another process has it. Whoever has it, here or there,
        is made to let go first, unless `ask` is false: then it is left alone, UploadBusy.
        Raises UploadBusy, too, when letting go took longer than `PATIENCE`.
        """
        loop = asyncio.get_running_loop()
        if not ask and upload_id in self._held:
            raise UploadBusy(retry_after=1)
        deadline = loop.time() + (PATIENCE if ask else 0)
        holding = await self._enter(upload_id, deadline)
        try:
            last = self._take_kept(upload_id)
            if last is not None and kept:
                holding.record = last.record
                yield holding, last.staged
            else:
                if last is not None:
                    await self._workers.run(last.staged.close)
                yield holding, await self._lock(upload_id, lock, deadline)
        finally:
            del self._held[upload_id]
            holding.released.set()

    # --- kept for the next request -----------------------------------------------------------

    def kept(self, upload_id: str) -> UploadRecord | None:
        """The state of an upload that is kept: nobody else can have changed it."""
        kept = self._kept.get(upload_id)
        return None if kept is None else kept.record

    def keep(self, upload_id: str, holding: HeldLock, staged: Staged) -> bool:
        """Called last in a hold that knows the `record` it leaves: keeps the upload locked, and
        `staged` open, for a moment. False, and nothing was done, when others want it.
        """
        wanted = holding.asked or upload_id in self._wandering
        if holding.record is None or wanted or self._closed:
            return False
        if len(self._kept) >= KEPT_MOST:
            self._let_go(next(iter(self._kept)))
        loop = asyncio.get_running_loop()
        timer = loop.call_later(KEPT_FOR, self._let_go, upload_id)
        self._kept[upload_id] = _Kept(holding.record, staged, timer)
        return True

    def _take_kept(self, upload_id: str) -> _Kept | None:
        kept = self._kept.pop(upload_id, None)
        if kept is not None:
            kept.timer.cancel()
        return kept

    def _let_go(self, upload_id: str) -> None:
        kept = self._take_kept(upload_id)
        if kept is not None:
            closing = asyncio.ensure_future(self._workers.run(kept.staged.close))
            self._closing.add(closing)
            closing.add_done_callback(self._let_gone)

    def _let_gone(self, closing: asyncio.Future[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            logger.warning("the data of an upload could not be closed: %s", error)

    async def close(self) -> None:
        """Lets go of all that is kept; from now on nothing is."""
        self._closed = True
        for upload_id in list(self._kept):
            self._let_go(upload_id)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def close_now(self) -> None:
        """As `close`, from any thread, after the event loop was closed. Blocks."""
        self._closed = True
        while self._kept:
            _, kept = self._kept.popitem()
            try:
                kept.staged.close()
            except OSError as error:
                logger.warning("the data of an upload could not be closed: %s", error)

    # --- the lock ----------------------------------------------------------------------------

    async def _enter(self, upload_id: str, deadline: float) -> HeldLock:
        while (other := self._held.get(upload_id)) is not None:
            other.ask()
            try:
                async with asyncio.timeout_at(deadline):
                    await other.released.wait()
            except TimeoutError:
                raise UploadBusy(retry_after=1) from None
        holding = self._held[upload_id] = HeldLock()
        return holding

    async def _lock(self, upload_id: str, lock: Lock, deadline: float) -> Staged | None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            try:
                return await lock()
            except UploadBusy:
                if loop.time() + pause > deadline:
                    raise
            # Asked each time: the holder may have got it only after the last question.
            await self._sessions.ask_release(upload_id)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
