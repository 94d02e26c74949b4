"""Exclusive access to one upload (invariants 4 and 10)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from forebay.engine.lifecycle import Action, Event, after
from forebay.engine.uploads.claims import ended
from forebay.errors import DiskFull, NotFound, UploadError
from forebay.model import Commit, UploadRecord, UploadState
from forebay.record import Extra, Outcome

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.engine.uploads.claims import Claims
    from forebay.engine.uploads.locking import HeldLock
    from forebay.stores.base import Staged


class UploadAccess:
    """Exclusive access to one upload: all changes of its record and its data go through here.

    A change is waited for also when the waiting task is cancelled: `record` is right afterwards.
    """

    def __init__(self, workers: Workers, claims: Claims, lock: HeldLock) -> None:
        self._run = workers.run
        self._claims = claims
        self._claim = lock.claim
        self.lock = lock
        self.action = Action.RECEIVE
        """What the command that it was opened for does."""

    @property
    def record(self) -> UploadRecord:
        """As it is now."""
        return self._claim.record

    @property
    def staged(self) -> Staged:
        """Its data. An upload that is not finished has some."""
        return self._claim.data

    @property
    def has_data(self) -> bool:
        return self._claim.staged is not None

    async def advance(self, commit: Commit, expires_at: float | None) -> None:
        """Records a commit. Raises LeaseLost, OffsetMismatch, WrongState."""
        await ended(self._claims.advance(self._claim, commit, expires_at))

    async def change(self, event: Event | None = None, **changes: Any) -> UploadRecord:
        """Changes fields of the record, and its state by `event`. Raises LeaseLost, WrongState."""
        if event is not None:
            changes["state"] = after(self.record.state, event)
        await ended(self._claims.change(self._claim, **changes))
        return self.record

    async def reload(self) -> None:
        """Reads the record again. Raises NotFound."""
        await self._claims.reload(self._claim)

    async def change_extra(self, extra: Extra) -> UploadRecord:
        """Replaces what the record holds beyond its columns. Raises as `change`."""
        return await self.change(extra=extra.encode())

    async def fail(self, error: UploadError) -> None:
        """The upload ends here: its data goes, and whoever comes back gets the reason.

        The first reason stays.
        """
        if self.record.state is UploadState.FAILED:
            return
        reason = Outcome(code=error.code, message=error.message).encode()
        try:
            with contextlib.suppress(NotFound):
                await self.change(Event.FAILED, outcome=reason)
        except BaseException:
            if self.has_data and self.staged.dead:  # of no use, whatever is recorded
                await self.drop_data()
            raise
        await self.drop_data()

    async def remove(self) -> None:
        """Nothing of it stays. The record goes first: without its data it would look lost to
        another process that is asked just then.
        """
        try:
            await self._claims.delete(self._claim)
        except DiskFull:
            if not self.has_data:
                raise
            await self.drop_data()  # which makes room
            await self._claims.delete(self._claim)
        await self.drop_data()

    async def drop_data(self) -> None:
        """Removes the data, if there is any."""
        if self._claim.staged is not None:
            await self._run(self._claim.staged.discard)

    async def rollback(self) -> None:
        """Forgets what was written and not recorded."""
        if self.staged.offset > self.record.offset:
            await self._run(self.staged.rollback, self.record.offset)
