"""The engine: in what order effects happen. It knows no HTTP.

A body is admitted (who, how long, how many, how much room, is the name free) before one byte
of it is read, goes through the pump, is verified, published, and told of. Whatever goes
wrong on the way, nothing of a refused or broken body stays (invariant 5).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.body import Body, Budget, Spool
from forebay.engine.bodies.publish import RecordedPublication
from forebay.engine.bodies.receive import SingleUpload, hashing_for
from forebay.engine.bodies.verdict import Verdict, until_answered
from forebay.engine.files.remove import Removal
from forebay.engine.files.withdraw import withdraw
from forebay.engine.forms.form import receive_form
from forebay.engine.outbox.in_memory import InMemoryOutbox
from forebay.engine.readiness import Readiness
from forebay.engine.transfer.admission import Admission, Tally
from forebay.engine.transfer.decoding import Decoding, decoding, room
from forebay.engine.transfer.monitor import Monitor
from forebay.engine.transfer.progress import ProgressFeed
from forebay.engine.transfer.pump import BodyWriter, Hashing, Sink, Source, pump
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads import outcome
from forebay.engine.uploads.rehash import slots
from forebay.engine.uploads.service import UploadService
from forebay.errors import UploadError
from forebay.hooks.base import Access, Hooks
from forebay.hooks.python import PythonHooks
from forebay.model import (
    NOTHING_SAID,
    About,
    Digest,
    Principal,
    Receive,
    Stored,
    UploadRecord,
)
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Store

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
        self.store = store
        self.hooks: Hooks = hooks or PythonHooks()
        self.workers = Workers(settings.threads, settings.buffer_size)
        self.budget = Budget(settings.memory_budget)
        self.admission = Admission(settings, tally)
        self.watch = Monitor(settings)
        self.admission.make_room = self.watch.make_room
        self.watch.share_idle = self.admission.share_idle
        self.hashing = asyncio.Semaphore(slots(self.workers.limit))
        """Held while something stored is hashed."""
        self.removal = Removal(self)
        """Removes published files."""
        self._sessions: Sessions | None = None
        self._resumables: UploadService | None = None
        self._unrecorded: InMemoryOutbox | None = None
        self.state_error: UploadError | None = None
        """Why resumable uploads, which are wanted, cannot be taken now."""
        self._readiness = Readiness(self)
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
        self,
        action: str,
        name: str,
        context: Mapping[str, Any] | None = None,
        *,
        upload_id: str = "",
        about: Callable[[], About] = lambda: NOTHING_SAID,
    ) -> Principal:
        """Who asks; raises NotAuthenticated or Forbidden. `about` the file is asked when needed."""
        return await self.hooks.authorise(Access(action, name, context or {}, upload_id, about))

    async def receive_file(
        self,
        command: Receive,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        progress: ProgressFeed | None = None,
        verdict: Verdict | None = None,
    ) -> Stored:
        """Takes a whole body and publishes it. Raises an UploadError; then nothing is kept.

        `context` is what `authorise` is shown of the request; `verdict`: as in `received_file`.
        """
        if verdict is not None:
            waiting = self.received_file(
                command, source, context=context, progress=progress, verdict=verdict
            )
            async with waiting as (_, stored):
                return stored
        async with self.reception(command, source, context=context) as reception:
            stored = await reception.take(progress)
        await reception.notify(stored)
        return stored

    async def store_whole(self, command: Receive, body: bytes) -> Stored:
        """Publishes a body that is already here; for who has authorised and admitted it.

        Raises an UploadError; then nothing is kept.
        """
        return await SingleUpload(self, command, self._limit(command)).store(body)

    @contextlib.asynccontextmanager
    async def received_file(
        self,
        command: Receive,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        progress: ProgressFeed | None = None,
        verdict: Verdict | None = None,
    ) -> AsyncIterator[tuple[SingleUpload, Stored]]:
        """As `receive_file`, for somebody who has yet to decide: the file is published for the
        block, taken back when that raises, and told of when it ends; with a `verdict` when that
        is given, or taken back then.

        What replaced another file cannot be taken back; it stays.
        """
        async with self.reception(command, source, context=context) as reception:
            stored = await reception.take(progress)
        notify = functools.partial(reception.notify, stored)
        undo = functools.partial(reception.take_back, stored)
        async with until_answered(verdict, notify, undo):
            yield reception, stored

    @contextlib.asynccontextmanager
    async def reception(
        self, command: Receive, source: Source, *, context: Mapping[str, Any] | None = None
    ) -> AsyncIterator[SingleUpload]:
        """Admits a body, to be received step by step; what is not published by then goes.

        No byte of it is read by entering. Raises what authorisation and limits raise.
        """

        def about() -> About:
            length, media_type = source.length, command.media_type
            return dataclasses.replace(command.about, length=length, media_type=media_type)

        principal = await self.authorise("create", command.name, context, about=about)
        limit = self._limit(command)
        self.admission.check_length(source.length, limit)
        self.admission.enter()
        try:
            with room(self.budget, command.coding):
                reception = SingleUpload(self, command, limit, source, principal, context)
                try:
                    yield reception
                finally:
                    await reception.close()
        finally:
            self.admission.leave()

    async def take_back(self, stored: Stored) -> None:
        """Removes what was just published, if it is still that and replaced nothing."""
        await self.workers.run(withdraw, self.store, stored)

    def _limit(self, command: Receive) -> int | None:
        limits = [n for n in (command.max_size, self._settings.max_size) if n is not None]
        return min(limits, default=None)

    async def pump(
        self,
        source: Source,
        intake: BodyWriter,
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

    async def notify(
        self,
        stored: Stored,
        command: Receive,
        principal: Principal,
        upload_id: str,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Has `on_complete` called about a file that is recorded nowhere: when it fails, it is
        called again by this process alone.
        """
        if self.hooks.completes:
            self._unrecorded = self._unrecorded or InMemoryOutbox(self)
            await self._unrecorded.notify(stored, command, principal, upload_id, context)

    async def keep(
        self,
        body: Body,
        how: Publication,
        upload_id: str,
        principal: Principal,
        published: Callable[[Stored], object] = lambda _: None,
        context: Mapping[str, Any] | None = None,
        about: About = NOTHING_SAID,
    ) -> Stored:
        """Publishes a received body as `how` says, and has `on_complete` called about it under
        that id; `published` is called in between. Raises what `Body.move_to` does; the body is
        still there then.
        """
        await body.prepare(how.name)
        recorded = self.recorded
        if recorded is None:
            stored = await body.publish(how)
            published(stored)
            command = Receive(how.name, how.conflict, media_type=body.media_type, about=about)
            await self.notify(stored, command, principal, upload_id, context)
            return stored
        record, staged = await recorded.publish_body(body, upload_id, how, principal, about=about)
        kept = outcome.stored(record)
        assert kept is not None
        published(kept)
        await recorded.notify(record, staged, context)
        return kept

    @contextlib.asynccontextmanager
    async def receive_body(
        self,
        source: Source,
        *,
        media_type: str | None = None,
        max_size: int | None = None,
        threshold: int | None = None,
        progress: ProgressFeed | None = None,
        expected: Iterable[Digest] = (),
        wanted: Iterable[str] = (),
        coding: str | None = None,
    ) -> AsyncIterator[Body]:
        """Takes a body into memory or a file, whichever its size asks for.

        It is gone when the block ends, unless it was moved. `threshold` and `max_size` are
        bytes; when left out, `--memory-threshold` and no limit but `--max-size` apply.
        `expected` must match (else DigestMismatch), `wanted` are algorithms to compute.
        `coding` is a content coding to take off.
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
                hashing = hashing_for(expected, wanted)
                size = await self._fill(spool, source, limit, coding, progress, hashing)
                hashing.verify(expected)
            except BaseException:
                await self.workers.run(spool.discard)
                raise
            body = Body(
                spool,
                size,
                store=self.store,
                workers=self.workers,
                media_type=media_type,
                digests=hashing.digests(wanted),
            )
            try:
                yield body
            finally:
                await body.close()
        finally:
            self.admission.leave()

    async def _fill(
        self,
        spool: Spool,
        source: Source,
        limit: int | None,
        coding: str | None,
        progress: ProgressFeed | None,
        hashing: Hashing,
    ) -> int:
        """The bytes that the body came to."""
        sink: Sink = spool
        with room(self.budget, coding):
            if coding is not None:
                sink = decoding(spool, coding, self._settings, limit)
            intake = BodyWriter(sink, limit=limit, hashing=hashing)
            await self.pump(source, intake, progress=progress)
        if not isinstance(sink, Decoding):
            return intake.offset
        sink.finish()
        return sink.size

    receive_form = receive_form  # a method: the engine is its first argument

    # --- the life of the process ---------------------------------------------------------------

    async def open_resumables(self, sessions: Sessions) -> None:
        """Opens the session store and offers resumable uploads from then on."""
        await sessions.open()
        self._sessions = sessions
        self._resumables = UploadService(self, sessions)
        self.state_error = None

    @property
    def offers_resumable(self) -> bool:
        """Also while their state cannot be reached; then `resumables` says why."""
        return self._resumables is not None or self.state_error is not None

    @property
    def resumables(self) -> UploadService:
        """Raises RuntimeError while resumable uploads are not offered, SessionsUnavailable while
        they are, but their state cannot be reached.
        """
        if self._resumables is None:
            if self.state_error is not None:
                error = self.state_error
                raise type(error)(error.message, **error.detail)
            raise RuntimeError("Resumable uploads need `open_resumables` first.")
        return self._resumables

    @property
    def recorded(self) -> RecordedPublication | None:
        """Where ends of whole uploads are noted while somebody is told of them; else None.

        Raises SessionsUnavailable while that cannot be promised.
        """
        wanted = self.hooks.completes and self.offers_resumable
        return self.resumables.recorded if wanted else None

    def notify_soon(self, record: UploadRecord) -> None:
        """Has `on_complete` called about a file that was found to be published, if need be."""
        if self._resumables is not None:
            self._resumables.notifier.soon(record)

    @property
    def sessions(self) -> Sessions | None:
        """The open session store; None while resumable uploads are not offered."""
        return self._sessions

    async def close_resumables(self) -> None:
        await self.removal.close()
        await self.close_state()

    async def close_state(self) -> None:
        """Closes the session store; it may be opened again."""
        resumables, self._resumables = self._resumables, None
        unrecorded, self._unrecorded = self._unrecorded, None
        if unrecorded is not None:
            await unrecorded.close()
        if resumables is not None:
            await resumables.concatenation.close()
            await resumables.notifier.close()
            await resumables.holders.close()
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
        return await self._readiness.why_not()

    def close(self) -> None:
        self.workers.close()


__all__ = ["Engine", "UploadError"]
