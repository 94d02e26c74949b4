"""The upload state of one engine: the open session store and its uploads, or the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine.offered import offered_by
from forebay.engine.uploads.accesses import Accesses
from forebay.engine.uploads.service import UploadService
from forebay.errors import UploadError
from forebay.model import NOTHING_OFFERED, Offered

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.files.remove import Removal
    from forebay.engine.outbox.durable import DurableOutbox
    from forebay.model import UploadRecord
    from forebay.sessions.base import Sessions


class State:
    """Used on the event loop. May be opened again after it was closed."""

    def __init__(self, engine: EngineContext, removal: Removal) -> None:
        self._engine = engine
        self._removal = removal
        self._offered = offered_by(engine.store)
        self._uploads: UploadService | None = None
        self.sessions: Sessions | None = None
        """The open session store; None while there is none."""
        self.error: UploadError | None = None
        """Why resumable uploads cannot be received now, although they are wanted."""

    async def open(self, sessions: Sessions) -> None:
        """Opens the session store; resumable uploads are offered from then on."""
        await sessions.open()
        engine = self._engine
        self.sessions = sessions
        accesses = Accesses(
            engine.store, sessions, engine.workers, engine.authorise, lingering=True
        )
        self._uploads = UploadService(engine, accesses, self._removal)
        self.error = None

    @property
    def accesses(self) -> Accesses | None:
        """Access to the uploads; None while there is no open state."""
        return None if self._uploads is None else self._uploads.accesses

    @property
    def is_offered(self) -> bool:
        """True also while the state cannot be reached; `uploads` raises the reason then."""
        return self._uploads is not None or self.error is not None

    @property
    def offered(self) -> Offered:
        """What clients may use of resumable uploads now."""
        return self._offered if self.is_offered else NOTHING_OFFERED

    @property
    def uploads(self) -> UploadService:
        """Raises RuntimeError while resumable uploads are not offered; SessionsUnavailable while
        they are, and their state cannot be reached.
        """
        if self._uploads is None:
            if self.error is not None:
                raise type(self.error)(self.error.message, **self.error.detail)
            raise RuntimeError("Resumable uploads need an open state first.")
        return self._uploads

    def outbox(self) -> DurableOutbox | None:
        """Records whole uploads for their callback; None where there is no callback, or no state.

        Raises SessionsUnavailable while the state cannot be reached.
        """
        wanted = self._engine.hooks.completes and self.is_offered
        return self.uploads.outbox if wanted else None

    def notify_soon(self, record: UploadRecord) -> None:
        """Calls `on_complete` for a file that was found to be published, if the call is pending."""
        if self._uploads is not None:
            self._uploads.notifier.soon(record)

    async def close(self) -> None:
        """Stops background tasks, then closes the session store."""
        uploads, self._uploads = self._uploads, None
        if uploads is not None:
            await uploads.close()
        sessions, self.sessions = self.sessions, None
        if sessions is not None:
            await sessions.close()

    def close_now(self) -> None:
        """As `close`, from any thread, after the event loop was closed. Blocks."""
        uploads, self._uploads = self._uploads, None
        if uploads is not None:
            uploads.accesses.locks.close_now()
        sessions, self.sessions = self.sessions, None
        if sessions is not None:
            sessions.close_now()
