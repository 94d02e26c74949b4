"""Who may work on an upload, and the exclusive access that one request has (invariants 4, 10)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.clock import is_expired
from forebay.engine.uploads.about import about_of
from forebay.engine.uploads.choice import claims_of
from forebay.engine.uploads.lifecycle import Action, Command, Event, action, after
from forebay.engine.uploads.locking import UploadLocks
from forebay.engine.uploads.recovery import Recovery
from forebay.errors import (
    DiskFull,
    Forbidden,
    Gone,
    NotFound,
    StorageFailed,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import Commit, Principal, UploadRecord, UploadState
from forebay.record import Extra, Outcome, is_whole

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.engine.uploads.claims import Claims
    from forebay.engine.uploads.locking import HeldLock
    from forebay.sessions.base import Sessions
    from forebay.stores.base import Staged, Store

Authorise = Callable[..., Awaitable[Principal]]

logger = logging.getLogger("forebay")


class UploadAccess:
    """Exclusive access to one upload: all changes of its record and its data go through here."""

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
        await self._claims.advance(self._claim, commit, expires_at)

    async def change(self, event: Event | None = None, **changes: Any) -> UploadRecord:
        """Changes fields of the record, and its state by `event`. Raises LeaseLost, WrongState."""
        if event is not None:
            changes["state"] = after(self.record.state, event)
        await self._claims.change(self._claim, **changes)
        return self.record

    async def change_extra(self, extra: Extra) -> UploadRecord:
        """Replaces what the record holds beyond its columns. Raises as `change`."""
        return await self.change(extra=extra.encode())

    async def fail(self, error: UploadError) -> None:
        """The upload ends here: its data goes, and whoever comes back gets the reason."""
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


class Accesses:
    """Opens the access to one upload at a time, for its owner.

    Args:
        authorise: see `EngineContext.authorise`; None where only `open_idle` is used.
        lingering: local claims may stay for a moment, for the next request.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        workers: Workers,
        authorise: Authorise | None = None,
        *,
        lingering: bool = False,
    ) -> None:
        self.sessions = sessions
        self.claims = claims_of(store, sessions, workers, lingering=lingering)
        self.locks = UploadLocks(sessions, self.claims)
        self.recovery = Recovery(store, workers)
        self._workers = workers
        self._authorise = authorise

    @contextlib.asynccontextmanager
    async def open(
        self,
        upload_id: str,
        command: Command,
        context: Mapping[str, Any] | None,
        dialect: str | None = None,
        *,
        as_owner: bool = True,
    ) -> AsyncIterator[UploadAccess]:
        """Holds an upload for the block, with what a crash left of it recovered.

        Only for its owner, unless `as_owner` is false: then for the operator. `dialect`: only
        if the upload was begun in it. Raises NotFound, Gone, Forbidden, UploadBusy, WrongState.
        """
        lingering = command is Command.APPEND  # all others look at what is on the disk
        known = self.locks.record_of(upload_id) if lingering else None
        record = known or await self.sessions.load(upload_id)
        # Checked before the lock, so that a stranger cannot interrupt anybody.
        if as_owner:
            await self.check_owner(record, command, context)
        if dialect is not None:
            check_dialect(record, dialect)
        if command is Command.APPEND and Extra.of(record).parts:
            raise Forbidden("A final upload is made of its parts; nothing can be added.")
        async with self.locks.hold(upload_id, lingering=lingering) as lock:
            access = UploadAccess(self._workers, self.claims, lock)
            await self._check(access, command)
            yield access

    @contextlib.asynccontextmanager
    async def open_idle(self, upload_id: str) -> AsyncIterator[UploadAccess]:
        """Holds an upload, with what a crash left of it recovered; nobody is asked to let go of it.

        Raises UploadBusy, NotFound.
        """
        async with self.locks.hold(upload_id, request=False) as lock:
            access = UploadAccess(self._workers, self.claims, lock)
            await self.recovery.recover(access)
            yield access

    async def _check(self, access: UploadAccess, command: Command) -> None:
        check_alive(access.record)
        await self.recovery.recover(access)
        record = access.record
        access.action = action(record.state, command)
        if access.action is Action.GONE:
            raise _gone(record)
        if is_whole(record) and record.state is UploadState.COMPLETING:
            raise UploadBusy(retry_after=1)  # it is being published, and has no data of its own
        if record.is_unfinished:
            await self._check_data(access)

    async def _check_data(self, access: UploadAccess) -> None:
        """Raises Gone when acknowledged bytes are not there."""
        if not access.has_data or access.staged.offset < access.record.offset:
            error = StorageFailed("The data of this upload was lost; start a new one.")
            logger.error(
                "upload %s: %d bytes were committed and are not there",
                access.record.id,
                access.record.offset,
            )
            await access.fail(error)
            raise Gone(error.message)
        await access.rollback()

    async def check_owner(
        self, record: UploadRecord, action: str, context: Mapping[str, Any] | None
    ) -> None:
        """Raises what authorisation raises; NotFound for the upload of somebody else."""
        assert self._authorise is not None
        principal = await self._authorise(
            action, record.name, context, upload_id=record.id, about=lambda: about_of(record)
        )
        if principal.id != record.principal:
            raise NotFound  # a stranger does not learn that it exists


def check_alive(record: UploadRecord) -> None:
    """An expired upload is refused at once, also before the sweep removed it. Raises Gone."""
    if is_expired(record):
        raise Gone("This upload has expired; start a new one.")


def check_dialect(record: UploadRecord, dialect: str) -> None:
    """Raises WrongState."""
    if record.dialect != dialect:
        raise WrongState(
            f"This upload was begun in the {record.dialect} protocol and goes on in it.",
            state=record.state,
        )


def _gone(record: UploadRecord) -> Gone:
    reason = Outcome.of(record).message
    return Gone(f"This upload has ended: {reason}") if reason else Gone()
