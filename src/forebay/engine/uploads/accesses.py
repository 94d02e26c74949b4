"""Who may work on an upload: opens exclusive access to one, recovered and checked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.about import about_of
from forebay.engine.clock import is_expired
from forebay.engine.lifecycle import Action, Command, action
from forebay.engine.uploads.access import UploadAccess
from forebay.engine.uploads.choice import claims_of
from forebay.engine.uploads.locking import UploadLocks
from forebay.engine.uploads.recovery import Recovery
from forebay.errors import (
    Forbidden,
    Gone,
    NotFound,
    StorageFailed,
    UploadBusy,
    WrongState,
)
from forebay.model import Principal, UploadRecord, UploadState
from forebay.record import Extra, Outcome, is_whole

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.sessions.base import Sessions
    from forebay.stores.base import Store

Authorise = Callable[..., Awaitable[Principal]]

logger = logging.getLogger("forebay")


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
        record = access.record
        check_alive(record)
        if is_whole(record) and record.state is UploadState.COMPLETING:
            raise UploadBusy(retry_after=1)  # the outbox has it: it is being published
        await self.recovery.recover(access)
        record = access.record
        access.action = action(record.state, command)
        if access.action is Action.GONE:
            raise _gone(record)
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
