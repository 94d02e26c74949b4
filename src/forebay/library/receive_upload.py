"""A declared upload: the whole body is received, and published, before the handler runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from forebay.engine.ids import new_id
from forebay.engine.transfer.reporting import reported
from forebay.hooks.base import Arrival
from forebay.http.verdicts import verdict_of
from forebay.library.asgi_request import AsgiRequest
from forebay.library.options import UploadOptions
from forebay.library.upload import RequestHead, Upload

if TYPE_CHECKING:
    from forebay.engine.engine import Engine


@contextlib.asynccontextmanager
async def receive_upload(
    engine: Engine, request: AsgiRequest, options: UploadOptions
) -> AsyncIterator[Upload]:
    """The upload, for the block. Raises an UploadError before the block when it is refused.

    With a destination it is published, and removed again when the block raises; `on_complete` is
    called when the block has ended well. Without one it is gone after the block unless it was
    moved.
    """
    scope = request.scope
    command = await options.command(scope, engine.settings)
    source = request.source()
    head = RequestHead(scope)
    upload = Upload(
        id=new_id(),
        name=head.filename or "",
        media_type=command.media_type,
        head=head,
        about=command.about,
        engine=engine,
    )
    if options.to is not None:
        receiving = engine.received_file(command, source, context=scope, verdict=verdict_of(scope))
        async with receiving as (single, stored):
            upload.id, upload.principal = single.id, single.principal
            upload.set_published(stored)
            yield upload
        return
    about = dataclasses.replace(command.about, length=source.length, media_type=command.media_type)
    upload.principal = await engine.authorise(
        "create", "", scope, upload_id=upload.id, about=lambda: about
    )
    arrival = Arrival(
        upload.id,
        upload.name,
        source.length,
        upload.media_type,
        upload.principal,
        about=about,
        context=scope,
    )
    async with contextlib.AsyncExitStack() as stack:
        async with reported(engine.hooks, arrival) as feed:
            receiving_body = engine.receive_body(
                source, command, threshold=options.threshold, progress=feed
            )
            body = await stack.enter_async_context(receiving_body)
        upload.digests = body.digests
        upload.set_body(body)
        yield upload
