"""Receiving a form (multipart/form-data):

    source → BodyWriter → FormSink ─┬─ fields in memory, within one budget
                                    └─ files staged, or in memory while they are small

Nothing is published before the whole form is here, its digests were compared, and every file
was verified. So a connection that breaks leaves nothing, and a client may simply send again.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from forebay.engine.forms.form import Form, Outcome
from forebay.engine.forms.parts import FormFile
from forebay.engine.forms.request import FormRequest, limits_of
from forebay.engine.forms.sink import FormSink, ReceivedFile
from forebay.engine.ids import new_id
from forebay.engine.transfer.decoding import decoding, room
from forebay.engine.transfer.local import stage
from forebay.engine.transfer.metering import Meter
from forebay.engine.transfer.pump import BodyWriter, Source, hashing_for
from forebay.engine.transfer.reporting import reported
from forebay.errors import DiskFull, TooLarge
from forebay.hooks.base import Arrival
from forebay.model import About, FormPolicy
from forebay.protocol.form_type import boundary_of, charset_of
from forebay.protocol.multipart_limits import FormLimits
from forebay.stores.base import Roomy, Store

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox


@contextlib.asynccontextmanager
async def receive_form(
    engine: EngineContext, outbox: Outbox, source: Source, request: FormRequest
) -> AsyncIterator[Form]:
    """Receives a whole form. What is neither moved nor published when the block ends is removed.

    Raises an UploadError: MalformedBody, IncompleteBody, TooLarge, TooManyUploads, DigestMismatch,
    what `request.place` and the store raise. Then nothing of the form is stored.
    """
    started = time.perf_counter()
    settings = engine.settings
    limits = request.limits or limits_of(settings)
    policy = request.policy or settings.form_policy
    sink = _sink(engine, request, limits, policy)
    _check_length(engine, source, limits.max_total)
    with engine.admitted():
        if (source.length or 0) > settings.memory_threshold:
            await engine.workers.run(_check_room, engine.store, source.length)
        try:
            await _fill(engine, source, request, sink, limits.max_total)
            files = [_file(engine, file) for file in sink.files]
            form = Form(engine, outbox, request, policy, sink.fields, files, started)
            try:
                yield form
            finally:
                form.close()
        finally:
            if sink.on_disk:
                await engine.workers.run(sink.discard)
            sink.discard()


def _sink(
    engine: EngineContext, request: FormRequest, limits: FormLimits, policy: FormPolicy
) -> FormSink:
    settings = engine.settings
    return FormSink(
        boundary_of(request.content_type),
        limits,
        charset=charset_of(request.content_type),
        large=request.large_fields or settings.form_large_fields,
        place=request.place,
        empty_inputs=request.empty_inputs,
        stage=functools.partial(stage, engine.store),
        check=engine.store.check_target,
        budget=engine.budget,
        threshold=settings.memory_threshold,
        each=policy is FormPolicy.EACH,
    )


async def _fill(
    engine: EngineContext,
    source: Source,
    request: FormRequest,
    sink: FormSink,
    limit: int | None,
) -> None:
    """Receives the whole body into the sink. `limit`: most bytes, once it is decoded."""
    media_type = request.content_type.decode("latin-1")
    arrival = Arrival(
        new_id(),
        "",
        source.length,
        media_type,
        request.principal,
        about=About(length=source.length, media_type=media_type),
        context=request.context,
    )
    hashing = hashing_for(request.expected, ())
    with room(engine.budget, request.coding):
        outer = None
        if request.coding is not None:
            outer = decoding(sink, request.coding, engine.settings, limit)
        writer = BodyWriter(outer or sink, hashing=hashing, meter=Meter(sink))
        async with reported(engine.hooks, arrival, request.progress, now=sink.about) as feed:
            await engine.pump(source, writer, progress=feed)
        if outer is not None:
            outer.finish()
    sink.finish()
    hashing.verify(request.expected)


def _check_length(engine: EngineContext, source: Source, limit: int | None) -> None:
    """Raises LengthRequired or TooLarge."""
    engine.admission.check_length(source.length, None)
    if limit is not None and (source.length or 0) > limit:
        raise TooLarge(
            f"The form has {source.length} bytes; at most {limit} are taken (--form-max-size).",
            limit=limit,
        )


def _check_room(store: Store, length: int) -> None:
    """In a thread: refuses at once what cannot fit; the files reserve as they grow."""
    if isinstance(store, Roomy):
        free = store.space().free
        if free - length < store.min_free:
            raise DiskFull(free=free)


def _file(engine: EngineContext, file: ReceivedFile) -> FormFile | Outcome:
    if file.error is not None:
        head = file.head
        return Outcome(head.name, head.filename, head.media_type, error=file.error)
    return FormFile(
        file.spool,
        file.size,
        head=file.head,
        placement=file.placement,
        digests=file.hashing.digests(file.placement.wanted),
        store=engine.store,
        workers=engine.workers,
    )
