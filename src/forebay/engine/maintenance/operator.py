"""What an operator may ask of resumable uploads, beside a living server or without one.

State and locks are those of the server, so whatever it holds is asked for as by a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from forebay.engine.context import EngineContext
from forebay.engine.files.remove import Removal
from forebay.engine.maintenance.sweep import has_state, open_sessions
from forebay.engine.uploads import outcome
from forebay.engine.uploads.service import UploadService
from forebay.errors import NotFound
from forebay.hooks.python import PythonHooks
from forebay.model import Principal, UploadRecord, UploadState
from forebay.protocol.names import numbered
from forebay.sessions.base import Sessions
from forebay.sessions.records import is_unnotified
from forebay.stores.files.store import FileStore

if TYPE_CHECKING:
    from forebay.config import Settings

_STEP = 500


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[FileStore, Sessions | None]]:
    """The store of a served folder, and its state if there ever was any."""
    store = FileStore(settings.dir, durability=settings.durability, numbered=numbered)
    try:
        if not has_state(store):
            yield store, None
            return
        sessions = open_sessions(settings, store)
        await sessions.open()
        try:
            yield store, sessions
        finally:
            await sessions.close()
    finally:
        store.close()


async def list_uploads(
    settings: Settings, state: UploadState | None = None
) -> AsyncIterator[UploadRecord]:
    """All uploads, or those of one state, in order of their ids. Raises StorageError."""
    async with _opened(settings) as (_, sessions):
        after = ""
        while sessions is not None:
            page = await sessions.page(state=state, after=after, limit=_STEP)
            if not page:
                return
            for record in page:
                yield record
            after = page[-1].id


def describe_callback(record: UploadRecord) -> dict[str, Any] | None:
    """What an operator may know of a call of `on_complete` that has yet to succeed; else None.

    `next` is in seconds since the epoch. Not for clients: `last_error` is the application's.
    """
    if not is_unnotified(record):
        return None
    failed = outcome.failures(record)
    return {
        "state": "failing" if failed.count else "pending",
        "failures": failed.count,
        "last_error": failed.last or None,
        "next": record.notify_at,
    }


async def load_upload(settings: Settings, upload_id: str) -> UploadRecord:
    """One upload as it is committed. Raises NotFound, StorageError."""
    async with _opened(settings) as (_, sessions):
        if sessions is None:
            raise NotFound("There is no such upload.")
        return await sessions.load(upload_id)


async def cancel_upload(settings: Settings, upload_id: str) -> UploadRecord:
    """Ends an upload, whoever it belongs to, and whoever writes to it now.

    Raises NotFound, Forbidden for a finished one unless `allow_delete` is set, UploadBusy,
    StorageError.
    """
    async with _opened(settings) as (store, sessions):
        if sessions is None:
            raise NotFound("There is no such upload.")
        owner = Principal((await sessions.load(upload_id)).principal)
        engine = EngineContext(settings, store, hooks=PythonHooks(lambda _: owner))
        uploads = UploadService(engine, sessions, Removal(engine))
        try:
            return await uploads.cancel(upload_id)
        finally:
            await uploads.close()
            engine.close()
