"""Cleaning up after crashes and abandoned uploads, at start-up and by `forebay sweep`.

Nothing that a living process holds is touched: data is locked by its writer, so the sweep
locks it first, then looks whether it is still wanted, and only then removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import AsyncIterator, Callable

from forebay.engine.outbox.durable import recover
from forebay.engine.outbox.notifier import drop_gone
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.access import UploadAccess
from forebay.engine.uploads.accesses import Accesses
from forebay.engine.uploads.expire import end_expired
from forebay.errors import NotFound, StorageError, UploadBusy, WrongState
from forebay.locks.base import Locks
from forebay.model import UploadRecord, UploadState
from forebay.record import Extra, is_whole
from forebay.sessions.base import Sessions
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Store

logger = logging.getLogger("forebay")

_STEP = 500

Notify = Callable[[UploadRecord], object]


@dataclasses.dataclass(slots=True)
class Swept:
    """What a sweep did, in numbers of things."""

    temporaries: int = 0
    repaired: int = 0
    expired: int = 0
    orphans: int = 0
    dropped: int = 0
    busy: int = 0

    def summary(self) -> str:
        return (
            f"removed {self.temporaries} temporary files, {self.expired} expired uploads and "
            f"{self.orphans} pieces of data without an upload; repaired {self.repaired} "
            f"interrupted completions; left {self.busy} that are being written"
            + (f"; gave up on {self.dropped} callbacks of files that are gone" * bool(self.dropped))
        )


class Sweeper:
    """Sweeps one store and its sessions, in bounded steps.

    `notify` is given each upload whose file is found to be published, so that a callback is
    called. Without it that is left to a server: the record says so. `accesses`: those of the engine
    whose uploads they are, in its process.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions | None,
        workers: Workers,
        locks: Locks,
        notify: Notify = lambda _: None,
        accesses: Accesses | None = None,
    ) -> None:
        if sessions is not None:
            accesses = accesses or Accesses(store, sessions, workers)
        self._store = store
        self._accesses = accesses
        self._workers = workers
        self._locks = locks
        self._notify = notify

    async def run(self, now: float) -> Swept:
        """One whole sweep. `now`: seconds since the epoch."""
        swept = await self.repair()
        await self.clean(now, swept)
        return swept

    async def repair(self) -> Swept:
        """What must be right before anybody is served; quick however many uploads live."""
        swept = Swept(temporaries=await self._workers.run(self._store.sweep_temporaries))
        if self._accesses is not None:
            await self._recover(self._accesses, swept)
        return swept

    async def clean(self, now: float, swept: Swept) -> None:
        """Removes what has expired, and data that belongs to no upload; beside the serving."""
        accesses = self._accesses
        if accesses is not None:
            await self._recover_whole(accesses.sessions, swept)
            await self._expire(accesses, now, swept)
            swept.dropped = await drop_gone(
                self._store, accesses.sessions, self._workers, self._locks, now
            )
            await self._remove_orphans(accesses, swept)

    @contextlib.asynccontextmanager
    async def _idle(self, accesses: Accesses, upload_id: str) -> AsyncIterator[UploadAccess]:
        """As `Accesses.open_idle`; after it a pending callback is called."""
        async with accesses.open_idle(upload_id) as access:
            yield access
            record = access.record
        self._notify(record)

    async def _recover(self, accesses: Accesses, swept: Swept) -> None:
        after = ""
        while page := await accesses.sessions.page(
            state=UploadState.COMPLETING, after=after, limit=_STEP
        ):
            for record in page:
                if is_whole(record):
                    await self._recover_one(accesses.sessions, record, swept)
                    continue
                try:
                    async with self._idle(accesses, record.id) as access:
                        swept.repaired += access.record.state is UploadState.COMPLETE
                except (UploadBusy, NotFound, WrongState):  # somebody is at it, or it went
                    pass
                except StorageError as error:  # others can be served all the same
                    logger.warning("upload %s cannot be looked at: %s", record.id, error)
            after = page[-1].id

    async def _recover_whole(self, sessions: Sessions, swept: Swept) -> None:
        """Whole uploads whose process died when they were published: without data of their own."""
        after = ""
        while page := await sessions.page(state=UploadState.COMPLETING, after=after, limit=_STEP):
            for record in page:
                if is_whole(record):
                    await self._recover_one(sessions, record, swept)
            after = page[-1].id

    async def _recover_one(self, sessions: Sessions, record: UploadRecord, swept: Swept) -> None:
        try:
            recovered = await recover(self._store, sessions, self._workers, self._locks, record.id)
        except StorageError as error:  # others can be served all the same
            logger.warning("upload %s cannot be looked at: %s", record.id, error)
            return
        if recovered is not None:
            swept.repaired += 1
            self._notify(recovered)

    async def _expire(self, accesses: Accesses, now: float, swept: Swept) -> None:
        left: set[str] = set()
        while True:
            page = await accesses.sessions.expired(now, _STEP + len(left))
            fresh = [record for record in page if record.id not in left]
            if not fresh:
                return
            for record in fresh:
                if not await self._end(accesses, record.id, now, swept):
                    left.add(record.id)  # asked for again, it would come again

    async def _end(self, accesses: Accesses, upload_id: str, now: float, swept: Swept) -> bool:
        try:
            record = await end_expired(accesses, upload_id, now)
        except UploadBusy:  # never in the middle of an append, nor while a final is made of it
            swept.busy += 1
            return False
        except StorageError as error:
            logger.warning("the expired upload %s cannot be removed: %s", upload_id, error)
            return False
        if record is None:
            return False
        self._notify(record)
        if is_unnotified(record):
            return False
        swept.expired += 1
        return True

    async def _remove_orphans(self, accesses: Accesses, swept: Swept) -> None:
        run, sessions = self._workers.run, accesses.sessions
        ids = self._store.remains()
        while step := await run(lambda: list(itertools.islice(ids, _STEP))):
            # Only what looks unwanted is looked at closely: living uploads cost a row each.
            wanted = {r.id for r in await sessions.load_many(step) if not _may_have_ended(r)}
            for upload_id in step:
                if upload_id not in wanted:
                    await self._remove_orphan(accesses, upload_id, swept)

    async def _remove_orphan(self, accesses: Accesses, upload_id: str, swept: Swept) -> None:
        try:
            try:
                removed = await self._remove_unwanted(accesses, upload_id)
            except NotFound:
                removed = await self._remove_unrecorded(accesses.sessions, upload_id)
        except UploadBusy:
            swept.busy += 1
        except StorageError as error:  # one that nobody can open must not stop the sweep
            logger.warning("%s in uploads/ cannot be looked at: %s", upload_id, error)
        else:
            swept.orphans += removed

    async def _remove_unwanted(self, accesses: Accesses, upload_id: str) -> bool:
        """Data of an upload that needs it no more; whether there was any. Raises NotFound."""
        async with self._idle(accesses, upload_id) as access:
            record = access.record
            if _needs_data(record):
                return False
            await access.drop_data()
        return True

    async def _remove_unrecorded(self, sessions: Sessions, upload_id: str) -> bool:
        """Data without a record; whether there was any."""
        run = self._workers.run
        try:
            staged = await run(self._store.claim, upload_id)
        except NotFound:
            return False
        try:
            # Judged under the lock: a creation holds the data until the record is there, so data
            # without a record now is data that nobody will ask for.
            if await sessions.load_many([upload_id]):
                return False
            await run(staged.discard)
        finally:
            await run(staged.close)
        return True


def _may_have_ended(record: UploadRecord) -> bool:
    """Also one whose request was cancelled, or whose process died, just when it was published."""
    return record.state is UploadState.COMPLETING or not _needs_data(record)


def _needs_data(record: UploadRecord) -> bool:
    if record.state is UploadState.COMPLETE:
        return Extra.of(record).partial  # until it expires: finals may be made of it
    return record.is_unfinished
