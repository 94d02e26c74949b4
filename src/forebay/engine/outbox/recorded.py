"""A whole upload about which a callback is called, recorded so that no crash swallows the call.

Once it is whole, its data gets a staging name and its end a record, as those of a resumable
upload; what a crash leaves is repaired like that of one (invariant 11). The record goes when the
callback has returned. Before that it is unnamed like any other, and vanishes with its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.uploads import outcome
from forebay.engine.uploads.about import kept
from forebay.engine.uploads.commits import expiry
from forebay.engine.uploads.publish import Completion
from forebay.errors import StorageError, UploadError
from forebay.model import NOTHING_SAID, About, Digest, Principal, Receive, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Staged

if TYPE_CHECKING:
    from forebay.engine.bodies.body import Body
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.notifier import Notifier


def new_id() -> str:
    """An id of some 192 random bits (invariant 8). On a command line it is no option."""
    while (made := secrets.token_urlsafe(24)).startswith("-"):
        pass
    return made


def record_of(
    upload_id: str,
    command: Receive,
    principal: Principal,
    *,
    size: int,
    began: float,
    expires_at: float | None = None,
) -> UploadRecord:
    """A whole upload that nobody has kept yet. `size`: its bytes; `began`: when it did."""
    return UploadRecord(
        id=upload_id,
        principal=principal.id,
        dialect=outcome.WHOLE,
        state=UploadState.OPEN,
        offset=size,
        length=size,
        name=command.name,
        created_at=began,
        expires_at=expires_at,
        conflict=command.conflict,
        media_type=command.media_type,
        extra=json.dumps(kept(command.about)).encode(),
        version=0,
    )


class RecordedPublication:
    """Publishes whole uploads with a note of each. Its ids are those that hooks are told."""

    def __init__(
        self, engine: EngineContext, sessions: Sessions, completion: Completion, notifier: Notifier
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._completion = completion
        self._notifier = notifier

    async def publish(
        self,
        upload_id: str,
        staged: Staged,
        command: Receive,
        principal: Principal,
        digests: Iterable[Digest],
        duration: float = 0.0,
        received: int | None = None,
    ) -> UploadRecord:
        """Gives the data its name; `notify` next. Raises what publication raises; the data
        is then still the caller's to discard. `duration`: seconds since the upload began;
        `received`: bytes that came, of what was decoded.
        """
        record = record_of(
            upload_id,
            command,
            principal,
            size=staged.offset,
            began=time.time() - duration,
            expires_at=expiry(self._engine.settings.retention),
        )
        conditions = command.preconditions
        await self._engine.workers.run(staged.keep, upload_id)
        try:
            record, published = await self._completion.publish(
                record, staged, conditions, digests, received
            )
        except asyncio.CancelledError:
            await self._settle(upload_id, staged)
            raise
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
        about: About = NOTHING_SAID,
    ) -> tuple[UploadRecord, Staged]:
        """The same with a received body; it stays the caller's when it raises."""
        await self._engine.workers.run(body.settle)
        command = Receive(how.name, how.conflict, how.preconditions, body.media_type, about=about)
        record = await self.publish(
            upload_id, body.staged, command, principal, body.digests, duration
        )
        return record, body.release()

    async def _settle(self, upload_id: str, staged: Staged) -> None:
        """Of a publication that was cancelled: what got its name meanwhile keeps it, and has its
        callback called; of anything else nothing stays.
        """
        with contextlib.suppress(UploadError):
            record = await self._completion.settle(await self._sessions.load(upload_id), staged)
            if record.state is UploadState.COMPLETE:
                self._notifier.soon(record)
            else:
                await self._sessions.delete(upload_id)

    async def notify(
        self, record: UploadRecord, staged: Staged, context: Mapping[str, Any] | None = None
    ) -> None:
        """Has the callback called about a published upload, which is forgotten then."""
        await self._notifier.notify(record, context, staged)

    async def forget(self, record: UploadRecord, staged: Staged) -> None:
        """About a published upload that is taken back no callback is called."""
        with contextlib.suppress(StorageError):
            await self._sessions.delete(record.id)
        await self._engine.workers.run(staged.discard)
