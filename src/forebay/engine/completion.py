"""Finishing a resumable upload, so that a crash at any point is told apart afterwards.

The order (invariant 11): the chosen final name is recorded, then the data is published under
it, then the upload is recorded as complete, and only then does the staging name go. While
both names exist they are of one file, which is how a restart knows that publication happened.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from forebay.engine import outcome
from forebay.engine.workers import Workers
from forebay.errors import NameTaken, UploadBusy, WrongState
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


class Completion:
    """Publishes resumable uploads, and repairs what a crash left between two steps."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        workers: Workers,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._workers = workers

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
        known = outcome.prepared(digests)
        wanted = Publication(record.name, record.conflict, preconditions)
        while True:
            name = await self._workers.run(self._store.free_name, wanted)
            record = await self._sessions.update(
                record.id,
                version=record.version,
                state=UploadState.COMPLETING,
                final_name=name,
                outcome=known,
            )
            try:
                published = await self._publish(record, staged, preconditions)
            except NameTaken:
                if record.conflict is not Conflict.RENAME:
                    raise
                continue  # somebody was quicker, so another name is recorded and tried
            return await self._record(record, published.file, published.replaced)

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
            # Publication let go of the lock, and somebody repaired this record meanwhile.
            record = await self._sessions.load(record.id)
            if record.state is not UploadState.COMPLETE:
                raise
        with contextlib.suppress(UploadBusy):  # then the sweep takes the name away
            await self._workers.run(self._store.remove, record.id)
        return record

    async def repair(self, record: UploadRecord) -> UploadRecord:
        """After a crash: if the data is already under its recorded name, says so.

        Else the record is returned as it is: its bytes are there, and completion may be
        tried again.
        """
        if record.state is not UploadState.COMPLETING or record.final_name is None:
            return record
        file = await self._workers.run(self._store.published_from, record.id, record.final_name)
        return record if file is None else await self._record(record, file)
