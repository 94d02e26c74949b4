"""Manual uploads: the application looks at the head, decides, and then receives the body."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.verdict import until_answered
from forebay.engine.transfer.progress import ProgressFeed
from forebay.errors import InvalidRequest
from forebay.http.answers import describe
from forebay.http.verdicts import verdict_of
from forebay.library.asgi_request import AsgiRequest
from forebay.library.framework_errors import error_class_of
from forebay.library.options import UploadOptions
from forebay.library.upload import RequestHead, Upload
from forebay.model import Conflict, MiB
from forebay.protocol import fields
from forebay.protocol.status import render, restated
from forebay.stores.reading import read_bytes

if TYPE_CHECKING:
    from forebay.engine.bodies.receive import SingleUpload
    from forebay.engine.engine import Engine
    from forebay.engine.outbox.pending import PendingNotification

logger = logging.getLogger("forebay")


class IncomingUpload(Upload):
    """An upload whose body is not received yet. The application receives it once, by one of
    `stream`, `chunks` and `body`. Made by `create_upload`.
    """

    head: RequestHead

    def __init__(self, engine: Engine, request: AsgiRequest, single: SingleUpload) -> None:
        command, head = single.command, RequestHead(request.scope)
        super().__init__(
            id=single.id,
            name=command.name or head.filename or "",
            about=command.about,
            length=single.source.length,
            media_type=command.media_type,
            principal=single.principal,
            head=head,
            engine=engine,
        )
        self._request = request
        self._single = single
        self._receiving: asyncio.Task[None] | None = None
        self._whole = False
        self._ended = False
        self.moved = False
        """Whether `move_to` published it: then it stays, whatever the block does."""
        self.rejected = False
        """Whether `reject` refused it."""
        self.notification: PendingNotification | None = None
        """Of the published file; None before."""

    # --- the body --------------------------------------------------------------------------------

    async def stream(self) -> AsyncIterator[int]:
        """Stores the body; yields the bytes received so far, at most ten times a second, and at
        the end. Raises UploadError when the body is refused or breaks off. Iterate to the end: a
        block that ends before that raises RuntimeError.
        """
        feed = ProgressFeed(self.length)
        reports = aiter(feed)
        receiving = self._begin(self._single.receive(feed))
        receiving.add_done_callback(lambda _: feed.finish())
        try:
            async for progress in reports:
                self.size = progress.received
                yield progress.received
            await receiving
        finally:
            await _end(receiving)
        await self._check_received()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Stores the body; yields its pieces, at most 1 MiB each, once they are stored.

        Storing does not wait for the consumer. Raises UploadError when the body is refused or
        breaks off. As with `stream`, iterate to the end.
        """
        assert self._engine is not None
        run = self._engine.workers.run
        arrived = asyncio.Event()
        receiving = self._begin(self._single.receive(after_turn=arrived.set))
        receiving.add_done_callback(lambda _: arrived.set())
        assert self._single.staged is not None
        reader = await run(self._single.staged.seal, undo=_close)
        try:
            while not (receiving.done() and self.size == self._single.stored_size):
                if self.size == self._single.stored_size:
                    await arrived.wait()
                    arrived.clear()
                while self.size < self._single.stored_size:
                    left = self._single.stored_size - self.size
                    piece = await run(read_bytes, reader, self.size, min(MiB, left))
                    self.size += len(piece)
                    yield piece
            await receiving
        finally:
            await _end(receiving)
            await run(reader.close)
        await self._check_received()

    async def body(self) -> Upload:
        """Stores the whole body; then its content is readable (`open`, `read`, `async for`)."""
        receiving = self._begin(self._single.receive())
        try:
            await receiving
        finally:
            await _end(receiving)
        await self._check_received()
        return self

    def _begin(self, receiving: Any) -> asyncio.Task[None]:
        if self._receiving is not None or self._ended:
            receiving.close()
            raise InvalidRequest("The body was asked for already, or rejected, or it is too late.")
        self._receiving = asyncio.ensure_future(receiving)
        return self._receiving

    async def _check_received(self) -> None:
        await self._single.check()
        self.size = self.length = self._single.stored_size
        self.digests = self._single.digests()
        self._reader = self._single.open_read
        self._whole = True

    # --- the end ---------------------------------------------------------------------------------

    async def publish(self) -> Upload:
        """Publishes it now instead of at the end of the block. Raises UploadError."""
        self._check_whole()
        if not self._single.command.name:
            raise InvalidRequest("It has no destination; `move_to` gives it one.")
        if self.notification is None:
            self.notification = await self._single.publish()
            self.set_published(self.notification.stored)
        return self

    async def move_to(self, to: str, *, conflict: Conflict | str = Conflict.REFUSE) -> Upload:
        """Publishes it now, after it was received; it stays, whatever the block does then. See
        `Upload.move_to`.
        """
        self._check_whole()
        if self.notification is not None:
            raise InvalidRequest(f"The upload is published already, as {self.name!r}.")
        self._single.place(self._name_at(to), Conflict(conflict))
        await self.publish()
        self.moved = True
        assert self.notification is not None
        await self.notification.notify()
        return self

    def _check_whole(self) -> None:
        if not self._whole:
            raise InvalidRequest("The body has not been received; there is nothing to publish.")

    async def reject(self, status: int, message: str) -> Any:
        """Refuses the upload. Returns the answer for the handler to return: a response of the
        framework (in plain ASGI an ASGI application). No more of the body is read, and nothing of
        it stays.

        Raises ValueError when `status` is not 400 to 599.
        """
        if not 400 <= status <= 599:
            raise ValueError(f"{status} refuses nothing; give a status of 400 to 599.")
        self.rejected = True
        await self.halt()
        error = error_class_of(status)(message)
        accept = fields.first(self._request.scope["headers"], b"accept")
        answer = restated(render(error, accept, upload_id=self.id), status)
        logger.info("rejected %s: %d %s", describe(self._request.scope), status, message)
        return self._request.respond(answer)

    async def finish(self) -> None:
        """The end of the block: publishes a whole upload that has a destination.

        Raises the error that broke the body off, even when the application has caught it; raises
        RuntimeError when the body was not received to its end: the answer would claim a file that
        is not there.
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
        if self._single.command.name:
            await self.publish()

    async def halt(self) -> None:
        """Stops receiving."""
        self._ended = True
        if self._receiving is not None:
            await _end(self._receiving)


@contextlib.asynccontextmanager
async def create_upload(
    engine: Engine, request: AsgiRequest, options: UploadOptions
) -> AsyncIterator[IncomingUpload]:
    """The upload, before its body is read. It is published when the block ends well and the body
    was received; otherwise nothing of it stays. Without a destination only `move_to` publishes it.
    """
    command = await options.command(request.scope, engine.settings)
    if options.to is None:
        command = dataclasses.replace(command, name="")
    source = request.source()
    verdict = verdict_of(request.scope)
    async with engine.single_upload(command, source, context=request.scope) as single:
        await single.open()
        upload = IncomingUpload(engine, request, single)
        try:
            yield upload
            await upload.finish()
        except BaseException:
            try:
                await upload.halt()
            finally:
                if upload.notification is not None and not upload.moved:
                    await upload.notification.take_back()
            raise
    if upload.notification is None or upload.moved:
        return
    if upload.rejected:
        await upload.notification.take_back()
        return
    async with until_answered(verdict, [upload.notification]):
        pass


async def _end(receiving: asyncio.Task[None]) -> None:
    """Cancels the task and waits until no thread uses its file any more, also when cancelled
    itself. The task's own error is left to whoever awaits the task.
    """
    receiving.cancel()
    cancelled = False
    while not receiving.done():
        try:
            await asyncio.wait({receiving})
        except asyncio.CancelledError:
            cancelled = True
    if not receiving.cancelled():
        receiving.exception()  # marks it as retrieved
    if cancelled:
        raise asyncio.CancelledError


def _close(reader: Any) -> None:
    reader.close()
