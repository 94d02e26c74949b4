"""A declared upload: the whole body is where it belongs before the handler runs."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from forebay.engine.transfer.reporting import reported
from forebay.hooks.base import Arrival
from forebay.http.verdicts import verdict_of
from forebay.library.calls import Call
from forebay.library.options import UploadOptions
from forebay.library.upload import RequestHead, Upload

if TYPE_CHECKING:
    from forebay.engine.engine import Engine


@contextlib.asynccontextmanager
async def received(engine: Engine, call: Call, wish: UploadOptions) -> AsyncIterator[Upload]:
    """The upload, for the block. Raises an UploadError before the block for what is refused.

    With a destination it is published, and taken back when the block raises; `on_complete` is
    told when the block has ended well. Without one it is gone after the block unless it was
    moved.
    """
    command = await wish.command(call.scope, engine.settings)
    source = call.source()
    head = RequestHead(call.scope)
    upload = Upload(
        id=secrets.token_urlsafe(16),
        name=head.filename or "",
        media_type=command.media_type,
        head=head,
        about=command.about,
        engine=engine,
    )
    if wish.to is not None:
        receiving_file = engine.received_file(
            command, source, context=call.scope, verdict=verdict_of(call.scope)
        )
        async with receiving_file as (reception, stored):
            upload.id, upload.principal = reception.id, reception.principal
            upload.published(stored)
            yield upload
        return
    said = dataclasses.replace(command.about, length=source.length, media_type=command.media_type)
    upload.principal = await engine.authorise(
        "create", "", call.scope, upload_id=upload.id, about=lambda: said
    )
    about = Arrival(
        upload.id,
        upload.name,
        source.length,
        upload.media_type,
        upload.principal,
        about=said,
        context=call.scope,
    )
    async with contextlib.AsyncExitStack() as kept:
        async with reported(engine.hooks, about) as feed:
            receiving = engine.receive_body(
                source,
                media_type=command.media_type,
                max_size=wish.max_size,
                threshold=wish.threshold,
                progress=feed,
                expected=command.expected,
                wanted=command.wanted,
                coding=command.coding,
            )
            body = await kept.enter_async_context(receiving)
        upload.digests = body.digests
        upload.held(body)
        yield upload
