"""Who may work on an upload, and how it is held meanwhile (invariants 4 and 10)."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.clock import is_expired
from forebay.engine.uploads import outcome
from forebay.engine.uploads.about import about_of
from forebay.engine.uploads.concatenation import parts_of
from forebay.engine.uploads.finish import Ending
from forebay.engine.uploads.lifecycle import Answer, Command, answer
from forebay.engine.uploads.locking import HeldLock, UploadLocks
from forebay.errors import (
    Forbidden,
    Gone,
    NotFound,
    StorageFailed,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")


class UploadAccess:
    """Lets one request at a time work on an upload, if it is its owner's."""

    def __init__(
        self, engine: EngineContext, sessions: Sessions, holders: UploadLocks, ending: Ending
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._holders = holders
        self._ending = ending

    @contextlib.asynccontextmanager
    async def held(
        self,
        upload_id: str,
        command: Command,
        context: Mapping[str, Any] | None,
        dialect: str | None = None,
        *,
        own: bool = True,
    ) -> AsyncIterator[tuple[UploadRecord, Staged | None, HeldLock, Answer]]:
        """Holds an upload and loads its state under the lock. Raises NotFound, Gone.

        Only for its owner, unless `own` is False: then for whoever runs the server.

        Who sets the Holding's `record` at the end, to the state it leaves, has the upload kept
        for the next request.
        """
        run = self._engine.workers.run
        # Asked first, so that a stranger cannot interrupt anybody.
        kept = command is Command.APPEND  # all others look anew at what is on the disk
        known = self._holders.kept(upload_id) if kept else None
        record = known or await self._sessions.load(upload_id)
        if own:
            await self.check_owner(record, command, context)
        if dialect is not None:
            check_dialect(record, dialect)
        if outcome.is_recorded(record) and record.state is UploadState.COMPLETING:
            raise UploadBusy(retry_after=1)  # it is being published, and has no data of its own
        if command is Command.APPEND and parts_of(record):
            raise Forbidden("A final upload is made of its parts; nothing can be added.")
        lock = functools.partial(self.claim, upload_id)
        async with self._holders.taken(upload_id, lock, kept=kept) as (holding, staged):
            try:
                record = holding.record or await self._sessions.load(upload_id)
                holding.record = None
                check_alive(record)
                if staged is not None:
                    record = await self._ending.settle(record, staged)
                todo = answer(record.state, command)
                if todo is Answer.GONE:
                    raise _gone(record)
                if staged is None and record.is_unfinished:
                    raise await self._lost(record)
                if staged is not None and record.is_unfinished:
                    if staged.offset < record.offset:
                        raise await self._lost(record, staged)
                    if staged.offset > record.offset:
                        await run(staged.rollback, record.offset)
                yield record, staged, holding, todo
            finally:
                if staged is not None and not self._holders.keep(upload_id, holding, staged):
                    await run(staged.close)

    async def claim(self, upload_id: str) -> Staged | None:
        try:
            return await self._engine.workers.run(self._engine.store.claim, upload_id, undo=_close)
        except NotFound:
            return None

    async def check_owner(
        self, record: UploadRecord, action: str, context: Mapping[str, Any] | None
    ) -> None:
        principal = await self._engine.authorise(
            action, record.name, context, upload_id=record.id, about=lambda: about_of(record)
        )
        if principal.id != record.principal:
            raise NotFound  # that it exists is nobody else's business

    async def _lost(self, record: UploadRecord, staged: Staged | None = None) -> UploadError:
        error = StorageFailed("The data of this upload was lost; start a new one.")
        logger.error(
            "upload %s: %d bytes were committed and are not there", record.id, record.offset
        )
        told = outcome.refused(error.code, error.message)
        await self._sessions.update(record.id, state=UploadState.FAILED, outcome=told)
        if staged is not None:
            await self._engine.workers.run(staged.discard)
        return Gone(error.message)


def check_alive(record: UploadRecord) -> None:
    """Refused from its moment on, also before the sweeper came. Raises Gone."""
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
    if record.outcome:
        told = json.loads(record.outcome)
        if "message" in told:
            return Gone(f"This upload has ended: {told['message']}")
    return Gone()


def _close(staged: Staged) -> None:
    staged.close()
