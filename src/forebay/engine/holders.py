"""Who writes to which upload, and how another request gets it (invariant 10).

The lock on the data file decides, also between processes. What is here only makes a holder
let go: in this process by its source's `stop`, in others by a wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from forebay.errors import Interrupted, UploadBusy, UploadError
from forebay.sessions.base import Sessions

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds a newcomer waits for a holder, which may be inside a write to a slow disk."""

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


class Stoppable(Protocol):
    """What reads for a holder: a request's body, or a copy of parts."""

    def stop(self, error: UploadError) -> None: ...


class Holding:
    """One request's hold of an upload; `source` is set while it reads."""

    def __init__(self) -> None:
        self.source: Stoppable | None = None
        self.asked = False
        self.released = asyncio.Event()

    def read_from(self, source: Stoppable) -> None:
        self.source = source
        if self.asked:
            source.stop(Interrupted())

    def ask(self) -> None:
        self.asked = True
        if self.source is not None:
            self.source.stop(Interrupted())


class Holders:
    """All uploads that requests of this process hold. Used on the event loop only."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held: dict[str, Holding] = {}
        sessions.on_release_asked(self.release)

    def release(self, upload_id: str) -> None:
        """Asks the holder in this process, if there is one, to stop between two reads."""
        holding = self._held.get(upload_id)
        if holding is not None:
            holding.ask()

    @contextlib.asynccontextmanager
    async def taken(  # type: ignore[no-untyped-def]
        self, upload_id: str, lock: Callable[[], Awaitable[T]], *, ask: bool = True
    ):
        """Holds the upload: yields `(Holding, what lock() returned)`.

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
            yield holding, await self._lock(upload_id, lock, deadline)
        finally:
            del self._held[upload_id]
            holding.released.set()

    async def _enter(self, upload_id: str, deadline: float) -> Holding:
        while (other := self._held.get(upload_id)) is not None:
            other.ask()
            try:
                async with asyncio.timeout_at(deadline):
                    await other.released.wait()
            except TimeoutError:
                raise UploadBusy(retry_after=1) from None
        holding = self._held[upload_id] = Holding()
        return holding

    async def _lock(self, upload_id: str, lock: Callable[[], Awaitable[T]], deadline: float) -> T:
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
