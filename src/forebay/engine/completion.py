"""Finishing a resumable upload, so that a crash at any point is told apart afterwards.

The order (invariant 11): the chosen final name is recorded, then the data is published under
it, then the upload is recorded as complete, then whoever wants to know is told, and only then
does the staging name go. While both names exist they are of one file, which is how a restart
knows that publication happened, and that perhaps nobody was told of it. Whoever holds the
data's lock tells, so two never do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from forebay.engine import outcome
from forebay.engine.workers import Workers
from forebay.errors import NameTaken, NotFound, UploadError, WrongState
from forebay.model import (
    NO_PRECONDITIONS,
    Conflict,
    Digest,
    FileInfo,
    Preconditions,
    UploadRecord,
    UploadState,
)
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Published, Staged, Store

Tell = Callable[[UploadRecord], Awaitable[None]]


class Completion:
    """Publishes resumable uploads, and repairs what a crash left between two steps.

    `tell` is called with each record that became complete, before it is let go of. Without
    it nobody is told here; what is owed to somebody is then left for who can tell.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        workers: Workers,
        tell: Tell | None = None,
        *,
        owes: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._workers = workers
        self._tell = tell
        self._owes = owes

    async def complete(
        self,
        record: UploadRecord,
        staged: Staged,
        preconditions: Preconditions = NO_PRECONDITIONS,
        digests: Iterable[Digest] = (),
    ) -> UploadRecord:
        """Publishes `staged`, which holds all bytes of `record` and is locked by the caller.

        Raises NameTaken, NotAFolder, PreconditionFailed or a StorageError; the upload is then
        still there, COMPLETING, and may be completed again.
        """
        record, published = await self.publish(record, staged, preconditions, digests)
        record = await self._record(record, published.file, published.replaced)
        await self.conclude(record, staged)
        return record

    async def publish(
        self,
        record: UploadRecord,
        staged: Staged,
        preconditions: Preconditions = NO_PRECONDITIONS,
        digests: Iterable[Digest] = (),
    ) -> tuple[UploadRecord, Published]:
        """The first half of `complete`: up to the moment when the file has its name.

        A record of version 0 is not kept yet, and is from its first name on.
        """
        known = outcome.prepared(digests, owed=self._owes())
        wanted = Publication(record.name, record.conflict, preconditions)
        while True:
            name = await self._free_name(record, wanted)
            record = await self._note(record, final_name=name, outcome=known)
            try:
                return record, await self._publish(record, staged, preconditions)
            except NameTaken:
                if record.conflict is not Conflict.RENAME:
                    raise
                # somebody was quicker, so another name is recorded and tried

    async def _note(self, record: UploadRecord, **changes: Any) -> UploadRecord:
        changes |= {"state": UploadState.COMPLETING, "length": record.offset}
        if record.version:
            return await self._sessions.update(record.id, version=record.version, **changes)
        record = dataclasses.replace(record, version=1, **changes)
        await self._sessions.create(record)
        return record

    async def _free_name(self, record: UploadRecord, wanted: Publication) -> str:
        try:
            return await self._workers.run(self._store.free_name, wanted)
        except UploadError:
            if record.state is UploadState.OPEN and record.version:
                await self._note(record)
            raise

    async def _publish(
        self, record: UploadRecord, staged: Staged, preconditions: Preconditions
    ) -> Published:
        assert record.final_name is not None
        # Renaming is done here, a recorded name at a time; the store must not choose another.
        policy = Conflict.REFUSE if record.conflict is Conflict.RENAME else record.conflict
        how = Publication(record.final_name, policy, preconditions)
        if self._store.capabilities.prepares:
            while not await self._workers.run(staged.prepare, how.name):
                pass
        return await self._workers.run(staged.publish, how)

    async def _record(
        self, record: UploadRecord, file: FileInfo, replaced: bool = False
    ) -> UploadRecord:
        try:
            record = await self._sessions.update(
                record.id,
                version=record.version,
                state=UploadState.COMPLETE,
                final_size=file.size,
                outcome=outcome.finished(record, file, replaced, time.time()),
            )
        except WrongState:
            # A process that starts repairs without the lock: it saw the new name meanwhile.
            record = await self._sessions.load(record.id)
            if record.state is not UploadState.COMPLETE:
                raise
        return record

    async def conclude(self, record: UploadRecord, staged: Staged) -> bool:
        """Tells of a complete upload whose data the caller holds, and lets go of the data.

        False when it was left, because it is owed to somebody who cannot be told here.
        """
        if self._tell is not None:
            await self._tell(record)  # cancelled here, the name stays, and it is told again
        elif outcome.is_owed(record):
            staged.seal()
            return False
        await self._workers.run(staged.discard)
        return True

    async def settle(self, record: UploadRecord, staged: Staged) -> tuple[UploadRecord, bool]:
        """Ends what a crash or a cancelled request left of an upload whose data the caller holds:
        a record to complete, somebody to tell. The record as it is then, and whether the data
        was let go of.
        """
        record = await self.repair(record)
        if not outcome.is_published(record):
            return record, False
        return record, await self.conclude(record, staged)

    async def repair(self, record: UploadRecord) -> UploadRecord:
        """After a crash: if the data is already under its recorded name, says so.

        Else the record is returned as it is: its bytes are there, and completion may be
        tried again. What is complete now has yet to be concluded. Without the lock it may be
        somebody else's to end by now; it is returned as it was, then, too.
        """
        if record.state is not UploadState.COMPLETING or record.final_name is None:
            return record
        file = await self._workers.run(self._store.published_from, record.id, record.final_name)
        if file is not None:
            with contextlib.suppress(NotFound, WrongState):
                return await self._record(record, file)
        return record
