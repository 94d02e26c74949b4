"""Finishing a resumable upload, so that a crash at any point is told apart afterwards.

The order (invariant 11): the chosen final name is recorded, and that a callback has to be called
about the file; then the data is published under that name, then the upload is recorded as complete,
and only then does the staging name go. While both names exist they are of one file, which is how a
restart knows that publication happened. The callback is called next, by `notifying`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads import outcome
from forebay.errors import NameTaken, NotFound, UploadError, WrongState
from forebay.model import Conflict, Digest, FileInfo, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Published, Staged, Store

_OTHERS_WAIT = 5.0
"""Seconds that others leave the first call of a callback to whoever publishes the file."""


class Completion:
    """Publishes resumable uploads, and repairs what a crash left between two steps.

    `notifies`: whether a callback has to be called about what is published from now on.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        workers: Workers,
        *,
        notifies: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._workers = workers
        self._notifies = notifies

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
        await self._workers.run(staged.discard)
        return record

    async def publish(
        self,
        record: UploadRecord,
        staged: Staged,
        preconditions: Preconditions = NO_PRECONDITIONS,
        digests: Iterable[Digest] = (),
        received: int | None = None,
    ) -> tuple[UploadRecord, Published]:
        """The first half of `complete`: up to the moment when the file has its name.

        A record of version 0 is not kept yet, and is from its first name on. `received`: bytes
        that came, of what was decoded.
        """
        known = outcome.prepared(digests, received)
        notify_at = time.time() + _OTHERS_WAIT if self._notifies() else None
        wanted = Publication(record.name, record.conflict, preconditions)
        while True:
            name = await self._free_name(record, wanted)
            record = await self._note(record, final_name=name, outcome=known, notify_at=notify_at)
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
        if staged.prepare_waits:
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

    async def settle(self, record: UploadRecord, staged: Staged) -> UploadRecord:
        """Ends what a crash or a cancelled request left of an upload whose data the caller holds;
        the record as it is then. Of what is published the data is let go of.
        """
        record = await self.repair(record)
        if outcome.is_published(record):
            await self._workers.run(staged.discard)
        return record

    async def repair(self, record: UploadRecord) -> UploadRecord:
        """After a crash: if the data is already under its recorded name, says so.

        Else the record is returned as it is: its bytes are there, and completion may be
        tried again. Without the lock it may be somebody else's to end by now; it is returned as
        it was, then, too.
        """
        if record.state is not UploadState.COMPLETING or record.final_name is None:
            return record
        file = await self._workers.run(self._store.published_from, record.id, record.final_name, "")
        if file is not None:
            with contextlib.suppress(NotFound, WrongState):
                return await self._record(record, file)
        return record
