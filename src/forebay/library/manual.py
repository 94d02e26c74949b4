"""An upload by hand: the application looks at the head, decides, and lets the body flow."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.verdict import until_answered
from forebay.engine.transfer.progress import ProgressFeed
from forebay.errors import InvalidRequest
from forebay.http.answers import describe
from forebay.http.verdicts import verdict_of
from forebay.library.calls import Call
from forebay.library.foreign import kind_of
from forebay.library.options import UploadOptions
from forebay.library.upload import RequestHead, Upload
from forebay.model import Conflict, MiB, Stored
from forebay.protocol import fields
from forebay.protocol.status import render, restated
from forebay.stores.reading import read_bytes

if TYPE_CHECKING:
    from forebay.engine.bodies.receive import SingleUpload
    from forebay.engine.engine import Engine

logger = logging.getLogger("forebay")


class IncomingUpload(Upload):
    """An upload whose body the application has yet to ask for, once and in one way of three:
    `stream`, `chunks` or `body`. Made by `create_upload`.
    """

    head: RequestHead

    def __init__(self, engine: Engine, call: Call, reception: SingleUpload) -> None:
        command, head = reception.command, RequestHead(call.scope)
        super().__init__(
            id=reception.id,
            name=command.name or head.filename or "",
            about=command.about,
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
        self._ended = False
        self.kept = False
        """Moved, so that nothing takes it back any more."""
        self.rejected = False
        self.stored: Stored | None = None
        """What it came to, once it is published."""

    # --- the body --------------------------------------------------------------------------------

    async def stream(self) -> AsyncIterator[int]:
        """Stores the body; gives the bytes received so far, at most ten times a second, and at
        the end. Raises what breaks the body off. Go through it to its end: a block that is left
        before that raises RuntimeError.
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

        The storing does not wait for who reads here. Raises what breaks the body off. As with
        `stream`, go through it to its end.
        """
        assert self._engine is not None
        run = self._engine.workers.run
        arrived = asyncio.Event()
        receiving = self._begin(self._reception.receive(after_turn=arrived.set))
        receiving.add_done_callback(lambda _: arrived.set())
        assert self._reception.staged is not None
        reader = await run(self._reception.staged.seal, undo=_close)
        try:
            while not (receiving.done() and self.size == self._reception.stored_size):
                if self.size == self._reception.stored_size:
                    await arrived.wait()
                    arrived.clear()
                while self.size < self._reception.stored_size:
                    left = self._reception.stored_size - self.size
                    piece = await run(read_bytes, reader, self.size, min(MiB, left))
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
        if self._receiving is not None or self._ended:
            receiving.close()
            raise InvalidRequest("The body was asked for already, or rejected, or it is too late.")
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
        self._check_whole()
        if not self._reception.command.name:
            raise InvalidRequest("It has no destination; `move_to` gives it one.")
        if self.path is None:
            self.stored = await self._reception.publish()
            self.published(self.stored)
        return self

    async def move_to(self, to: str, *, conflict: Conflict | str = Conflict.REFUSE) -> Upload:
        """Publishes it there now, when it was received; it is kept from then on, whatever the
        block does. See `Upload.move_to`.
        """
        self._check_whole()
        if self.path is not None:
            raise InvalidRequest(f"The upload is published already, as {self.name!r}.")
        self._reception.place(self._name_at(to), Conflict(conflict))
        await self.publish()
        self.kept = True
        assert self.stored is not None
        await self._reception.notify(self.stored)
        return self

    def _check_whole(self) -> None:
        if not self._whole:
            raise InvalidRequest("The body has not been received; there is nothing to publish.")

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
        """At the end of the block: what is whole, and has a destination, is published.

        Raises what broke the body off, also when the application has caught that, and
        RuntimeError when the body was not asked for, or not to its end: the answer would tell of
        a file that is not there.
        """
        await self.halt()
        if self.rejected:
            return
        if not self._whole:
            receiving = self._receiving
            if receiving is not None and not receiving.cancelled():
                receiving.result()
            raise RuntimeError(
                "The block of create_upload was left before the body was received, so nothing is "
                "stored. Go through `stream()` or `chunks()` to their end, await `body()`, or "
                "return `await upload.reject(status, message)`."
            )
        if self._reception.command.name:
            await self.publish()

    async def halt(self) -> None:
        """Nothing more is read."""
        self._ended = True
        if self._receiving is not None:
            await _end(self._receiving)


@contextlib.asynccontextmanager
async def created(engine: Engine, call: Call, wish: UploadOptions) -> AsyncIterator[IncomingUpload]:
    """The upload, before a byte of it is read. Published when the block ends well and the body
    was received; else nothing of it stays. Without a destination it is kept only by `move_to`.
    """
    command = await wish.command(call.scope, engine.settings)
    if wish.to is None:
        command = dataclasses.replace(command, name="")
    source = call.source()
    verdict = verdict_of(call.scope)
    async with engine.single_upload(command, source, context=call.scope) as reception:
        await reception.open()
        upload = IncomingUpload(engine, call, reception)
        try:
            yield upload
        except BaseException:
            await upload.halt()
            if upload.stored is not None and not upload.kept:
                await reception.take_back(upload.stored)
            raise
        await upload.finish()
    if upload.stored is None or upload.kept:
        return
    if upload.rejected:
        await reception.take_back(upload.stored)
        return
    notify = functools.partial(reception.notify, upload.stored)
    undo = functools.partial(reception.take_back, upload.stored)
    async with until_answered(verdict, notify, undo):
        pass


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
