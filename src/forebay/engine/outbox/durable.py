"""Whole uploads whose callback no crash swallows: a row of the session store for each.

The row comes first (COMPLETING, with the final name, the identity of the data and `notify_at`),
then the file is published, then the callback is called, and then the row goes (invariant 11).
Whoever works on it holds the lock of the upload's id meanwhile. When that process dies the lock is
free, and the row is judged by what is published: see `recover`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.files.publish import OTHERS_WAIT, publish_noted, published_file
from forebay.engine.files.withdraw import withdraw
from forebay.engine.lifecycle import completed
from forebay.engine.outbox.pending import WholeUpload
from forebay.engine.transfer.workers import Workers
from forebay.errors import NotFound, StorageError, UploadBusy, UploadError
from forebay.locks.base import Lock, Locks, release_lock
from forebay.model import Stored, UploadRecord, UploadState
from forebay.record import Outcome, stored_of
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged, Store

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.notifier import Notifier


class DurableOutbox:
    """Publishes whole uploads with a row for each."""

    def __init__(self, engine: EngineContext, sessions: Sessions, notifier: Notifier) -> None:
        self._engine = engine
        self._sessions = sessions
        self._notifier = notifier

    async def publish(self, staged: Staged, upload: WholeUpload) -> DurableNotification:
        """Publishes the data, which is closed then. Raises what publication raises; the data is
        then still the caller's to discard.
        """
        run, locks = self._engine.workers.run, self._engine.locks
        lock = await run(locks.try_acquire, upload.id, undo=release_lock)
        if lock is None:
            raise UploadBusy(retry_after=1)
        try:
            record = await self._publish(staged, upload)
        except BaseException:
            await self._recover(upload.id, lock)
            raise
        return DurableNotification(
            self._engine, self._sessions, self._notifier, record, upload.context, lock
        )

    async def _publish(self, staged: Staged, upload: WholeUpload) -> UploadRecord:
        """The record as it is then; that is not written, as it goes when the callback returned."""
        retention = self._engine.settings.retention
        record: UploadRecord | None = None

        async def note(name: str, identity: str) -> None:
            nonlocal record
            outcome = Outcome(upload.digests, upload.received, identity).encode()
            if record is not None:
                record = await self._sessions.update(
                    record.id, version=record.version, final_name=name, outcome=outcome
                )
                return
            record = dataclasses.replace(
                upload.record(staged.offset),
                final_name=name,
                outcome=outcome,
                expires_at=time.time() + retention if retention else None,
                notify_at=time.time() + OTHERS_WAIT,
            )
            await self._sessions.create(record)

        published = await publish_noted(self._engine, staged, upload.publication, note)
        assert record is not None
        return dataclasses.replace(
            record, **completed(record, published.file, time.time(), replaced=published.replaced)
        )

    async def _recover(self, upload_id: str, lock: Lock) -> None:
        """After a publication that failed, or was cancelled: what is published all the same has
        its callback called. What cannot be judged now is left to a sweep.
        """
        recovered = None
        try:
            with contextlib.suppress(UploadError):
                record = await self._sessions.load(upload_id)
                recovered = await _judge(
                    self._engine.store, self._sessions, self._engine.workers, record
                )
        finally:
            await self._engine.workers.run(lock.release)
        if recovered is not None:
            self._notifier.soon(recovered)


class DurableNotification:
    """A `forebay.engine.outbox.pending.PendingNotification` that has a row, and its lock."""

    def __init__(
        self,
        engine: EngineContext,
        sessions: Sessions,
        notifier: Notifier,
        record: UploadRecord,
        context: Mapping[str, Any] | None,
        lock: Lock,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._notifier = notifier
        self._record = record
        self._context = context
        self._lock = lock

    @property
    def stored(self) -> Stored:
        stored = stored_of(self._record)
        assert stored is not None
        return stored

    async def notify(self) -> None:
        await self._notifier.notify(self._record, self._context, self._lock)

    async def take_back(self) -> None:
        run = self._engine.workers.run
        try:
            # First the file: should the process die here, the row goes when it is judged.
            await run(withdraw, self._engine.store, self.stored)
            with contextlib.suppress(StorageError):
                await self._sessions.delete(self._record.id)
        finally:
            await run(self._lock.release)

    def abandon(self) -> None:
        self._notifier.begin(self._record, self._context, self._lock)


async def recover(
    store: Store, sessions: Sessions, workers: Workers, locks: Locks, upload_id: str
) -> UploadRecord | None:
    """Judges the row of a whole upload whose process may have died: COMPLETE when its file is
    published; else the row goes. The record when it is COMPLETE now, and its call is to be made.

    None, too, while a living process works on it. Raises StorageError.
    """
    lock = await workers.run(locks.try_acquire, upload_id, undo=release_lock)
    if lock is None:
        return None
    try:
        return await _judge(store, sessions, workers, await sessions.load(upload_id))
    except NotFound:  # it was notified meanwhile
        return None
    finally:
        await workers.run(lock.release)


async def _judge(
    store: Store, sessions: Sessions, workers: Workers, record: UploadRecord
) -> UploadRecord | None:
    """The caller holds the lock."""
    if record.state is not UploadState.COMPLETING:
        return None
    file = await published_file(store, workers, record)
    if file is None:
        await sessions.delete(record.id)
        return None
    return await sessions.update(
        record.id, version=record.version, **completed(record, file, time.time())
    )
