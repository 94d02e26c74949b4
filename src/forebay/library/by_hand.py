"""An upload by hand: the application looks at the head, decides, and lets the body flow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from forebay.engine.progress import ProgressFeed
from forebay.errors import InvalidRequest
from forebay.http.answers import describe
from forebay.library.calls import Call
from forebay.library.foreign import kind_of
from forebay.library.upload import RequestHead, Upload
from forebay.library.wishes import Wish
from forebay.model import MiB, Stored
from forebay.protocol import fields
from forebay.protocol.status import render, restated

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.engine.reception import Reception

logger = logging.getLogger("forebay")


class IncomingUpload(Upload):
    """An upload whose body the application has yet to ask for, once and in one way of three:
    `stream`, `chunks` or `body`. Made by `create_upload`.
    """

    head: RequestHead

    def __init__(self, engine: Engine, call: Call, reception: Reception) -> None:
        command, head = reception.command, RequestHead(call.scope)
        super().__init__(
            id=reception.id,
            name=command.name,
            filename=head.filename,
            length=reception.source.length,
            media_type=command.media_type,
            principal=reception.principal,
            head=head,
            engine=engine,
        )
        self._call = call
        self._reception = reception
        self._receiving: asyncio.Task[None] | None = None
        self._whole = False
        self.rejected = False
        self.stored: Stored | None = None
        """What it came to, once it is published."""

    # --- the body --------------------------------------------------------------------------------

    async def stream(self) -> AsyncIterator[int]:
        """Stores the body; gives the bytes received so far, at most ten times a second, and at
        the end. Raises what breaks the body off.
        """
        feed = ProgressFeed(self.length)
        reports = aiter(feed)
        receiving = self._begin(self._reception.receive(feed))
        receiving.add_done_callback(lambda _: feed.finish())
        try:
            async for progress in reports:
                self.size = progress.received
                yield progress.received
            await receiving
        finally:
            await _end(receiving)
        await self._settle()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Stores the body; gives each piece of it, at most 1 MiB, as it has been stored.

        The storing does not wait for who reads here. Raises what breaks the body off.
        """
        assert self._engine is not None
        run = self._engine.workers.run
        arrived = asyncio.Event()
        receiving = self._begin(self._reception.receive(after_turn=arrived.set))
        receiving.add_done_callback(lambda _: arrived.set())
        reader = await run(self._reception.open_read, undo=_close)
        try:
            while not (receiving.done() and self.size == self._reception.stored_size):
                if self.size == self._reception.stored_size:
                    await arrived.wait()
                    arrived.clear()
                while self.size < self._reception.stored_size:
                    left = self._reception.stored_size - self.size
                    piece = await run(os.pread, reader.fileno(), min(MiB, left), self.size)
                    self.size += len(piece)
                    yield piece
            await receiving
        finally:
            await _end(receiving)
            await run(reader.close)
        await self._settle()

    async def body(self) -> Upload:
        """Stores the whole body; its content may be read then (`open`, `read`, `async for`)."""
        receiving = self._begin(self._reception.receive())
        try:
            await receiving
        finally:
            await _end(receiving)
        await self._settle()
        return self

    def _begin(self, receiving: Any) -> asyncio.Task[None]:
        if self._receiving is not None or self.rejected:
            receiving.close()
            raise InvalidRequest("The body was asked for already, or rejected.")
        self._receiving = asyncio.ensure_future(receiving)
        return self._receiving

    async def _settle(self) -> None:
        await self._reception.check()
        self.size = self.length = self._reception.stored_size
        self.digests = self._reception.digests()
        self._reader = self._reception.open_read
        self._whole = True

    # --- the end ---------------------------------------------------------------------------------

    async def publish(self) -> Upload:
        """Publishes it now, and not at the end of the block. Raises what refuses it."""
        if not self._whole:
            raise InvalidRequest("The body has not been received; there is nothing to publish.")
        if self.path is None:
            self.stored = await self._reception.publish()
            self.published(self.stored)
        return self

    async def reject(self, status: int, message: str) -> Any:
        """Refuses it: the answer to return, a response of the framework (an ASGI application in
        plain ASGI). Nothing more of the body is read, and nothing of it stays.

        `status` is 400 to 599; ValueError else.
        """
        if not 400 <= status <= 599:
            raise ValueError(f"{status} refuses nothing; give a status of 400 to 599.")
        self.rejected = True
        await self.halt()
        error = kind_of(status)(message)
        accept = fields.first(self._call.scope["headers"], b"accept")
        answer = restated(render(error, accept, upload_id=self.id), status)
        logger.info("rejected %s: %d %s", describe(self._call.scope), status, message)
        return self._call.respond(answer)

    async def finish(self) -> None:
        """At the end of the block: what is whole is published."""
        await self.halt()
        if self._whole and not self.rejected:
            await self.publish()

    async def halt(self) -> None:
        """Nothing more is read."""
        if self._receiving is not None:
            await _end(self._receiving)


@contextlib.asynccontextmanager
async def created(engine: Engine, call: Call, wish: Wish) -> AsyncIterator[IncomingUpload]:
    """The upload, before a byte of it is read. Published when the block ends well and the body
    was received; else nothing of it stays.
    """
    command = await wish.command(call.scope, engine.settings)
    source = call.source()
    async with engine.reception(command, source, context=call.scope) as reception:
        await reception.open()
        upload = IncomingUpload(engine, call, reception)
        try:
            yield upload
        except BaseException:
            await upload.halt()
            if upload.stored is not None:
                await reception.take_back(upload.stored)
            raise
        await upload.finish()
    if upload.stored is None:
        return
    if upload.rejected:
        await reception.take_back(upload.stored)
    else:
        await reception.tell(upload.stored)


async def _end(receiving: asyncio.Task[None]) -> None:
    """Ends the task and waits until no thread uses its file any more, even when cancelled. What
    it raised is for who awaits it.
    """
    receiving.cancel()
    cancelled = False
    while not receiving.done():
        try:
            await asyncio.wait({receiving})
        except asyncio.CancelledError:
            cancelled = True
    if not receiving.cancelled():
        receiving.exception()  # noted as seen
    if cancelled:
        raise asyncio.CancelledError


def _close(reader: Any) -> None:
    reader.close()
