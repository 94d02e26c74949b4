"""One body on its way to one file: opened, received, verified, published, or gone."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.files.withdraw import withdraw
from forebay.engine.outbox.outbox import Outbox
from forebay.engine.outbox.recorded import RecordedPublication, new_id
from forebay.engine.transfer.decoding import Decoding, decoding
from forebay.engine.transfer.progress import ProgressFeed
from forebay.engine.transfer.pump import NO_HASHING, BodyWriter, Hashing, Sink, Source
from forebay.engine.transfer.reporting import reported
from forebay.engine.uploads import outcome
from forebay.hooks.base import Arrival, Candidate
from forebay.model import Conflict, Digest, Principal, Receive, Stored, UploadRecord
from forebay.stores.base import Publication, Published, Staged
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

ANYBODY = Principal.anonymous


class SingleUpload:
    """An admitted body. `take` does it all; or `open`, `receive` and `publish`, one by one.

    Made by `Engine.reception`, which closes it. `id` is the same in everything that hooks are
    told of this body. A command without a name (`""`) is for nowhere yet: see `place`.
    """

    def __init__(
        self,
        engine: EngineContext,
        command: Receive,
        limit: int | None,
        source: Source | None = None,
        principal: Principal = ANYBODY,
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
        self._how = Publication(command.name, command.conflict, command.preconditions)
        self._hashing = hashing_for(command.expected, command.wanted)
        self._started = time.perf_counter()
        self._intake: BodyWriter | None = None
        self._decoding: Decoding | None = None
        self.staged: Staged | None = None
        self._recorded = None if outbox is None else outbox.recorded
        self._unnotified: tuple[UploadRecord, Staged] | None = None

    @property
    def source(self) -> Source:
        assert self._source is not None
        return self._source

    @property
    def received(self) -> int:
        """Bytes of the body that have been taken so far."""
        return self._intake.received if self._intake is not None else 0

    @property
    def stored_size(self) -> int:
        """Bytes that are in the file so far, which is not published yet; decoded, where they
        came encoded.
        """
        return self.staged.offset if self.staged is not None else 0

    async def take(self, progress: ProgressFeed | None = None) -> Stored:
        """Receives and publishes it."""
        hooks = self._engine.hooks
        asked = hooks.verifies or hooks.progresses or progress is not None
        asked = asked or self._recorded is not None
        whole = None if asked else self.source.take_whole()
        if whole is not None:
            return await self.store(whole)
        await self.open()
        await self.receive(progress)
        return await self.publish()

    async def store(self, body: bytes) -> Stored:
        """Publishes a small body that is already here, all in one go."""
        call = functools.partial(self._store_whole, body)
        return self._stored(await self._engine.workers.run(call, together=True))

    def place(self, name: str, conflict: Conflict) -> None:
        """Says where it is published, before `publish`; for a command that has no name."""
        self.command = dataclasses.replace(self.command, name=name, conflict=conflict)
        self._how = Publication(name, conflict, self.command.preconditions)

    async def notify(self, stored: Stored) -> None:
        """Has `on_complete` called about what was published."""
        if self._unnotified is not None:
            assert self._recorded is not None
            unnotified, self._unnotified = self._unnotified, None
            await self._recorded.notify(*unnotified, self._context)
            return
        if self._outbox is not None:
            await self._outbox.notify(stored, self.command, self.principal, self.id, self._context)

    async def open(self) -> None:
        """Settles what must be settled before the body is read: its name, and room for it."""
        self.staged = await self._engine.workers.run(self._open, undo=_discard)

    async def receive(
        self,
        progress: ProgressFeed | None = None,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        """Takes the body, after `open`. Raises what breaks it off."""
        assert self.staged is not None
        self._intake = self._intake_of(self.staged)
        engine, command = self._engine, self.command
        about = Arrival(
            self.id,
            command.name,
            self.source.length,
            command.media_type,
            self.principal,
            about=command.about,
            context=self._context,
        )
        async with reported(engine.hooks, about, progress) as feed:
            await engine.pump(self.source, self._intake, after_turn, feed)

    async def check(self) -> None:
        """Compares the digests that were announced. Raises DigestMismatch."""
        await self._engine.workers.run(self._verify)

    def digests(self) -> tuple[Digest, ...]:
        """Those that the command wants, of a body that was received."""
        return self._hashing.digests(self.command.wanted)

    def open_read(self) -> BinaryIO:
        """A new reader of what was received, at its start. May wait for the disk."""
        assert self.staged is not None
        return as_file(self.staged.seal())

    async def publish(self) -> Stored:
        """Has it verified, and publishes it. Raises what refuses it."""
        engine = self._engine
        if engine.hooks.verifies:
            await self.check()
            await engine.hooks.verify(self._candidate())
        assert self.staged is not None
        if self.staged.prepare_waits:
            await self.check()
            while not await engine.workers.run(self.staged.prepare, self.command.name):
                pass  # in turns, fair to all others
        if self._recorded is not None:
            return await self._publish_recorded(self._recorded, self.staged)
        published = await engine.workers.run(self._finish, self.staged)
        self.staged = None
        return self._stored(published)

    async def _publish_recorded(self, recorded: RecordedPublication, staged: Staged) -> Stored:
        await self.check()
        duration = time.perf_counter() - self._started
        record = await recorded.publish(
            self.id,
            staged,
            self.command,
            self.principal,
            self.digests(),
            duration,
            self._encoded,
        )
        self.staged = None
        self._unnotified = record, staged
        stored = outcome.stored(record)
        assert stored is not None
        return stored

    async def take_back(self, stored: Stored) -> None:
        """Removes what was just published, as nobody wants it any more; nobody is told."""
        await self._engine.workers.run(
            withdraw, self._engine.store, stored
        )  # first: should we die here, a sweep forgets the rest
        if self._unnotified is not None:
            assert self._recorded is not None
            unnotified, self._unnotified = self._unnotified, None
            await self._recorded.forget(*unnotified)

    async def close(self) -> None:
        """What was not published goes. Idempotent."""
        staged, self.staged = self.staged, None
        if staged is not None:
            await self._engine.workers.run(staged.discard)

    # --- in threads ------------------------------------------------------------------------------

    def _open(self) -> Staged:
        store = self._engine.store
        if self.command.name:
            store.check_target(self._how)
        staged = store.stage()
        try:
            staged.reserve(self.source.length or 0)
        except BaseException:
            staged.discard()
            raise
        return staged

    def _store_whole(self, body: bytes) -> Published:
        staged = self._engine.store.stage()
        try:
            self._intake_of(staged).feed(memoryview(body))
            return self._finish(staged)
        except BaseException:
            staged.discard()
            raise

    def _intake_of(self, staged: Staged) -> BodyWriter:
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

    def _candidate(self) -> Candidate:
        command = self.command
        assert self.staged is not None
        return Candidate(
            command.name,
            self.staged.offset,
            command.media_type,
            self.digests(),
            self.principal,
            self.open_read,
            self.id,
            command.about,
            self._context,
            self._encoded,
        )

    def _stored(self, published: Published) -> Stored:
        duration = time.perf_counter() - self._started
        return published.stored(self.digests(), duration, self._encoded)

    @property
    def _encoded(self) -> int | None:
        return None if self._decoding is None else self._decoding.received


def hashing_for(expected: Iterable[Digest], wanted: Iterable[str]) -> Hashing:
    names = {digest.algorithm for digest in expected} | set(wanted)
    return Hashing(sorted(names)) if names else NO_HASHING


def _discard(staged: Staged) -> None:
    staged.discard()
