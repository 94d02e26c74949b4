"""The engine: receives bodies, forms and resumable uploads into one store. It knows no HTTP.

A body is admitted (authorisation, length, number of uploads, free space, name) before anything of
it is read. Then it is received, verified, published, and its callback is called. Nothing of a
refused or interrupted body stays (invariant 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from forebay.engine.bodies.body import Body
from forebay.engine.bodies.receive import SingleUpload, received_file, single_upload
from forebay.engine.bodies.spooled import publish_body, receive_body
from forebay.engine.bodies.verdict import Verdict
from forebay.engine.context import EngineContext
from forebay.engine.files.remove import Removal
from forebay.engine.forms.form import Form
from forebay.engine.forms.receive import receive_form
from forebay.engine.forms.request import FormRequest
from forebay.engine.outbox.outbox import Outbox
from forebay.engine.outbox.pending import PendingNotification, WholeUpload
from forebay.engine.readiness import Readiness
from forebay.engine.state import State
from forebay.engine.transfer.admission import Tally
from forebay.engine.transfer.progress import ProgressFeed
from forebay.engine.transfer.pump import Source
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.service import UploadService
from forebay.errors import UploadError
from forebay.hooks.base import Hooks
from forebay.locks.base import Locks
from forebay.model import Offered, Receive, Stored
from forebay.sessions.base import Sessions
from forebay.stores.base import Store

if TYPE_CHECKING:
    from forebay.config import Settings


class Engine:
    """Receives uploads into one store. One per process and event loop. It only forwards calls.

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
        self.authorise = self.context.authorise
        self.removal = Removal(self.context)
        """Removes published files."""
        self.state = State(self.context, self.removal)
        self.outbox = Outbox(self.context, self.state.outbox)
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

    async def receive_file(
        self,
        command: Receive,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        progress: ProgressFeed | None = None,
        verdict: Verdict | None = None,
    ) -> Stored:
        """Receives a whole body and publishes it. Raises an UploadError; then nothing is stored.

        `context`: what `authorise` is shown of the request. `verdict`: see `received_file`.
        """
        if verdict is not None:
            waiting = self.received_file(
                command, source, context=context, progress=progress, verdict=verdict
            )
            async with waiting as (_, stored):
                return stored
        async with self.single_upload(command, source, context=context) as upload:
            notification = await upload.take(progress)
        await notification.notify()
        return notification.stored

    def received_file(
        self,
        command: Receive,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        progress: ProgressFeed | None = None,
        verdict: Verdict | None = None,
    ) -> AbstractAsyncContextManager[tuple[SingleUpload, Stored]]:
        """As `receive_file`, where it is decided later whether the file stays.

        See `forebay.engine.bodies.receive.received_file`.
        """
        return received_file(
            self.context,
            self.outbox,
            command,
            source,
            context=context,
            progress=progress,
            verdict=verdict,
        )

    def single_upload(
        self, command: Receive, source: Source, *, context: Mapping[str, Any] | None = None
    ) -> AbstractAsyncContextManager[SingleUpload]:
        """See `forebay.engine.bodies.receive.single_upload`."""
        return single_upload(self.context, self.outbox, command, source, context)

    def receive_body(
        self,
        source: Source,
        command: Receive,
        *,
        threshold: int | None = None,
        progress: ProgressFeed | None = None,
    ) -> AbstractAsyncContextManager[Body]:
        """See `forebay.engine.bodies.spooled.receive_body`."""
        return receive_body(self.context, source, command, threshold=threshold, progress=progress)

    async def publish_body(self, body: Body, upload: WholeUpload) -> PendingNotification:
        """See `forebay.engine.bodies.spooled.publish_body`."""
        return await publish_body(self.context, self.outbox, body, upload)

    def receive_form(
        self, source: Source, request: FormRequest
    ) -> AbstractAsyncContextManager[Form]:
        """See `forebay.engine.forms.receive.receive_form`."""
        return receive_form(self.context, self.outbox, source, request)

    # --- the life of the process ---------------------------------------------------------------

    async def open_uploads(self, sessions: Sessions) -> None:
        """Opens the session store and offers resumable uploads from then on."""
        await self.state.open(sessions)

    @property
    def offers_uploads(self) -> bool:
        """Whether resumable uploads are offered; also while their state cannot be reached."""
        return self.offered.resumable

    @property
    def offered(self) -> Offered:
        """See `State.offered`."""
        return self.state.offered

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
        """Admits nothing new. What is not done after `timeout` seconds is ended (503)."""
        self.context.admission.draining = True
        self.context.monitor.drain(timeout)

    @property
    def draining(self) -> bool:
        return self.context.admission.draining

    async def why_not_ready(self) -> str | None:
        """None when uploads can be received, else the reason. Asks the disk once a second."""
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
