"""The port of a session store: the state of resumable uploads, and wake-ups between processes.

State, not a signal and not a lock: who may write is decided by the lock on the data file
(invariant 4); a wake-up only asks a holder to let go sooner.

Atomic: each method by itself. What it changed is durable when it returns (strict) or
survives a killed process (relaxed).
Retry: every method may be called again after SessionsUnavailable; `update` is a
compare-and-set, so a repeated call that had succeeded raises WrongState, never applies twice.
Order: two calls on one upload made one after the other (awaited) apply in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forebay.model import UploadRecord, UploadState


class Sessions(Protocol):
    """Upload state. All methods may raise SessionsUnavailable."""

    async def open(self) -> None:
        """Opens or creates the store and joins the wake-ups. Call once, on the event loop."""
        ...

    async def close(self) -> None:
        """Commits what is pending, leaves the wake-ups. Idempotent."""
        ...

    async def create(self, record: UploadRecord) -> None:
        """Adds an upload. Raises AlreadyExists; UploadExists when an upload that is OPEN or
        COMPLETING has its binding: of many at once, in any processes, one is added.
        """
        ...

    async def load(self, upload_id: str) -> UploadRecord:
        """The newest committed state. Raises NotFound."""
        ...

    async def load_bound(self, binding: str) -> UploadRecord:
        """The OPEN or COMPLETING upload of that binding, else the one of it that was created
        last. Raises NotFound.
        """
        ...

    async def advance(self, upload_id: str, offset: int, expires_at: float | None) -> UploadRecord:
        """Records a committed offset of an OPEN upload, and its new end of life; the record as
        it is now.

        Never goes back (invariant 1): raises OffsetMismatch when `offset` is below what is
        recorded; WrongState when the upload is not OPEN; NotFound. Does raise `version`.
        """
        ...

    async def update(
        self, upload_id: str, *, version: int | None = None, **changes: Any
    ) -> UploadRecord:
        """Changes fields of a record and returns it as it is now.

        With `version`, only if the record still has it, else WrongState. `changes` are
        fields of UploadRecord other than id and version; an unknown one is a TypeError.
        Raises NotFound; UploadExists as `create` does.
        """
        ...

    async def delete(self, upload_id: str) -> None:
        """Forgets an upload. No error when there is none."""
        ...

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        """At most `limit` records whose `expires_at` is not after `now`, soonest first; without
        those that `unnotified` tells of, which stay until that is done.
        """
        ...

    async def unnotified(self, before: float, limit: int) -> Sequence[UploadRecord]:
        """At most `limit` records of uploads that have ended and whose `notify_at` is not after
        `before`, soonest first.
        """
        ...

    async def page(
        self, *, state: UploadState | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[UploadRecord]:
        """Records in order of id, from after the id `after`; of one state when given."""
        ...

    async def load_many(self, ids: Sequence[str]) -> Sequence[UploadRecord]:
        """The records of those of at most 1,000 ids that there are, in no order."""
        ...

    async def count(self) -> int:
        """How many records there are."""
        ...

    async def in_place(self) -> None:
        """Raises SessionsUnavailable when what is written would not be found after a restart: the
        store was removed, or (`detail["replaced"]`) is another one by now. Quick.
        """
        ...

    async def probe(self) -> None:
        """Proves that state can be read and written now. Raises StorageError."""
        ...

    async def ask_release(self, upload_id: str) -> None:
        """Asks whoever holds the upload, in any process, to let go. Best effort, no answer."""
        ...

    def on_release_asked(self, callback: Callable[[str], None]) -> None:
        """`callback(upload_id)` runs on the event loop when another process asked."""
        ...
