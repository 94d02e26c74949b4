"""The bytes of a file on their way to a client, in bounded pieces read by worker threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from forebay.errors import UploadError
from forebay.http.answers import Send
from forebay.http.between import exchange_of, sends_directly
from forebay.model import FileInfo
from forebay.stores.compressed.seekable import Unpacker

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

PIECE = 256 << 10
_SMALL = 32 << 10
"""Up to this a read and a copy are quicker than the kernel's way from file to socket."""


class Content(Protocol):
    """What a response is made of. The file is open for as long as this is used."""

    size: int
    """Bytes."""

    async def check(self, start: int) -> None:
        """Raises StorageFailed when what begins at `start` cannot be sent."""
        ...

    async def send(self, send: Send, start: int, stop: int, *, more: bool) -> None:
        """Sends a part that is not empty; `more`: the response does not end with it.

        Raises RuntimeError when the bytes are not there (any more): by then a status has
        been sent, and only a broken connection tells the client.
        """
        ...


class PlainContent:
    """A file that holds the very bytes to send."""

    def __init__(
        self, scope: dict[str, Any], workers: Workers, fd: int, name: str, size: int
    ) -> None:
        self.size = size
        self._name = name
        self._workers = workers
        self._fd = fd
        self._exchange = exchange_of(scope)

    async def check(self, start: int) -> None:
        """Bytes as they are cannot be found damaged."""

    async def send(self, send: Send, start: int, stop: int, *, more: bool) -> None:
        if (stop - start > _SMALL or not more) and self._goes_straight(send):
            await send(
                {
                    "type": "http.response.zerocopysend",
                    "file": self._fd,
                    "offset": start,
                    "count": stop - start,
                    "more_body": more,
                    "forebay.workers": self._workers,
                }
            )
            return
        while start < stop:
            piece = await self._workers.run(os.pread, self._fd, min(PIECE, stop - start), start)
            if not piece:
                # Cut short on the disk under us: the client must not take it for the whole.
                raise RuntimeError(f"{self._name!r} became shorter while it was sent")
            start += len(piece)
            last = start >= stop
            await send({"type": "http.response.body", "body": piece, "more_body": more or not last})

    def _goes_straight(self, send: Send) -> bool:
        """Whether the file may go to the socket past `send`, by our own server."""
        exchange = self._exchange
        if exchange is None or not exchange.protocol.can_drain:
            return False
        return sends_directly(exchange, send)


class PackedContent:
    """The content of a file that is compressed at rest.

    Nothing is held between two pieces: what a slow client waits for costs no memory.
    """

    def __init__(self, unpacker: Unpacker, workers: Workers, fd: int, info: FileInfo) -> None:
        self.size = info.size
        self._unpacker = unpacker
        self._workers = workers
        self._fd = fd
        self._info = info

    async def check(self, start: int) -> None:
        # Its frame is kept, and found again when it is sent.
        await self._workers.run(self._unpacker.read, self._fd, self._info, start, 1)

    async def send(self, send: Send, start: int, stop: int, *, more: bool) -> None:
        while start < stop:
            size = min(PIECE, stop - start)
            try:
                piece = await self._workers.run(
                    self._unpacker.read, self._fd, self._info, start, size
                )
            except UploadError as error:
                raise RuntimeError(f"{self._info.name!r} cannot be sent") from error
            start += len(piece)
            last = start >= stop
            await send({"type": "http.response.body", "body": piece, "more_body": more or not last})
