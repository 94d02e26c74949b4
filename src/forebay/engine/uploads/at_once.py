"""A resumable upload whose whole body came with its creation, and that nobody can resume.

Its client learns of it with the final answer only, so until then it is a plain upload, and
costs what one costs: no named data, one commit.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from forebay.engine.bodies.receive import SingleUpload
from forebay.engine.files.withdraw import withdraw
from forebay.engine.uploads import lengths
from forebay.model import (
    AppendUpload,
    Conflict,
    CreateUpload,
    Receive,
    Stored,
    UploadRecord,
    UploadState,
)
from forebay.record import Outcome

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.transfer.pump import Source
    from forebay.hooks.base import Hooks
    from forebay.sessions.base import Sessions


async def store_at_once(
    engine: EngineContext,
    sessions: Sessions,
    record: UploadRecord,
    command: CreateUpload,
    first: AppendUpload,
    source: Source,
) -> UploadRecord | None:
    """The complete upload; None, and nothing was taken, when it has to go the long way.

    `record` is not stored anywhere yet. Raises what creating, appending and completing raise;
    nothing stays then.
    """
    if not (_is_plain(command, first) and _asks_nobody(engine.hooks) and source.length):
        return None
    new_length = lengths.validate_length(record, first, source.length)
    length = record.length if new_length is None else new_length
    if not lengths.ends(source.length, length, first.completes):
        return None
    body = source.take_whole()
    if body is None:
        return None
    receive = Receive(
        command.name,
        command.conflict,
        command.preconditions,
        command.media_type,
        wanted=command.wanted,
        max_size=command.max_size,
    )
    stored = await SingleUpload(engine, receive, engine.limit(receive.max_size)).store(body)
    record = _complete(record, stored)
    try:
        await sessions.create(record)
    except BaseException:
        # Its client learns that it failed, and sends it again.
        await engine.workers.run(withdraw, engine.store, stored)
        raise
    return record


def _is_plain(command: CreateUpload, first: AppendUpload) -> bool:
    if command.partial or command.parts or command.by_name:
        return False
    if command.conflict is Conflict.REPLACE:  # what was replaced could not be given back
        return False
    # Refused by a digest, an empty upload would stay.
    return not (command.expected or first.expected or first.digest_in_trailer)


def _asks_nobody(hooks: Hooks) -> bool:
    return not (hooks.verifies or hooks.completes or hooks.progresses)


def _complete(record: UploadRecord, stored: Stored) -> UploadRecord:
    file, duration = stored.file, time.time() - record.created_at
    outcome = Outcome(stored.digests).published(file, replaced=stored.replaced, duration=duration)
    return dataclasses.replace(
        record,
        state=UploadState.COMPLETE,
        offset=file.size,
        length=file.size,
        final_name=file.name,
        final_size=file.size,
        outcome=outcome.encode(),
    )
