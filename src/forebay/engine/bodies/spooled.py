"""Receiving a body that has no name yet, into memory or into a file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from forebay.engine.bodies.body import Body
from forebay.engine.transfer.decoding import Decoding, decoding, room
from forebay.engine.transfer.local import stage
from forebay.engine.transfer.pump import BodyWriter, Hashing, Sink, Source, hashing_for
from forebay.engine.transfer.spool import Spool

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox
    from forebay.engine.outbox.pending import PendingNotification, WholeUpload
    from forebay.engine.transfer.progress import ProgressFeed
    from forebay.model import Receive


@contextlib.asynccontextmanager
async def receive_body(
    engine: EngineContext,
    source: Source,
    command: Receive,
    *,
    threshold: int | None = None,
    progress: ProgressFeed | None = None,
) -> AsyncIterator[Body]:
    """Receives a body into memory or into a file, depending on its size.

    It is removed when the block ends, unless it was moved or published. `command` describes it; its
    name is not used. `threshold`: most bytes in memory; None for `--memory-threshold`. Raises what
    limits and digests raise.
    """
    limit = engine.limit(command.max_size)
    engine.admission.check_length(source.length, limit)
    with engine.admitted():
        held = threshold if threshold is not None else engine.settings.memory_threshold
        spool = Spool(functools.partial(stage, engine.store), engine.budget, held)
        try:
            if source.length is not None:
                await engine.workers.run(spool.reserve, source.length)
            hashing = hashing_for(command.expected, command.wanted)
            size = await _fill(engine, spool, source, command.coding, limit, hashing, progress)
            hashing.verify(command.expected)
        except BaseException:
            await engine.workers.run(spool.discard)
            raise
        body = Body(
            spool,
            size,
            store=engine.store,
            workers=engine.workers,
            media_type=command.media_type,
            digests=hashing.digests(command.wanted),
        )
        try:
            yield body
        finally:
            await body.close()


async def _fill(
    engine: EngineContext,
    spool: Spool,
    source: Source,
    coding: str | None,
    limit: int | None,
    hashing: Hashing,
    progress: ProgressFeed | None,
) -> int:
    """The size of the body in bytes, decoded."""
    sink: Sink = spool
    with room(engine.budget, coding):
        if coding is not None:
            sink = decoding(spool, coding, engine.settings, limit)
        writer = BodyWriter(sink, limit=limit, hashing=hashing)
        await engine.pump(source, writer, progress=progress)
    if not isinstance(sink, Decoding):
        return writer.offset
    sink.finish()
    return sink.size


async def publish_body(
    engine: EngineContext, outbox: Outbox, body: Body, upload: WholeUpload
) -> PendingNotification:
    """Verifies a received body (`on_verify`), and publishes it as `upload` says.

    Raises VerificationRefused, and what `Body.move_to` raises; the body is still there then.
    """
    if engine.hooks.verifies:
        await engine.hooks.verify(upload.candidate(body.size, body.open))
    notification = await outbox.publish(await engine.workers.run(body.spill), upload)
    body.release()
    return notification
