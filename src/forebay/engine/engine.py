"""The engine: in what order effects happen. It knows no HTTP.

A body is admitted (who, how long, how many, how much room, is the name free) before one byte
of it is read, goes through the pump, is verified, published, and told of. Whatever goes
wrong on the way, nothing of a refused or broken body stays (invariant 5).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.admission import Admission, Tally
from forebay.engine.body import Body, Budget, Spool
from forebay.engine.forms import receive_form
from forebay.engine.progress import ProgressFeed
from forebay.engine.receive import NO_HASHING, Hashing, Intake, Sink, Source, pump
from forebay.engine.recorded import new_id
from forebay.engine.resumable import Resumables
from forebay.engine.watch import Watch
from forebay.engine.workers import Workers
from forebay.errors import DiskFull, StorageError, UploadError
from forebay.hooks.base import Access, Candidate, Completion, Hooks
from forebay.hooks.python import PythonHooks
from forebay.model import Principal, Receive, Stored
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Published, Staged, Store

if TYPE_CHECKING:
    from forebay.config import Settings

logger = logging.getLogger("forebay")


class Engine:
    """Takes bodies into one store. One per process and event loop.

    Args:
        settings: may be replaced whole at any time by assigning `settings`.
        store: where files live; the engine does not close it.
        hooks: who is asked and told.
        tally: shared by the worker processes of one server; its own when left out.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        hooks: Hooks | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.resumables: Resumables | None = None
        """Set by `open_resumables`; None while resumable uploads are not offered."""
        self.store = store
        self.hooks: Hooks = hooks or PythonHooks()
        self.workers = Workers(settings.threads, settings.buffer_size)
        self.budget = Budget(settings.memory_budget)
        self.admission = Admission(settings, tally)
        self.watch = Watch(settings)
        self._sessions: Sessions | None = None
        self._ready: tuple[float, str | None] = (0.0, None)
        self.settings = settings

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Takes effect for what starts from now on; running bodies keep their limits."""
        self._settings = settings
        self.admission.settings = settings
        self.watch.settings = settings
        self.budget.limit = settings.memory_budget
        self.store.min_free = settings.min_free

    # --- receiving -----------------------------------------------------------------------------

    async def authorise(
        self, action: str, name: str, context: Mapping[str, Any] | None = None
    ) -> Principal:
        """Who asks; raises NotAuthenticated or Forbidden."""
        return await self.hooks.authorise(Access(action, name, context or {}))

    async def receive_file(
        self,
        command: Receive,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        progress: ProgressFeed | None = None,
    ) -> Stored:
        """Takes a whole body and publishes it. Raises an UploadError; then nothing is kept.

        `context` is what `authorise` is shown of the request.
        """
        principal = await self.authorise("create", command.name, context)
        limit = self._limit(command)
        self.admission.check_length(source.length, limit)
        self.admission.enter()
        receipt = _Receipt(command, limit)
        try:
            if self.hooks.completes and self.resumables is not None:
                return await self._receive_recorded(receipt, source, principal, progress)
            whole = None if self.hooks.verifies or progress else source.take_whole()
            if whole is not None:
                stored = await self._store_at_once(receipt, whole)
            else:
                published = await self._receive(receipt, source, principal, progress)
                stored = receipt.stored(published)
        finally:
            self.admission.leave()
        await self.tell(stored, command.media_type, principal)
        return stored

    async def store_whole(self, command: Receive, body: bytes) -> Stored:
        """Publishes a body that is already here; for who has authorised and admitted it.

        Raises an UploadError; then nothing is kept.
        """
        return await self._store_at_once(_Receipt(command, self._limit(command)), body)

    async def _store_at_once(self, receipt: _Receipt, body: bytes) -> Stored:
        call = functools.partial(self._store_whole, receipt, body)
        return receipt.stored(await self.workers.run(call, together=True))

    def _limit(self, command: Receive) -> int | None:
        limits = [n for n in (command.max_size, self._settings.max_size) if n is not None]
        return min(limits, default=None)

    async def _receive(
        self,
        receipt: _Receipt,
        source: Source,
        principal: Principal,
        progress: ProgressFeed | None,
    ) -> Published:
        run = self.workers.run
        call = functools.partial(self._open, receipt, source.length, self.store.stage)
        staged = await run(call, undo=_discard)
        try:
            await self._fill(staged, receipt, source, principal, progress)
            if self.store.capabilities.prepares:
                while not await run(receipt.prepare, staged):  # in turns, fair to all others
                    pass
            return await run(receipt.finish, staged)
        except BaseException:
            await run(staged.discard)
            raise

    async def _receive_recorded(
        self,
        receipt: _Receipt,
        source: Source,
        principal: Principal,
        progress: ProgressFeed | None,
    ) -> Stored:
        """With a record of its end, because somebody is told of it (see `recorded`)."""
        assert self.resumables is not None
        recorded, run = self.resumables.recorded, self.workers.run
        upload_id = new_id()
        stage = functools.partial(self.store.create, upload_id)
        call = functools.partial(self._open, receipt, source.length, stage)
        staged = await run(call, undo=_discard)
        try:
            await self._fill(staged, receipt, source, principal, progress)
            await run(receipt.check)
            digests = receipt.hashing.digests(receipt.command.wanted)
            record = await recorded.publish(upload_id, staged, receipt.command, principal, digests)
        except BaseException:
            await run(staged.discard)
            raise
        return await recorded.tell(record, staged)

    async def _fill(
        self,
        staged: Staged,
        receipt: _Receipt,
        source: Source,
        principal: Principal,
        progress: ProgressFeed | None,
    ) -> None:
        intake = receipt.intake(staged, unannounced=source.length is None)
        await self.pump(source, intake, progress=progress)
        if self.hooks.verifies:
            await self.workers.run(receipt.check)
            await self.hooks.verify(receipt.candidate(staged, intake.offset, principal))

    async def pump(
        self,
        source: Source,
        intake: Intake,
        after_turn: Callable[[], None] | None = None,
        progress: ProgressFeed | None = None,
    ) -> None:
        """Moves a body, watched over; `after_turn` runs on the loop between turns."""
        transfer = self.watch.add(source, intake)

        def between() -> None:
            if progress is not None:
                progress.report(intake)
            if after_turn is not None:
                after_turn()

        try:
            wanted = progress is not None or after_turn is not None
            await pump(source, intake, self.workers, between if wanted else None)
            if progress is not None:
                progress.report(intake, final=True)
        finally:
            self.watch.remove(transfer)
            if progress is not None:
                progress.finish()

    def _open(self, receipt: _Receipt, length: int | None, stage: Callable[[], Staged]) -> Staged:
        """In a thread: what must be settled before the body is read."""
        self.store.check_target(receipt.how)
        staged = stage()
        try:
            staged.reserve(length or 0)
        except BaseException:
            staged.discard()
            raise
        return staged

    def _store_whole(self, receipt: _Receipt, body: bytes) -> Published:
        """In a thread: all steps at once, for a small body that is already here."""
        staged = self.store.stage()
        try:
            staged.reserve(len(body))
            receipt.intake(staged).feed(memoryview(body))
            return receipt.finish(staged)
        except BaseException:
            staged.discard()
            raise

    async def tell(self, stored: Stored, media_type: str | None, principal: Principal) -> None:
        """`on_complete`, after publication."""
        if not self.hooks.completes:
            return
        completion = Completion(secrets.token_urlsafe(16), stored, media_type, principal)
        try:
            await self.hooks.complete(completion)
        except Exception:
            logger.exception("on_complete failed for %r; the file stays", stored.file.name)

    @contextlib.asynccontextmanager
    async def receive_body(
        self,
        source: Source,
        *,
        media_type: str | None = None,
        max_size: int | None = None,
        threshold: int | None = None,
        progress: ProgressFeed | None = None,
    ) -> AsyncIterator[Body]:
        """Takes a body into memory or a file, whichever its size asks for.

        It is gone when the block ends, unless it was moved. `threshold` and `max_size` are
        bytes; when left out, `--memory-threshold` and no limit but `--max-size` apply.
        """
        limits = [n for n in (max_size, self._settings.max_size) if n is not None]
        limit = min(limits, default=None)
        self.admission.check_length(source.length, limit)
        self.admission.enter()
        try:
            held = threshold if threshold is not None else self._settings.memory_threshold
            spool = Spool(self.store.stage, self.budget, held)
            try:
                if source.length is not None:
                    await self.workers.run(spool.reserve, source.length)
                intake = Intake(spool, limit=limit, reserve=source.length is None)
                await self.pump(source, intake, progress=progress)
            except BaseException:
                await self.workers.run(spool.discard)
                raise
            body = Body(
                spool,
                intake.offset,
                store=self.store,
                workers=self.workers,
                media_type=media_type,
                publish=_publish_body,
            )
            try:
                yield body
            finally:
                await body.close()
        finally:
            self.admission.leave()

    receive_form = receive_form  # a method: the engine is its first argument

    # --- the life of the process ---------------------------------------------------------------

    async def open_resumables(self, sessions: Sessions) -> None:
        """Opens the session store and offers resumable uploads from then on."""
        await sessions.open()
        self._sessions = sessions
        self.resumables = Resumables(self, sessions)

    async def close_resumables(self) -> None:
        resumables, self.resumables = self.resumables, None
        if resumables is not None:
            await resumables.concatenation.close()
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.close()

    def drain(self, timeout: float) -> None:
        """Takes nothing new; what cannot be done in `timeout` seconds is ended (503)."""
        self.admission.draining = True
        self.watch.drain(timeout)

    @property
    def draining(self) -> bool:
        return self.admission.draining

    async def why_not_ready(self) -> str | None:
        """None when uploads can be taken, else the reason. Asks the disk once a second."""
        if self.draining:
            return "draining"
        checked, reason = self._ready
        now = time.monotonic()
        if not checked or now - checked > 1:
            reason = await self.workers.run(self._probe)
            self._ready = (now, reason)
        return reason

    def _probe(self) -> str | None:
        try:
            if self.store.space().free < self._settings.min_free:
                raise DiskFull
            self.store.probe()
        except StorageError as error:
            return f"{error.code}: {error.message}"
        return None

    def close(self) -> None:
        self.workers.close()


class _Receipt:
    """One body on its way: how it is checked and under which name it is published."""

    def __init__(self, command: Receive, limit: int | None) -> None:
        self.command = command
        self.limit = limit
        self.started = time.perf_counter()
        self.how = Publication(command.name, command.conflict, command.preconditions)
        names = {digest.algorithm for digest in command.expected} | set(command.wanted)
        self.hashing = Hashing(sorted(names)) if names else NO_HASHING

    def intake(self, sink: Sink, *, unannounced: bool = False) -> Intake:
        return Intake(sink, limit=self.limit, hashing=self.hashing, reserve=unannounced)

    def check(self) -> None:
        self.hashing.verify(self.command.expected)

    def prepare(self, staged: Staged) -> bool:
        """In a thread: a turn of what publication takes; not for what is refused."""
        self.check()
        return staged.prepare(self.command.name)

    def finish(self, staged: Staged) -> Published:
        """In a thread: verify, then publish."""
        self.check()
        return staged.publish(self.how)

    def stored(self, published: Published) -> Stored:
        return Stored(
            published.file,
            published.renamed,
            published.replaced,
            self.hashing.digests(self.command.wanted),
            time.perf_counter() - self.started,
        )

    def candidate(self, staged: Staged, size: int, principal: Principal) -> Candidate:
        def reader() -> BinaryIO:
            return os.fdopen(staged.open_read(), "rb")

        command = self.command
        digests = self.hashing.digests(command.wanted)
        return Candidate(command.name, size, command.media_type, digests, principal, reader)


def _discard(staged: Staged) -> None:
    staged.discard()


def _publish_body(staged: Staged, how: Publication) -> Stored:
    published = staged.publish(how)
    return Stored(published.file, published.renamed, published.replaced)


__all__ = ["Engine", "UploadError"]
