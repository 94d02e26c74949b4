"""A whole upload of which somebody is told, recorded so that no crash swallows the telling.

Its data has a staging name and its end a record, as those of a resumable upload; what a crash
leaves is repaired and told like that of one (invariant 11). The record goes when it was told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from forebay.engine import outcome
from forebay.engine.commits import expiry
from forebay.engine.completion import Completion
from forebay.errors import StorageError, UploadError
from forebay.model import Digest, Principal, Receive, Stored, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

_DIALECT = "raw"


def is_recorded(record: UploadRecord) -> bool:
    """Whether it is such an upload: no client knows of it, so none will come back."""
    return record.dialect == _DIALECT


def new_id() -> str:
    """An id of 192 random bits (invariant 8)."""
    return secrets.token_urlsafe(24)


class Recorded:
    """Publishes whole uploads with a note of each. Its ids are those that hooks are told."""

    def __init__(self, engine: Engine, sessions: Sessions, completion: Completion) -> None:
        self._engine = engine
        self._sessions = sessions
        self._completion = completion

    async def publish(
        self,
        upload_id: str,
        staged: Staged,
        command: Receive,
        principal: Principal,
        digests: Iterable[Digest],
    ) -> UploadRecord:
        """Gives the data its name; `tell` of it next. Raises what publication raises; the data
        is then still the caller's.
        """
        record = UploadRecord(
            id=upload_id,
            principal=principal.id,
            dialect=_DIALECT,
            state=UploadState.OPEN,
            offset=staged.offset,
            length=staged.offset,
            name=command.name,
            created_at=time.time(),
            expires_at=expiry(self._engine.settings.retention),
            conflict=command.conflict,
            media_type=command.media_type,
            extra=b"{}",
            version=0,
        )
        conditions = command.preconditions
        try:
            record, published = await self._completion.publish(record, staged, conditions, digests)
        except BaseException:
            with contextlib.suppress(UploadError):
                await self._sessions.delete(upload_id)
            raise
        file, now = published.file, time.time()
        return dataclasses.replace(
            record,
            state=UploadState.COMPLETE,
            final_size=file.size,
            outcome=outcome.finished(record, file, published.replaced, now),
        )

    async def tell(self, record: UploadRecord, staged: Staged) -> Stored:
        """Tells of a published upload, and forgets it then."""
        try:
            await self._completion.conclude(record, staged)
            with contextlib.suppress(StorageError):  # it expires, then
                await self._sessions.delete(record.id)
        finally:
            await self._engine.workers.run(staged.close)
        stored = outcome.stored(record)
        assert stored is not None
        return stored
