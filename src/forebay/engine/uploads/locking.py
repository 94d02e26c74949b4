"""One holder of an upload at a time, and how another request gets it (invariant 10).

The claim decides, also between processes and machines. What is here only makes a holder let go:
in this process by its source's `stop`, elsewhere by a wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from forebay.engine.uploads.claims import Claim, Claims
from forebay.engine.uploads.lingering import LingeringClaims
from forebay.errors import Interrupted, UploadBusy, UploadError

if TYPE_CHECKING:
    from forebay.model import UploadRecord
    from forebay.sessions.base import Sessions

PATIENCE = 15.0
"""Seconds a newcomer waits for a holder, which may be inside a write to a slow disk."""
LEAST_HOLD = 0.25
"""Seconds that a request may read before it has to give way to another."""
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


Acquire = Callable[[str], Awaitable[Claim]]


class Stoppable(Protocol):
    """What reads for a holder: a request's body, or a copy of parts."""

    def stop(self, error: UploadError) -> None: ...


class HeldLock:
    """One request's hold of an upload. `claim` is set while it is held."""

    def __init__(self) -> None:
        self.claim: Claim
        self.lingers = False
        """Set by a holder after which the client's next request is likely to come soon."""
        self.requested = False
        """Whether somebody else waits for the upload."""
        self.released = asyncio.Event()
        self._source: Stoppable | None = None
        self._until = 0.0

    def read_from(self, source: Stoppable, least: float = LEAST_HOLD) -> None:
        """`source` is stopped when somebody asks for the upload, after `least` seconds: 0 where no
        client is waited for.
        """
        self._source = source
        self._until = asyncio.get_running_loop().time() + least
        if self.requested:
            self._stop_soon(source)

    def request_release(self) -> None:
        """Asks the holder to let go between two reads."""
        already, self.requested = self.requested, True
        if self._source is not None and not already:
            self._stop_soon(self._source)

    def _stop_soon(self, source: Stoppable) -> None:
        # Not before it had a moment to bring something: else many who ask would end each other
        # for ever, and nothing of the upload would arrive.
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            source.stop(Interrupted())
        else:
            loop.call_at(self._until, lambda: source.stop(Interrupted()))


class UploadLocks:
    """The uploads that requests of this process hold. Used on the event loop only."""

    def __init__(self, sessions: Sessions, claims: Claims) -> None:
        self._sessions = sessions
        self._claims = claims
        self._lingering = claims if isinstance(claims, LingeringClaims) else None
        self._held: dict[str, HeldLock] = {}
        sessions.on_release_asked(self._requested_elsewhere)

    def _requested_elsewhere(self, upload_id: str) -> None:
        lock = self._held.get(upload_id)
        if lock is not None:
            lock.request_release()
        elif self._lingering is not None:
            self._lingering.asked_for(upload_id)

    def record_of(self, upload_id: str) -> UploadRecord | None:
        """The record of a lingering upload; None when it has to be loaded."""
        return None if self._lingering is None else self._lingering.record_of(upload_id)

    @contextlib.asynccontextmanager
    async def hold(
        self, upload_id: str, *, request: bool = True, lingering: bool = False
    ) -> AsyncIterator[HeldLock]:
        """Holds the upload for the block, and releases it then.

        Whoever has it is asked to let go first; without `request` it is left alone. With
        `lingering` a claim that lingers will do. Raises UploadBusy when letting go takes longer
        than `PATIENCE`, or at once without `request`; NotFound when there is no record.
        """
        if not request and upload_id in self._held:
            raise UploadBusy(retry_after=1)
        deadline = asyncio.get_running_loop().time() + (PATIENCE if request else 0)
        lock = await self._enter(upload_id, deadline)
        try:
            acquire: Acquire = self._claims.acquire
            if lingering and self._lingering is not None:
                acquire = self._lingering.acquire_lingering
            lock.claim = await self._acquire(upload_id, acquire, deadline, steal=request)
            try:
                yield lock
            finally:
                if not (lock.lingers and self._linger(lock)):
                    await self._claims.release(lock.claim)
        finally:
            self._leave(upload_id, lock)

    @contextlib.asynccontextmanager
    async def hold_new(
        self, upload_id: str, create: Callable[[], Awaitable[Claim]]
    ) -> AsyncIterator[HeldLock]:
        """Holds an upload that `create` makes; from before anybody else can know of it."""
        lock = self._held[upload_id] = HeldLock()
        try:
            lock.claim = await create()
            try:
                yield lock
            finally:
                await self._claims.release(lock.claim)
        finally:
            self._leave(upload_id, lock)

    def _linger(self, lock: HeldLock) -> bool:
        return (
            not lock.requested
            and self._lingering is not None
            and self._lingering.linger(lock.claim)
        )

    async def _enter(self, upload_id: str, deadline: float) -> HeldLock:
        while (other := self._held.get(upload_id)) is not None:
            other.request_release()
            try:
                async with asyncio.timeout_at(deadline):
                    await other.released.wait()
            except TimeoutError:
                raise UploadBusy(retry_after=1) from None
        lock = self._held[upload_id] = HeldLock()
        return lock

    def _leave(self, upload_id: str, lock: HeldLock) -> None:
        del self._held[upload_id]
        lock.released.set()

    async def _acquire(
        self, upload_id: str, acquire: Acquire, deadline: float, *, steal: bool
    ) -> Claim:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            try:
                return await acquire(upload_id)
            except UploadBusy:
                if loop.time() + pause > deadline:
                    if not steal:
                        raise
                    break
            # Asked each time: the holder may have got it only after the last question.
            await self._sessions.ask_release(upload_id)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        # A holder that does not answer: a lock stays its own, a lease can be taken over.
        return await self._claims.acquire(upload_id, steal=True)

    async def close(self) -> None:
        """Releases what lingers."""
        if self._lingering is not None:
            await self._lingering.close()

    def close_now(self) -> None:
        """As `close`, from any thread, after the event loop was closed. Blocks."""
        if self._lingering is not None:
            self._lingering.close_now()
