"""Cleans up after crashes and abandoned uploads: at a start, from time to time, by `forebay sweep`.

Nothing that a running process works on is touched. The sweep opens an upload as a request does, or
finds it busy; it decides under that access, and only then removes something.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import AsyncIterator, Callable

from forebay.engine.outbox.durable import recover
from forebay.engine.outbox.gone import drop_gone
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.access import UploadAccess
from forebay.engine.uploads.accesses import Accesses
from forebay.engine.uploads.expire import IN_USE, end_expired
from forebay.errors import NotFound, StorageError
from forebay.locks.base import Locks
from forebay.model import UploadRecord, UploadState
from forebay.record import Extra, is_whole
from forebay.sessions.base import Sessions, each_record
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Lockable, Store, Sweepable

logger = logging.getLogger("forebay")

_STEP = 500
"""Uploads looked at in one step."""

Notify = Callable[[UploadRecord], object]


@dataclasses.dataclass(slots=True)
class Swept:
    """How much a sweep did."""

    temporaries: int = 0
    """Temporary files removed."""
    repaired: int = 0
    """Interrupted publications recorded."""
    expired: int = 0
    """Expired uploads removed."""
    orphans: int = 0
    """Data removed that no upload needs."""
    dropped: int = 0
    """Pending calls of `on_complete` given up, as their files are gone."""
    busy: int = 0
    """Uploads left alone because a process works on them."""

    def summary(self) -> str:
        """One line of text for the log."""
        return (
            f"removed {self.temporaries} temporary files, {self.expired} expired uploads and "
            f"{self.orphans} pieces of data without an upload; repaired {self.repaired} "
            f"interrupted completions; left {self.busy} that are being written"
            + (f"; gave up on {self.dropped} callbacks of files that are gone" * bool(self.dropped))
        )


class Sweeper:
    """Sweeps one store and its upload state, in bounded steps.

    Args:
        sessions: the open state; None for a store without resumable uploads.
        notify: is given each upload that is found to be published, to call `on_complete`. Without
            it a server makes the call later: the record says that it is pending.
        accesses: those of the engine, when it runs in this process.
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
        """One complete sweep. `now`: seconds since the epoch, by `CLOCK`. Raises StorageError."""
        swept = await self.repair()
        await self.clean(now, swept)
        return swept

    async def repair(self) -> Swept:
        """What has to be done before serving: temporary files, and interrupted publications. Quick,
        however many unfinished uploads there are. Raises StorageError.
        """
        swept, accesses = Swept(), self._accesses
        if isinstance(self._store, Sweepable):
            swept.temporaries = await self._workers.run(self._store.sweep_temporaries)
        if accesses is not None:
            async for record in each_record(accesses.sessions, UploadState.COMPLETING):
                await self._recover(accesses, record, swept)
        return swept

    async def clean(self, now: float, swept: Swept) -> None:
        """The rest: expired uploads, calls for files that are gone, and data that no upload needs;
        while uploads are served. Raises StorageError.
        """
        accesses = self._accesses
        if accesses is None:
            return
        async for record in each_record(accesses.sessions, UploadState.COMPLETING):
            if is_whole(record):  # its request is gone, and no other one asks for it
                await self._recover(accesses, record, swept)
        await self._expire(accesses, now, swept)
        swept.dropped = await drop_gone(
            self._store, accesses.sessions, self._workers, self._locks, now
        )
        if isinstance(self._store, Sweepable):
            await self._remove_orphans(self._store, accesses, swept)

    @contextlib.asynccontextmanager
    async def _idle(self, accesses: Accesses, upload_id: str) -> AsyncIterator[UploadAccess]:
        """As `Accesses.open_idle`; a pending callback is called afterwards."""
        async with accesses.open_idle(upload_id) as access:
            yield access
            record = access.record
        self._notify(record)

    async def _recover(self, accesses: Accesses, record: UploadRecord, swept: Swept) -> None:
        """Records a publication that a process died in, if there was one."""
        try:
            if is_whole(record):
                found = await recover(
                    self._store, accesses.sessions, self._workers, self._locks, record.id
                )
                if found is not None:
                    swept.repaired += 1
                    self._notify(found)
                return
            async with self._idle(accesses, record.id) as access:
                swept.repaired += access.record.state is UploadState.COMPLETE
        except (*IN_USE, NotFound):
            pass
        except StorageError as error:  # others are recovered all the same
            logger.warning("upload %s cannot be looked at: %s", record.id, error)

    async def _expire(self, accesses: Accesses, now: float, swept: Swept) -> None:
        left: set[str] = set()
        while True:
            page = await accesses.sessions.expired(now, _STEP + len(left))
            fresh = [record for record in page if record.id not in left]
            if not fresh:
                return
            for record in fresh:
                if not await self._end(accesses, record.id, now, swept):
                    left.add(record.id)  # the next page has it again

    async def _end(self, accesses: Accesses, upload_id: str, now: float, swept: Swept) -> bool:
        try:
            record = await end_expired(accesses, upload_id, now)
            if record is not None:
                self._notify(record)
        except IN_USE:
            swept.busy += 1
            return False
        except StorageError as error:
            logger.warning("the expired upload %s cannot be removed: %s", upload_id, error)
            return False
        if record is None or is_unnotified(record):
            return False
        swept.expired += 1
        return True

    async def _remove_orphans(self, store: Sweepable, accesses: Accesses, swept: Swept) -> None:
        run, sessions = self._workers.run, accesses.sessions
        ids = store.remains()
        while step := await run(lambda: list(itertools.islice(ids, _STEP))):
            # One query for the uploads that are alive; only others are opened.
            alive = {r.id for r in await sessions.load_many(step) if not _may_have_ended(r)}
            for upload_id in step:
                if upload_id not in alive:
                    await self._remove_orphan(store, accesses, upload_id, swept)

    async def _remove_orphan(
        self, store: Sweepable, accesses: Accesses, upload_id: str, swept: Swept
    ) -> None:
        try:
            try:
                removed = await self._remove_unneeded(accesses, upload_id)
            except NotFound:
                removed = await self._remove_unrecorded(store, accesses.sessions, upload_id)
        except IN_USE:
            swept.busy += 1
        except StorageError as error:  # other data is removed all the same
            logger.warning("%s in uploads/ cannot be looked at: %s", upload_id, error)
        else:
            swept.orphans += removed

    async def _remove_unneeded(self, accesses: Accesses, upload_id: str) -> bool:
        """Removes the data of an upload that needs none; whether it did. Raises NotFound."""
        async with self._idle(accesses, upload_id) as access:
            if _needs_data(access.record):
                return False
            await access.drop_data()
        return True

    async def _remove_unrecorded(
        self, store: Sweepable, sessions: Sessions, upload_id: str
    ) -> bool:
        """Removes data without a record; whether it did."""
        run = self._workers.run
        if not isinstance(store, Lockable):  # with leases the record is always made first
            if await sessions.load_many([upload_id]):
                return False
            await run(store.remove, upload_id)
            return True
        try:
            staged = await run(store.claim, upload_id)
        except NotFound:
            return False
        try:
            # Decided under the lock: a creation holds the data until the record is there.
            if await sessions.load_many([upload_id]):
                return False
            await run(staged.discard)
        finally:
            await run(staged.close)
        return True


def _may_have_ended(record: UploadRecord) -> bool:
    """Whether its data may be unneeded: a COMPLETING upload may have been published already."""
    return record.state is UploadState.COMPLETING or not _needs_data(record)


def _needs_data(record: UploadRecord) -> bool:
    if record.state is UploadState.COMPLETE:
        try:
            return Extra.of(record).partial  # final uploads may be made of it until it expires
        except StorageError:  # the record is damaged
            return True
    return record.is_unfinished
