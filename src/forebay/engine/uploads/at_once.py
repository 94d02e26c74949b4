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
from forebay.engine.transfer.pump import Source
from forebay.engine.uploads import lengths, outcome
from forebay.model import (
    AppendUpload,
    Conflict,
    CreateUpload,
    Receive,
    Stored,
    UploadRecord,
    UploadState,
)
from forebay.sessions.base import Sessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext


async def store_at_once(
    engine: EngineContext,
    sessions: Sessions,
    record: UploadRecord,
    wish: CreateUpload,
    first: AppendUpload,
    source: Source,
) -> UploadRecord | None:
    """The complete upload; None, and nothing was taken, when it has to go the long way.

    `record` is not kept anywhere yet. Raises what creating, appending and completing raise;
    nothing stays then.
    """
    hooks = engine.hooks
    if wish.partial or wish.parts or wish.by_name:
        return None
    if (
        wish.expected or first.expected or first.digest_in_trailer
    ):  # refused, an empty upload would stay
        return None
    if hooks.verifies or hooks.completes or hooks.progresses or not source.length:
        return None
    if wish.conflict is Conflict.REPLACE:  # what was replaced could not be given back
        return None
    settled = lengths.settle(record, first, source.length)
    length = record.length if settled is None else settled
    if not lengths.ends(source.length, length, first.completes):
        return None
    body = source.take_whole()
    if body is None:
        return None
    command = Receive(
        wish.name,
        wish.conflict,
        wish.preconditions,
        wish.media_type,
        wanted=wish.wanted,
        max_size=wish.max_size,
    )
    stored = await SingleUpload(engine, command, engine.limit(command.max_size)).store(body)
    record = _complete(record, stored)
    try:
        await sessions.create(record)
    except BaseException:
        await engine.workers.run(
            withdraw, engine.store, stored
        )  # its client is told that it failed, and sends it again
        raise
    return record


def _complete(record: UploadRecord, stored: Stored) -> UploadRecord:
    file = stored.file
    return dataclasses.replace(
        record,
        state=UploadState.COMPLETE,
        offset=file.size,
        length=file.size,
        final_name=file.name,
        final_size=file.size,
        outcome=outcome.at_once(stored, time.time() - record.created_at),
    )
