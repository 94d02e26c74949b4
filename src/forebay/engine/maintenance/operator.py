"""What an operator can do with resumable uploads, beside a running server or without one.

State and locks are those of the server: an upload that it holds is requested from it, as a request
of a client does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from forebay.engine.clock import CLOCK
from forebay.engine.context import EngineContext
from forebay.engine.files.remove import Removal
from forebay.engine.maintenance.sweep import Sweeper, Swept
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.accesses import Accesses
from forebay.engine.uploads.service import UploadService
from forebay.errors import NotFound
from forebay.hooks.python import PythonHooks
from forebay.model import Principal, UploadRecord, UploadState
from forebay.record import Outcome
from forebay.sessions.base import Sessions, each_record
from forebay.sessions.records import is_unnotified

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.locks.base import Locks
    from forebay.stores.base import Store


async def list_uploads(
    sessions: Sessions | None, state: UploadState | None = None
) -> AsyncIterator[UploadRecord]:
    """All uploads, or those of one state, in order of their ids. Raises StorageError."""
    if sessions is not None:
        async for record in each_record(sessions, *([state] if state else [])):
            yield record


async def load_upload(sessions: Sessions | None, upload_id: str) -> UploadRecord:
    """One upload as it is committed. Raises NotFound, StorageError."""
    if sessions is None:
        raise NotFound("There is no such upload.")
    return await sessions.load(upload_id)


def describe_callback(record: UploadRecord) -> dict[str, Any] | None:
    """The pending call of `on_complete` for an upload's file; None when there is none.

    `next` is in seconds since the epoch. For operators only: `last_error` is the application's.
    """
    if not is_unnotified(record):
        return None
    failed = Outcome.of(record).failures
    return {
        "state": "failing" if failed.count else "pending",
        "failures": failed.count,
        "last_error": failed.last or None,
        "next": record.notify_at,
    }


async def cancel_upload(
    settings: Settings, store: Store, locks: Locks, sessions: Sessions | None, upload_id: str
) -> UploadRecord:
    """Ends an upload of any owner, also while a server writes to it.

    Raises NotFound, Forbidden for a finished one unless `allow_delete` is set, UploadBusy,
    StorageError.
    """
    record = await load_upload(sessions, upload_id)
    assert sessions is not None
    owner = Principal(record.principal)
    engine = EngineContext(settings, store, locks=locks, hooks=PythonHooks(lambda _: owner))
    accesses = Accesses(store, sessions, engine.workers, engine.authorise)
    uploads = UploadService(engine, accesses, Removal(engine))
    try:
        return await uploads.cancel(upload_id)
    finally:
        await uploads.close()
        engine.close()


async def sweep_once(
    settings: Settings, store: Store, locks: Locks, sessions: Sessions | None
) -> Swept:
    """One complete sweep. Raises StorageError."""
    CLOCK.retention = settings.retention
    workers = Workers(2, 64 << 10)
    try:
        await workers.run(CLOCK.restore, store)
        return await Sweeper(store, sessions, workers, locks).run(CLOCK.now())
    finally:
        workers.close()
