"""A body that comes through ASGI's `receive()`: under TLS, and on other servers.

Pieces are gathered into batches, so that a thread is woken once per megabyte and not once per
64 KiB. A piece waits only for a moment, and all such uploads together gather a bounded amount.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from forebay.errors import IncompleteBody, Interrupted, StorageFailed, UploadError

if TYPE_CHECKING:
    from forebay.engine.transfer.pump import BodyWriter, Late
    from forebay.engine.transfer.workers import Workers

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

logger = logging.getLogger("forebay")

BATCH = 1 << 20
"""Bytes that are gathered for one job of a thread, when few uploads run."""
SMALLEST_BATCH = 64 << 10
TOGETHER = 16 << 20
"""Most bytes that all sources of a process gather."""
_SMALL_PIECE = 16 << 10
_LEAST = 64
BODY_WAS_READ = (
    "The body of this request was read already: it comes once. Declare one upload or one form in "
    "a route, and no JSON, form or `await request.body()` beside it or in middleware."
)
TURN_WORK = 16 << 10
"""Most work of parsing a body in a turn, in units of `BodyWriter.work`: about 5 ms."""
PATIENCE = 0.1
"""Seconds that a piece may wait for others."""

Piece = bytes | memoryview
"""A part of the body as it came, or the rest of one."""


class ReceiveSource:
    """A `forebay.engine.transfer.pump.Source` over ASGI."""

    _alive = 0

    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive = receive
        self.length = length
        self.waiting_since: float | None = None
        self.late: Late | None = None
        self._pieces: list[Piece] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._ended = False
        self._received = 0
        self._stopped: UploadError | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def arrived(self) -> bool:
        return False  # not known without waiting

    def take_whole(self) -> bytes | None:
        return None  # not known without waiting

    async def turn(self, writer: BodyWriter, workers: Workers) -> bool:
        if self._pieces and self._stopped is None:  # the sink had no room for them
            await self._write(writer, workers)
            return self._ended and not self._pieces
        ReceiveSource._alive += 1
        loop = asyncio.get_running_loop()
        batch = max(SMALLEST_BATCH, min(BATCH, TOGETHER // ReceiveSource._alive))
        try:
            async with asyncio.timeout(None) as self._scope:
                if self._stopped is not None:
                    raise self._stopped
                size = 0
                while size < batch and not self._ended:
                    size += await self._next(loop)
                    if self._timer is None and self._pieces:
                        self._timer = loop.call_later(PATIENCE, self._start_flush, writer, workers)
        except TimeoutError:
            if self._stopped is None:
                raise
        except IncompleteBody as error:
            self._stopped = self._stopped or error
        finally:
            ReceiveSource._alive -= 1
            self._scope = None
            self.waiting_since = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._flushed()
        # What has arrived is written also when the body breaks off: it is a prefix.
        stopped = self._stopped
        prefix = isinstance(stopped, _PREFIX_STAYS) and not stopped.detail.get("misplaced")
        if self._pieces and (stopped is None or prefix):
            await self._write(writer, workers)
        if self._stopped is not None:
            raise self._stopped
        return self._ended and not self._pieces

    async def _next(self, loop: asyncio.AbstractEventLoop) -> int:
        self.waiting_since = loop.time()
        message = await self._receive()
        self.waiting_since = None
        if message["type"] == "http.disconnect":
            raise IncompleteBody
        piece: bytes = message.get("body", b"")
        if piece:
            self._pieces.append(piece)
        self._ended = not message.get("more_body", False)
        self._received += len(piece)
        if self._ended and self._received < (self.length or 0):
            # Servers give all of it, or a disconnect.
            if not self._received:
                raise RuntimeError(BODY_WAS_READ)
            # Middleware may have read the beginning: then these bytes have another offset.
            raise IncompleteBody(misplaced=True)
        return max(len(piece), _LEAST)  # an object takes more memory than its bytes

    async def _write(self, writer: BodyWriter, workers: Workers) -> None:
        """Writes all pieces; of a sink that is full, only what it has room for."""
        pieces, self._pieces = self._pieces, []
        while pieces:
            async with workers.alone() if writer.costly else contextlib.nullcontext():
                pieces = await workers.run(_feed_some, writer, pieces)
            if pieces and not writer.portion(1):
                self._pieces[:0] = pieces
                return

    def _start_flush(self, writer: BodyWriter, workers: Workers) -> None:
        """Writes what a slow client has sent, while the next piece is awaited."""
        self._timer = None  # the next piece sets it again
        if self._pieces and (self._flushing is None or self._flushing.done()):
            self._flushing = asyncio.ensure_future(self._flush(writer, workers))

    async def _flush(self, writer: BodyWriter, workers: Workers) -> None:
        try:
            await self._write(writer, workers)
            if self._pieces and self._scope is not None and self._timer is None:
                # The sink is full: tried again, whether the client sends more or not.
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(PATIENCE, self._start_flush, writer, workers)
        except UploadError as error:
            self.stop(error)
        except Exception as error:  # these pieces are lost: nothing may be written after them
            logger.exception("a body could not be written")
            failed = StorageFailed("The body could not be written.")
            failed.__cause__ = error
            self.stop(failed)

    async def _flushed(self) -> None:
        """Waits for the running flush, so that pieces are written in their order."""
        while self._flushing is not None and not self._flushing.done():
            try:
                await asyncio.shield(self._flushing)
            except asyncio.CancelledError:
                if self._flushing.done():
                    break
                with contextlib.suppress(asyncio.CancelledError):
                    await self._flushing
                raise
        self._flushing = None

    def stop(self, error: UploadError) -> None:
        if self._stopped is None:
            self._stopped = error
        if self._scope is not None:
            with contextlib.suppress(RuntimeError):  # the wait has just ended
                self._scope.reschedule(asyncio.get_running_loop().time())


def _feed_some(writer: BodyWriter, pieces: list[Piece]) -> list[Piece]:
    """In a thread: one turn of work; returns the pieces that are left. Large pieces are written one
    by one: joining them costs more than a call.
    """
    if sum(map(len, pieces)) < _SMALL_PIECE * len(pieces):
        pieces = [b"".join(pieces)]
    most = writer.work + TURN_WORK
    for number, piece in enumerate(pieces):
        view = memoryview(piece)
        while view and writer.work < most:
            size = writer.portion(len(view))
            if not size:  # the sink is full
                break
            writer.feed(view[:size])
            view = view[size:]
        if view:
            return [view, *pieces[number + 1 :]]  # a copy each turn would be quadratic
    return []


_PREFIX_STAYS = (IncompleteBody, Interrupted)
"""Errors after which the bytes so far are part of the upload."""
