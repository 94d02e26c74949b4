"""A whole upload of which somebody is told, recorded so that no crash swallows the telling.

Once it is whole, its data gets a staging name and its end a record, as those of a resumable
upload; what a crash leaves is repaired and told like that of one (invariant 11). The record goes
when it was told. Before that it is unnamed like any other, and vanishes with its process.
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
from forebay.model import Digest, Principal, Receive, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Staged

if TYPE_CHECKING:
    from forebay.engine.body import Body
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
        duration: float = 0.0,
    ) -> UploadRecord:
        """Gives the data its name; `tell` of it next. Raises what publication raises; the data
        is then still the caller's to discard. `duration`: seconds since the upload began.
        """
        record = UploadRecord(
            id=upload_id,
            principal=principal.id,
            dialect=_DIALECT,
            state=UploadState.OPEN,
            offset=staged.offset,
            length=staged.offset,
            name=command.name,
            created_at=time.time() - duration,
            expires_at=expiry(self._engine.settings.retention),
            conflict=command.conflict,
            media_type=command.media_type,
            extra=b"{}",
            version=0,
        )
        conditions = command.preconditions
        await self._engine.workers.run(staged.keep, upload_id)
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

    async def publish_body(
        self,
        body: Body,
        upload_id: str,
        how: Publication,
        principal: Principal,
        duration: float = 0.0,
    ) -> tuple[UploadRecord, Staged]:
        """The same with a received body; it stays the caller's when it raises."""
        await self._engine.workers.run(body.settle)
        command = Receive(how.name, how.conflict, how.preconditions, body.media_type)
        record = await self.publish(
            upload_id, body.staged, command, principal, body.digests, duration
        )
        return record, body.release()

    async def tell(self, record: UploadRecord, staged: Staged) -> None:
        """Tells of a published upload, and forgets it then."""
        try:
            await self._completion.conclude(record, staged)
            with contextlib.suppress(StorageError):  # it expires, then
                await self._sessions.delete(record.id)
        finally:
            await self._engine.workers.run(staged.close)

    async def forget(self, record: UploadRecord, staged: Staged) -> None:
        """Of a published upload that is taken back nobody is told."""
        with contextlib.suppress(StorageError):
            await self._sessions.delete(record.id)
        await self._engine.workers.run(staged.discard)
