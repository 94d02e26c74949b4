"""Local claims that stay for a moment: the next request of the same client finds all at hand.

An upload whose request ended well stays locked and open for a quarter of a second; whoever else
asks for it gets it at once. Never used with leases. See docs/decisions/014.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from forebay.engine.uploads.claims import Claim, LocalClaims
from forebay.model import UploadRecord

logger = logging.getLogger("forebay")

LINGER = 0.25
"""Seconds an upload stays locked for its client's next request."""
MOST = 64
"""Uploads that linger at once in one process, each with a descriptor."""
_WANDERING_MOST = 1024


@dataclasses.dataclass(slots=True)
class _Lingering:
    claim: Claim
    timer: asyncio.TimerHandle


class LingeringClaims:
    """Decorates `LocalClaims`. Used on the event loop only."""

    def __init__(self, claims: LocalClaims) -> None:
        self._claims = claims
        self._lingering: dict[str, _Lingering] = {}
        # Their requests come to several processes in turn: lingering would only hold those up.
        self._wandering: dict[str, None] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self.create = claims.create
        self.advance = claims.advance
        self.change = claims.change
        self.reload = claims.reload
        self.delete = claims.delete
        self.release = claims.release

    def record_of(self, upload_id: str) -> UploadRecord | None:
        """The record of a lingering upload: nobody else can have changed it."""
        lingering = self._lingering.get(upload_id)
        return None if lingering is None else lingering.claim.record

    async def acquire(self, upload_id: str, *, steal: bool = False) -> Claim:
        """As `Claims.acquire`, from the disk and the session store."""
        lingering = self._take(upload_id)
        if lingering is not None:
            await self._claims.release(lingering)
        return await self._claims.acquire(upload_id)

    async def acquire_lingering(self, upload_id: str) -> Claim:
        """The same, or the lingering one as it was left."""
        return self._take(upload_id) or await self._claims.acquire(upload_id)

    def linger(self, claim: Claim) -> bool:
        """Called instead of `release` by a holder whose record is right as it is. False, and
        nothing was done, when the upload may not linger.
        """
        upload_id = claim.record.id
        if self._closed or claim.staged is None or upload_id in self._wandering:
            return False
        if len(self._lingering) >= MOST:
            self.let_go(next(iter(self._lingering)))
        timer = asyncio.get_running_loop().call_later(LINGER, self.let_go, upload_id)
        self._lingering[upload_id] = _Lingering(claim, timer)
        return True

    def _take(self, upload_id: str) -> Claim | None:
        lingering = self._lingering.pop(upload_id, None)
        if lingering is None:
            return None
        lingering.timer.cancel()
        return lingering.claim

    def asked_for(self, upload_id: str) -> None:
        """Another process wants the upload: it does not linger here any more."""
        if upload_id in self._lingering:
            self.let_go(upload_id)
            if len(self._wandering) >= _WANDERING_MOST:
                del self._wandering[next(iter(self._wandering))]
            self._wandering[upload_id] = None

    def let_go(self, upload_id: str) -> None:
        claim = self._take(upload_id)
        if claim is not None:
            closing = asyncio.ensure_future(self._claims.release(claim))
            self._closing.add(closing)
            closing.add_done_callback(self._has_closed)

    def _has_closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            logger.warning("the data of an upload could not be closed: %s", error)

    async def close(self) -> None:
        """Releases all; from now on nothing lingers."""
        self._closed = True
        for upload_id in list(self._lingering):
            self.let_go(upload_id)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def close_now(self) -> None:
        """As `close`, from any thread, after the event loop was closed. Blocks."""
        self._closed = True
        while self._lingering:
            _, lingering = self._lingering.popitem()
            try:
                lingering.claim.data.close()
            except OSError as error:
                logger.warning("the data of an upload could not be closed: %s", error)
