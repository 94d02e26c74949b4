"""The port of a session store: the state of uploads, and messages between processes.

It is state, not a lock. Where data is locked through its own descriptor (`Lockable` stores), that
lock decides who may write, and `ask_release` only asks its holder to release it sooner
(invariant 4). Where many machines share the state, a lease decides (`Leases`).

The methods of `Sessions` are of two kinds:

- For anybody: `create`, all that read, `ask_release`, `on_release_asked`, `probe`.
- For the holder of the upload's lock: `advance`, `update`, `delete`. With `Leases` each has a
  counterpart that takes the lease (`Leases.advance`, `change`, `delete_held`), and is used instead.

Atomic: each method by itself. What it changed is durable when it returns (strict), or survives a
killed process (relaxed).
Repeat: every method may be called again after SessionsUnavailable, which leaves open whether the
call was done. `update` with a version is a compare-and-set: repeated after it was done, it raises
WrongState. `create` raises AlreadyExists then.
Order: two calls about one upload, the second made after the first was awaited, apply in that order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from forebay.model import Commit, Lease, Piece, UploadRecord, UploadState

_PAGE = 500


class Sessions(Protocol):
    """Upload state. All methods may raise SessionsUnavailable or another StorageError."""

    async def open(self) -> None:
        """Opens the store, made when it is missing, and joins the messages between processes.

        Called once, on the event loop.
        """
        ...

    async def close(self) -> None:
        """Commits what is pending, and leaves the messages. Idempotent."""
        ...

    def close_now(self) -> None:
        """As `close`, from any thread, after the event loop was closed. Blocks. Idempotent."""
        ...

    async def create(self, record: UploadRecord) -> None:
        """Adds an upload. Raises AlreadyExists; UploadExists when an unfinished upload has its
        binding: of many created at once, in any processes, one is added.
        """
        ...

    async def load(self, upload_id: str) -> UploadRecord:
        """The newest committed state. Raises NotFound."""
        ...

    async def load_bound(self, binding: str) -> UploadRecord:
        """The unfinished upload of that binding, else the one of it that was created last.

        Raises NotFound.
        """
        ...

    async def advance(self, upload_id: str, offset: int, expires_at: float | None) -> UploadRecord:
        """For the holder: records the committed offset of an OPEN upload, and when it expires;
        returns the changed record.

        Raises OffsetMismatch when `offset` is below the recorded one (invariant 1), WrongState
        when the upload is not OPEN, NotFound. Raises `version` by one.
        """
        ...

    async def update(
        self, upload_id: str, *, version: int | None = None, **changes: Any
    ) -> UploadRecord:
        """For the holder: changes fields of a record; returns the changed record.

        With `version`, only if the record still has it, else WrongState. `changes` are fields of
        UploadRecord other than `id` and `version`; an unknown one is a TypeError. Raises NotFound;
        UploadExists as `create` does.
        """
        ...

    async def delete(self, upload_id: str) -> None:
        """For the holder: removes the record. No error when there is none."""
        ...

    async def expired(self, now: float, limit: int) -> Sequence[UploadRecord]:
        """At most `limit` records whose `expires_at` is not after `now`, earliest first; without
        those that `unnotified` lists, which stay until their call was made.
        """
        ...

    async def unnotified(self, before: float, limit: int) -> Sequence[UploadRecord]:
        """At most `limit` records of uploads that have ended and whose `notify_at` is not after
        `before`, earliest first.
        """
        ...

    async def page(
        self, *, state: UploadState | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[UploadRecord]:
        """At most `limit` records in order of id, from after the id `after`; of one state when it
        is given.
        """
        ...

    async def load_many(self, ids: Sequence[str]) -> Sequence[UploadRecord]:
        """The records of at most 1,000 ids, in no order; without those that do not exist."""
        ...

    async def count(self) -> int:
        """How many records there are."""
        ...

    async def in_place(self) -> None:
        """Raises SessionsUnavailable when a restart would not find what is written: the store was
        removed, or (`detail["replaced"]`) another one is in its place. Quick.
        """
        ...

    async def probe(self) -> None:
        """Tests that state can be read and written now. Raises StorageError."""
        ...

    async def ask_release(self, upload_id: str) -> None:
        """Asks the process that holds the upload to release it. Best effort, without an answer."""
        ...

    def on_release_asked(self, callback: Callable[[str], None]) -> None:
        """`callback(upload_id)` runs on the event loop when another process has asked."""
        ...


@runtime_checkable
class Leases(Protocol):
    """Part of a `Sessions` backend that many machines share: who may change an upload.

    Each method is one transaction. Every change compares the fence and the token of the lease with
    those recorded: a node that was slow, or was wrongly taken for dead, changes nothing. All
    methods may raise SessionsUnavailable: whether the call was done is unknown then.

    Test a backend with `leases_of`, not with `isinstance` on a `Sessions`: both protocols have an
    `advance`, and a type checker would take the two for incompatible.
    """

    async def enter(self, record: UploadRecord) -> Lease:
        """`Sessions.create` together with the first lease of the upload.

        Raises AlreadyExists, UploadExists. After SessionsUnavailable: AlreadyExists may mean that
        the first call was done; `acquire` returns the lease then.
        """
        ...

    async def acquire(
        self, upload_id: str, *, steal: bool = False
    ) -> tuple[UploadRecord, Sequence[Piece], Lease]:
        """Takes the upload for this node: fence + 1, a new token, new part numbers; returns its
        state of that moment.

        Raises UploadBusy (`detail["node"]`) while another living node holds it, unless `steal`;
        NotFound. After SessionsUnavailable call it again: a lease whose answer was lost is this
        node's own, and is replaced.
        """
        ...

    async def advance(
        self, lease: Lease, commit: Commit, expires_at: float | None, *, release: bool = False
    ) -> tuple[UploadRecord, Lease]:
        """Records a commit of an OPEN upload: its offset, pieces and place, and when the upload
        expires. Returns the changed record, and the lease with the part numbers that follow. With
        `release` the lease ends in the same step.

        Repeatable: the same commit once more is answered as done. Raises LeaseLost,
        OffsetMismatch, WrongState; nothing was recorded then.
        """
        ...

    async def change(self, lease: Lease, *, unclaim: str = "", **changes: Any) -> UploadRecord:
        """`Sessions.update` under the lease. The claim on the name `unclaim`, if this upload has
        it, ends in the same step (see `Names`).

        Repeatable: it sets fields to given values. Raises LeaseLost, WrongState, UploadExists;
        nothing was recorded then.
        """
        ...

    async def release(self, lease: Lease, next_number: int) -> None:
        """Ends the lease, and wakes nodes that wait for it. Part numbers from `next_number` on were
        not used, and may be given out again.

        Idempotent; no error, and no effect, when the lease was lost.
        """
        ...

    async def delete_held(self, lease: Lease) -> None:
        """`Sessions.delete` under the lease; the upload's pieces go, too.

        Raises LeaseLost, also when it is repeated after it was done.
        """
        ...

    async def pieces(self, upload_id: str) -> Sequence[Piece]:
        """The pieces of an upload that is not written to any more (a finished partial one), in
        order of `start`. Needs no lease. Raises NotFound.
        """
        ...


@runtime_checkable
class Names(Protocol):
    """Part of a `Sessions` backend that many machines share: one publication of a name at a time.

    Both methods are durable when they return, and may be repeated. Raise SessionsUnavailable.
    """

    async def claim(self, name: str, upload_id: str) -> str:
        """Claims `name` for the upload unless it is claimed; the id of the upload that has it."""
        ...

    async def unclaim(self, name: str, upload_id: str) -> None:
        """Ends the claim of that upload on `name`, if it has it."""
        ...


async def each_record(sessions: Sessions, *states: UploadState) -> AsyncIterator[UploadRecord]:
    """All records, or those in the given states; read page by page, in order of state and id.

    Raises StorageError.
    """
    for state in states or (None,):
        after = ""
        while page := await sessions.page(state=state, after=after, limit=_PAGE):
            for record in page:
                yield record
            after = page[-1].id


def leases_of(sessions: object) -> Leases | None:
    """The leases of a `Sessions` backend; None where the lock of the data decides."""
    return sessions if isinstance(sessions, Leases) else None
