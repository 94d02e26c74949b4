"""Receiving one body into one file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.bodies.verdict import Verdict, until_answered
from forebay.engine.ids import new_id
from forebay.engine.outbox.pending import PendingNotification, WholeUpload
from forebay.engine.transfer.decoding import Decoding, decoding, room
from forebay.engine.transfer.local import stage
from forebay.engine.transfer.progress import ProgressFeed
from forebay.engine.transfer.pump import BodyWriter, Sink, Source, hashing_for
from forebay.engine.transfer.reporting import reported
from forebay.model import About, Conflict, Digest, Principal, Receive, Stored
from forebay.stores.base import Publication, Published, Staged
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.outbox import Outbox


class SingleUpload:
    """An admitted body. `take` does everything; or call `open`, `receive` and `publish`.

    Made and closed by `single_upload`. `id` is the same in everything that hooks are told of this
    body. A command without a name (`""`) has no destination yet: see `place`.
    """

    def __init__(
        self,
        engine: EngineContext,
        command: Receive,
        limit: int | None,
        source: Source | None = None,
        principal: Principal = Principal.anonymous,
        context: Mapping[str, Any] | None = None,
        *,
        outbox: Outbox | None = None,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self.command = command
        self._source = source
        self.principal = principal
        self.id = new_id()
        self._context = context
        self._limit = limit
        self._hashing = hashing_for(command.expected, command.wanted)
        self._started = time.perf_counter()
        self._writer: BodyWriter | None = None
        self._decoding: Decoding | None = None
        self.staged: Staged | None = None
        self._durable = outbox is not None and outbox.durable is not None

    @property
    def source(self) -> Source:
        assert self._source is not None
        return self._source

    @property
    def received(self) -> int:
        """Bytes of the body that have come so far."""
        return self._writer.received if self._writer is not None else 0

    @property
    def stored_size(self) -> int:
        """Bytes of the content so far; decoded, where the body comes encoded."""
        return self.staged.offset if self.staged is not None else 0

    async def take(self, progress: ProgressFeed | None = None) -> PendingNotification:
        """Receives and publishes it."""
        hooks = self._engine.hooks
        steps = hooks.verifies or hooks.progresses or progress is not None or self._durable
        whole = None if steps else self.source.take_whole()
        if whole is not None:
            published = await self._store(whole)
            return self._published(published)
        await self.open()
        await self.receive(progress)
        return await self.publish()

    async def store(self, body: bytes) -> Stored:
        """Publishes a small body that is already here, in one step. No callback is called."""
        published = await self._store(body)
        return self._described.stored(published)

    async def _store(self, body: bytes) -> Published:
        call = functools.partial(self._store_whole, body)
        return await self._engine.workers.run(call, together=True)

    def place(self, name: str, conflict: Conflict) -> None:
        """Sets the destination, before `publish`, for a command that has no name."""
        self.command = dataclasses.replace(self.command, name=name, conflict=conflict)

    async def open(self) -> None:
        """Checks its name and the room for it, before the body is read. Raises what refuses it."""
        self.staged = await self._engine.workers.run(self._open, undo=_discard)

    async def receive(
        self,
        progress: ProgressFeed | None = None,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        """Receives the body, after `open`. Raises what interrupts it."""
        assert self.staged is not None
        self._writer = self._writer_of(self.staged)
        engine, arrival = self._engine, self._described.arrival(self.source.length)
        async with reported(engine.hooks, arrival, progress) as feed:
            await engine.pump(self.source, self._writer, after_turn, feed)

    async def check(self) -> None:
        """Compares the digests that were announced. Raises DigestMismatch."""
        await self._engine.workers.run(self._verify)

    def digests(self) -> tuple[Digest, ...]:
        """Digests of the algorithms that the command wants, of a body that was received."""
        return self._hashing.digests(self.command.wanted)

    def open_read(self) -> BinaryIO:
        """A new reader of the received content. May wait for the disk."""
        assert self.staged is not None
        return as_file(self.staged.seal())

    async def publish(self) -> PendingNotification:
        """Verifies and publishes it. Raises what refuses it."""
        engine, staged = self._engine, self.staged
        assert staged is not None
        if engine.hooks.verifies:
            await self.check()
            await engine.hooks.verify(self._described.candidate(staged.offset, self.open_read))
        if self._durable or staged.prepare_waits:
            await self.check()
            assert self._outbox is not None
            notification = await self._outbox.publish(staged, self._described)
        else:
            published = await engine.workers.run(self._finish, staged)
            notification = self._published(published)
        self.staged = None
        return notification

    async def close(self) -> None:
        """Removes what was not published. Idempotent."""
        staged, self.staged = self.staged, None
        if staged is not None:
            await self._engine.workers.run(staged.discard)

    # --- in threads ------------------------------------------------------------------------------

    def _open(self) -> Staged:
        store, command = self._engine.store, self.command
        if command.name:
            store.check_target(self._how)
        # A decoder may make more of a read than a bounded sink has room for.
        how = self._how if command.name and command.coding is None else None
        staged = stage(store, how, self.source.length)
        try:
            staged.reserve(self.source.length or 0)
        except BaseException:
            staged.discard()
            raise
        return staged

    def _store_whole(self, body: bytes) -> Published:
        staged = stage(self._engine.store, size=len(body))
        try:
            self._writer_of(staged).feed(memoryview(body))
            return self._finish(staged)
        except BaseException:
            staged.discard()
            raise

    def _writer_of(self, staged: Staged) -> BodyWriter:
        sink: Sink = staged
        if self.command.coding is not None:
            settings = self._engine.settings
            sink = self._decoding = decoding(staged, self.command.coding, settings, self._limit)
        return BodyWriter(sink, limit=self._limit, hashing=self._hashing)

    def _verify(self) -> None:
        if self._decoding is not None:
            self._decoding.finish()
        self._hashing.verify(self.command.expected)

    def _finish(self, staged: Staged) -> Published:
        self._verify()
        return staged.publish(self._how)

    # --- what it came to -------------------------------------------------------------------------

    @property
    def _how(self) -> Publication:
        command = self.command
        return Publication(command.name, command.conflict, command.preconditions)

    @property
    def _described(self) -> WholeUpload:
        """What is known of it now."""
        encoded = None if self._decoding is None else self._decoding.received
        return WholeUpload(
            self.id,
            self.command,
            self.principal,
            self._context,
            self._started,
            self.digests(),
            encoded,
        )

    def _published(self, published: Published) -> PendingNotification:
        assert self._outbox is not None
        return self._outbox.published(self._described, published)


@contextlib.asynccontextmanager
async def single_upload(
    engine: EngineContext,
    outbox: Outbox,
    command: Receive,
    source: Source,
    context: Mapping[str, Any] | None = None,
) -> AsyncIterator[SingleUpload]:
    """Admits a body, to be received step by step. What is not published when the block ends is
    removed.

    Nothing of it is read by entering. Raises what authorisation and limits raise.
    """

    def about() -> About:
        length, media_type = source.length, command.media_type
        return dataclasses.replace(command.about, length=length, media_type=media_type)

    principal = await engine.authorise("create", command.name, context, about=about)
    limit = engine.limit(command.max_size)
    engine.admission.check_length(source.length, limit)
    with engine.admitted(), room(engine.budget, command.coding):
        upload = SingleUpload(engine, command, limit, source, principal, context, outbox=outbox)
        try:
            yield upload
        finally:
            await upload.close()


@contextlib.asynccontextmanager
async def received_file(
    engine: EngineContext,
    outbox: Outbox,
    command: Receive,
    source: Source,
    *,
    context: Mapping[str, Any] | None = None,
    progress: ProgressFeed | None = None,
    verdict: Verdict | None = None,
) -> AsyncIterator[tuple[SingleUpload, Stored]]:
    """Receives and publishes a whole body, for the block: see `until_answered`.

    A file that replaced another cannot be taken back; it stays. Raises what refuses the body.
    """
    async with single_upload(engine, outbox, command, source, context) as upload:
        notification = await upload.take(progress)
    async with until_answered(verdict, [notification]):
        yield upload, notification.stored


def _discard(staged: Staged) -> None:
    staged.discard()
