"""The bytes of a file on their way to a client, in bounded pieces read by worker threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.errors import UploadError
from forebay.http.answers import Send
from forebay.http.bypass import cycle_of, sends_directly
from forebay.stores.base import Reader
from forebay.stores.reading import read_bytes

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

PIECE = 256 << 10
_SMALL = 32 << 10
"""Up to this a read and a copy are quicker than the kernel's way from file to socket."""


class Content:
    """A part of a file as a response. The reader is open for as long as this is used."""

    def __init__(self, scope: dict[str, Any], workers: Workers, reader: Reader) -> None:
        self._name = reader.info.name
        self._workers = workers
        self._reader = reader
        self._cycle = cycle_of(scope)

    async def check(self, start: int) -> None:
        """Raises StorageFailed when what begins at `start` cannot be sent.

        What has a descriptor cannot be found damaged.
        """
        if self._reader.fileno() is None:
            await self._workers.run(read_bytes, self._reader, start, 1)

    async def send(self, send: Send, start: int, stop: int, *, more: bool) -> None:
        """Sends a part that is not empty; `more`: the response does not end with it.

        Raises RuntimeError when the bytes are not there (any more): by then a status has
        been sent, and only a broken connection shows it to the client.
        """
        fd = self._reader.fileno()
        if fd is not None and (stop - start > _SMALL or not more) and self._goes_straight(send):
            await send(
                {
                    "type": "http.response.zerocopysend",
                    "file": fd,
                    "offset": start,
                    "count": stop - start,
                    "more_body": more,
                    "forebay.workers": self._workers,
                }
            )
            return
        while start < stop:
            size = min(PIECE, stop - start)
            try:
                piece = await self._workers.run(read_bytes, self._reader, start, size)
            except UploadError as error:
                raise RuntimeError(f"{self._name!r} cannot be sent") from error
            if not piece:
                # Cut short on the disk under us: the client must not take it for the whole.
                raise RuntimeError(f"{self._name!r} became shorter while it was sent")
            start += len(piece)
            last = start >= stop
            await send({"type": "http.response.body", "body": piece, "more_body": more or not last})

    def _goes_straight(self, send: Send) -> bool:
        """Whether the file may go to the socket past `send`, by our own server."""
        cycle = self._cycle
        if cycle is None or not cycle.connection.can_drain:
            return False
        return sends_directly(cycle, send)
