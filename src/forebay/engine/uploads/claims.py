"""The exclusive right to change one upload: a lock of the local data, or a lease in shared state.

Every change of an upload's record goes through the claim of whoever holds the upload, so that no
other writer, in any process or on any machine, changes it at the same time (invariant 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from forebay.errors import NotFound, StorageError, StorageFailed, UploadError
from forebay.model import Commit, Lease, UploadRecord
from forebay.sessions.base import Leases, Sessions
from forebay.stores.base import Lockable, Resumable, Staged

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

T = TypeVar("T")

logger = logging.getLogger("forebay")


@dataclasses.dataclass(slots=True)
class Claim:
    """One upload that is held: its record as it is now, and its data.

    `staged` is None where there is no data (any more).
    """

    record: UploadRecord
    staged: Staged | None
    lease: Lease | None = None

    @property
    def data(self) -> Staged:
        """The data, where the caller knows that it is there."""
        assert self.staged is not None
        return self.staged


class Claims(Protocol):
    """Makes and uses claims. Errors of the store and the session store pass through."""

    async def create(self, record: UploadRecord, size: int, *, sealable: bool) -> Claim:
        """A new upload, with room for `size` bytes. Raises UploadExists, DiskFull, TooLarge."""
        ...

    async def acquire(self, upload_id: str, *, steal: bool = False) -> Claim:
        """Raises UploadBusy while another writer holds it (with `steal` a lease is taken from
        it), NotFound when there is no record.
        """
        ...

    async def advance(self, claim: Claim, commit: Commit, expires_at: float | None) -> None:
        """Records a commit and the new end of life, and tells the data so. Raises LeaseLost,
        OffsetMismatch, WrongState.
        """
        ...

    async def change(self, claim: Claim, **changes: Any) -> None:
        """Changes fields of the record. Raises LeaseLost, WrongState (also when it was changed
        meanwhile), NotFound.
        """
        ...

    async def reload(self, claim: Claim) -> None:
        """Reads the record again. Of an upload that has ended, others may change the pending
        callback and which finals use it. Raises NotFound.
        """
        ...

    async def delete(self, claim: Claim) -> None:
        """Removes the record. Raises LeaseLost. No error when there is none."""
        ...

    async def release(self, claim: Claim) -> None:
        """Closes the data and gives the right back. Idempotent. A lease that cannot be given back
        is logged: this process can take it again.
        """
        ...


class LocalClaims:
    """Claims by the lock of the data's own descriptor: it ends when its process dies."""

    def __init__(self, store: Lockable, sessions: Sessions, workers: Workers) -> None:
        self._store = store
        self._sessions = sessions
        self._run = workers.run

    async def create(self, record: UploadRecord, size: int, *, sealable: bool) -> Claim:
        staged = await self._run(
            lambda: self._store.begin(record, None, sealable=sealable), undo=_discard
        )
        try:
            if size:
                await self._run(staged.reserve, size)
            await self._sessions.create(record)
        except BaseException:
            await self._run(staged.discard)
            raise
        return Claim(record, staged)

    async def acquire(self, upload_id: str, *, steal: bool = False) -> Claim:
        staged = await self._lock(upload_id)
        try:
            return Claim(await self._sessions.load(upload_id), staged)
        except BaseException:
            if staged is not None:
                await self._run(staged.close)
            raise

    async def _lock(self, upload_id: str) -> Staged | None:
        try:
            return await self._run(self._store.claim, upload_id, undo=_close)
        except NotFound:
            return None

    async def advance(self, claim: Claim, commit: Commit, expires_at: float | None) -> None:
        claim.record = await self._sessions.advance(claim.record.id, commit.offset, expires_at)
        await recorded(self._run, claim, commit)

    async def change(self, claim: Claim, **changes: Any) -> None:
        record = claim.record
        claim.record = await self._sessions.update(record.id, version=record.version, **changes)

    async def reload(self, claim: Claim) -> None:
        claim.record = await self._sessions.load(claim.record.id)

    async def delete(self, claim: Claim) -> None:
        await self._sessions.delete(claim.record.id)

    async def release(self, claim: Claim) -> None:
        if claim.staged is not None:
            await self._run(claim.staged.close)


class LeasedClaims:
    """Claims by leases of a session store that several machines share."""

    def __init__(
        self, store: Resumable, sessions: Sessions, leases: Leases, workers: Workers
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._leases = leases
        self._run = workers.run

    async def create(self, record: UploadRecord, size: int, *, sealable: bool) -> Claim:
        lease = await self._leases.enter(record)
        claim = Claim(record, None, lease)
        try:
            claim.staged = staged = await self._run(
                lambda: self._store.begin(record, lease, sealable=sealable), undo=_discard
            )
            if size:
                await self._run(staged.reserve, size)
        except BaseException:
            if claim.staged is not None:
                await self._run(claim.staged.discard)
            with contextlib.suppress(UploadError):  # then it stays until it expires
                await self._leases.delete_held(lease)
            raise
        return claim

    async def acquire(self, upload_id: str, *, steal: bool = False) -> Claim:
        acquiring = asyncio.ensure_future(self._leases.acquire(upload_id, steal=steal))
        try:
            record, pieces, lease = await ended(acquiring)
        except asyncio.CancelledError:
            if not acquiring.cancelled() and acquiring.exception() is None:
                await self.release(Claim(acquiring.result()[0], None, acquiring.result()[2]))
            raise
        claim = Claim(record, None, lease)
        try:
            claim.staged = await self._run(self._store.resume, record, pieces, lease, undo=_close)
        except (NotFound, StorageFailed):
            pass  # the data is not there, which is for the caller to judge
        except BaseException:
            await self.release(claim)
            raise
        return claim

    async def advance(self, claim: Claim, commit: Commit, expires_at: float | None) -> None:
        assert claim.lease is not None
        claim.record, claim.lease = await self._leases.advance(claim.lease, commit, expires_at)
        await recorded(self._run, claim, commit)

    async def change(self, claim: Claim, **changes: Any) -> None:
        assert claim.lease is not None
        claim.record = await self._leases.change(claim.lease, **changes)

    async def reload(self, claim: Claim) -> None:
        claim.record = await self._sessions.load(claim.record.id)

    async def delete(self, claim: Claim) -> None:
        if claim.lease is not None:
            await self._leases.delete_held(claim.lease)
            claim.lease = None

    async def release(self, claim: Claim) -> None:
        await ended(self._release(claim))

    async def _release(self, claim: Claim) -> None:
        staged, lease, claim.lease = claim.staged, claim.lease, None
        next_number = await self._run(_close_counted, staged) if staged is not None else 0
        if lease is None:
            return
        try:
            await self._leases.release(lease, max(next_number, lease.numbers.start))
        except UploadError as error:
            logger.warning("the lease of upload %s was not released: %s", lease.upload_id, error)


async def ended(call: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """What `call` returns. It is waited for also when the waiting task is cancelled."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


async def recorded(run: Any, claim: Claim, commit: Commit) -> None:
    """Tells the data that a commit of it is recorded."""
    staged = claim.data
    if staged.commit_waits:
        await run(staged.recorded, commit, claim.lease)
    else:
        staged.recorded(commit, claim.lease)


def _discard(staged: Staged) -> None:
    staged.discard()


def _close_counted(staged: Staged) -> int:
    """Closes it. Part numbers below the result may be used by requests that are not recorded, and
    must not be given out again.
    """
    try:
        return staged.commit(flush=False).next_number
    except StorageError:
        return sys.maxsize  # nobody knows: none is given back
    finally:
        staged.close()


def _close(staged: Staged) -> None:
    staged.close()
