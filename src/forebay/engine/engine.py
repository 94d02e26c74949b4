"""The engine: receives bodies, forms and resumable uploads into one store. It knows no HTTP.

A body is admitted (who, how long, how many, how much room, is the name free) before one byte
of it is read; then it is received, verified, published, and its callback is called. Whatever
goes wrong, nothing of a refused or broken body stays (invariant 5).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from forebay.engine.bodies.body import Body
from forebay.engine.bodies.receive import SingleUpload, hashing_for
from forebay.engine.bodies.verdict import Verdict, until_answered
from forebay.engine.context import EngineContext
from forebay.engine.files.remove import Removal
from forebay.engine.files.withdraw import withdraw
from forebay.engine.forms.form import Form, FormArguments, receive_form
from forebay.engine.outbox.outbox import Outbox
from forebay.engine.readiness import Readiness
from forebay.engine.state import State
from forebay.engine.transfer.admission import Tally
from forebay.engine.transfer.decoding import Decoding, decoding, room
from forebay.engine.transfer.progress import ProgressFeed
from forebay.engine.transfer.pump import BodyWriter, Hashing, Sink, Source
from forebay.engine.transfer.spool import Spool
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads import outcome
from forebay.engine.uploads.service import UploadService
from forebay.errors import UploadError
from forebay.hooks.base import Hooks
from forebay.locks.base import Locks
from forebay.model import NOTHING_SAID, About, Digest, Principal, Receive, Stored
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Store

if TYPE_CHECKING:
    from forebay.config import Settings


class Engine:
    """Takes bodies into one store. One per process and event loop.

    Args: see `EngineContext`.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        locks: Locks | None = None,
        hooks: Hooks | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.context = EngineContext(settings, store, locks=locks, hooks=hooks, tally=tally)
        self.removal = Removal(self.context)
        """Removes published files."""
        self.state = State(self.context, self.removal)
        self.outbox = Outbox(self.context, self.state.recorded)
        self._readiness = Readiness(self.context, self.state)

    @property
    def settings(self) -> Settings:
        return self.context.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Applies to what starts from now on; running bodies keep their limits."""
        self.context.settings = settings

    @property
    def store(self) -> Store:
        return self.context.store

    @property
    def hooks(self) -> Hooks:
        return self.context.hooks

    @property
    def workers(self) -> Workers:
        return self.context.workers

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
        """See `EngineContext.authorise`."""
        return await self.context.authorise(action, name, context, upload_id=upload_id, about=about)

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
        async with self.single_upload(command, source, context=context) as upload:
            stored = await upload.take(progress)
        await upload.notify(stored)
        return stored

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
        async with self.single_upload(command, source, context=context) as upload:
            stored = await upload.take(progress)
        notify = functools.partial(upload.notify, stored)
        undo = functools.partial(upload.take_back, stored)
        async with until_answered(verdict, notify, undo):
            yield upload, stored

    @contextlib.asynccontextmanager
    async def single_upload(
        self, command: Receive, source: Source, *, context: Mapping[str, Any] | None = None
    ) -> AsyncIterator[SingleUpload]:
        """Admits a body, to be received step by step; what is not published by then goes.

        No byte of it is read by entering. Raises what authorisation and limits raise.
        """

        def about() -> About:
            length, media_type = source.length, command.media_type
            return dataclasses.replace(command.about, length=length, media_type=media_type)

        principal = await self.authorise("create", command.name, context, about=about)
        limit = self.context.limit(command.max_size)
        self.context.admission.check_length(source.length, limit)
        with self.context.admitted(), room(self.context.budget, command.coding):
            upload = SingleUpload(
                self.context,
                command,
                limit,
                source,
                principal,
                context,
                outbox=self.outbox,
            )
            try:
                yield upload
            finally:
                await upload.close()

    async def take_back(self, stored: Stored) -> None:
        """Removes what was just published, if it is still that and replaced nothing."""
        await self.workers.run(withdraw, self.store, stored)

    async def publish_body(
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
        recorded = self.outbox.recorded
        if recorded is None:
            stored = await body.publish(how)
            published(stored)
            command = Receive(how.name, how.conflict, media_type=body.media_type, about=about)
            await self.outbox.notify(stored, command, principal, upload_id, context)
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
        limit = self.context.limit(max_size)
        self.context.admission.check_length(source.length, limit)
        with self.context.admitted():
            held = threshold if threshold is not None else self.settings.memory_threshold
            spool = Spool(self.store.stage, self.context.budget, held)
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
        with room(self.context.budget, coding):
            if coding is not None:
                sink = decoding(spool, coding, self.settings, limit)
            writer = BodyWriter(sink, limit=limit, hashing=hashing)
            await self.context.pump(source, writer, progress=progress)
        if not isinstance(sink, Decoding):
            return writer.offset
        sink.finish()
        return sink.size

    def receive_form(
        self, source: Source, content_type: bytes, **options: Unpack[FormArguments]
    ) -> contextlib.AbstractAsyncContextManager[Form]:
        """See `forebay.engine.forms.form.receive_form`."""
        return receive_form(self.context, self.outbox, source, content_type, **options)

    # --- the life of the process ---------------------------------------------------------------

    async def open_uploads(self, sessions: Sessions) -> None:
        """Opens the session store and offers resumable uploads from then on."""
        await self.state.open(sessions)

    @property
    def offers_uploads(self) -> bool:
        """Whether resumable uploads are offered; also while their state cannot be reached."""
        return self.state.is_offered

    @property
    def uploads(self) -> UploadService:
        """See `State.uploads`."""
        return self.state.uploads

    @property
    def sessions(self) -> Sessions | None:
        """The open session store; None while there is none."""
        return self.state.sessions

    async def close_uploads(self) -> None:
        """Waits for deletions, ends calls and copies, and closes the session store."""
        await self.removal.close()
        await self.outbox.close()
        await self.state.close()

    def drain(self, timeout: float) -> None:
        """Takes nothing new; what is not done after `timeout` seconds is ended (503)."""
        self.context.admission.draining = True
        self.context.monitor.drain(timeout)

    @property
    def draining(self) -> bool:
        return self.context.admission.draining

    async def why_not_ready(self) -> str | None:
        """None when uploads can be taken, else the reason. Asks the disk once a second."""
        if self.draining:
            return "draining"
        return await self._readiness.why_not()

    def close(self) -> None:
        """Closes what is still open, and the worker threads: from any thread. Blocks when the event
        loop was closed before `close_uploads`.
        """
        self.state.close_now()
        self.context.close()


__all__ = ["Engine", "UploadError"]
