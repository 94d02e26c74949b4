"""`Body`: a received body, in memory or in a file.

All bodies in memory share one budget. Larger ones are on the filesystem of the served folder, so
that to publish one is a link and not a copy.
"""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO, Literal, NoReturn

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.engine.files.publish import prepare
from forebay.engine.transfer.spool import Spool
from forebay.errors import InvalidRequest
from forebay.model import Conflict, Digest, MiB, Stored
from forebay.protocol.names import validate_path
from forebay.stores.base import Publication, Published, Staged, Store
from forebay.stores.reading import as_file, as_map

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

_CHUNK = MiB


class Body:
    """A received body. It is removed when its request ends, unless it was moved or published.

    Methods that may wait for a disk are async, or say that they must not be called on the event
    loop.
    """

    def __init__(
        self,
        spool: Spool,
        size: int,
        *,
        store: Store,
        workers: Workers,
        media_type: str | None = None,
        digests: tuple[Digest, ...] = (),
    ) -> None:
        self._spool = spool
        self._store = store
        self._workers = workers
        self._closed = False
        self.size = size
        """Bytes."""
        self.media_type = media_type
        self.digests = digests

    @property
    def kind(self) -> Literal["memory", "file"]:
        return "memory" if self._spool.memory is not None else "file"

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidRequest("The body is gone: its request has ended, or it was moved.")

    def open(self) -> BinaryIO:
        """A reader at the start; close it. Not for the event loop when `kind` is `file`."""
        self._check_open()
        if self._spool.memory is not None:
            return _Held(bytes(self._spool.memory))
        assert self._spool.staged is not None
        return as_file(self._spool.staged.seal())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The content in pieces of at most 1 MiB."""
        self._check_open()
        if self._spool.memory is not None:
            if self._spool.memory:
                yield bytes(self._spool.memory)
            return
        reader = await self._workers.run(self.open, undo=_close_reader)
        try:
            while piece := await self._workers.run(reader.read, _CHUNK):
                yield piece
        finally:
            await self._workers.run(reader.close)

    async def read(self) -> bytes:
        """The whole content in memory."""
        return b"".join([piece async for piece in self])

    def mmap(self) -> mmap.mmap:
        """The content as memory, read only; close it. A body of no bytes has no map.

        A body in memory is copied into an anonymous map, a file is mapped as it is.
        """
        self._check_open()
        if self.size == 0:
            raise InvalidRequest("An empty body cannot be mapped.")
        if self._spool.memory is not None:
            area = mmap.mmap(-1, self.size)
            area.write(bytes(self._spool.memory))
            area.seek(0)
            return area
        assert self._spool.staged is not None
        with contextlib.closing(self._spool.staged.seal()) as reader:
            return as_map(reader, self.size)

    async def move_to(
        self,
        name: str,
        *,
        conflict: Conflict = Conflict.REFUSE,
        preconditions: Preconditions = NO_PRECONDITIONS,
    ) -> Stored:
        """Publishes the body as `name` below the root of the store.

        `name` is validated. Nothing is copied when the body is in a file. Raises InvalidName,
        NameTaken, NotAFolder, PreconditionFailed and StorageError; the body is still there then.
        """
        self._check_open()
        return await self.publish(
            Publication(validate_path(name.split("/")), conflict, preconditions)
        )

    async def publish(self, how: Publication) -> Stored:
        """`move_to` with a name that was validated already."""
        self._check_open()
        await self.prepare(how.name)
        return (await self._workers.run(self.publish_now, how)).stored()

    async def prepare(self, name: str) -> None:
        """Does what is slow about publishing it as `name`. See `forebay.engine.files.publish`."""
        staged = self._spool.staged
        if staged is not None:
            await prepare(self._workers, staged, name)

    def spill(self) -> Staged:
        """In a thread: writes a body that is in memory to a file; its data. Checks the room that
        must stay free. The data stays the body's until `release`.
        """
        self._check_open()
        staged = self._spool.to_file()
        self._spool.staged = staged
        staged.reserve(self.size)
        return staged

    def publish_now(self, how: Publication) -> Published:
        """In a thread: publishes it. Raises what `Staged.publish` raises; it still exists then."""
        published = self.spill().publish(how)
        self.release()
        return published

    def release(self) -> None:
        """Forgets its data, which is published."""
        self._spool.staged = None
        self._closed = True

    async def close(self) -> None:
        """Removes it. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._workers.run(self._spool.discard)


def _close_reader(reader: BinaryIO) -> None:
    reader.close()


class _Held(io.BytesIO):
    """A reader of what is in memory. Nothing can be written to it."""

    def writable(self) -> bool:
        return False

    def _refuse(self, *args: object) -> NoReturn:
        raise io.UnsupportedOperation("not writable")

    write = writelines = truncate = _refuse
