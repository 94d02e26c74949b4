"""Cleaning up after crashes and abandoned uploads, at start-up and by `forebay sweep`.

Nothing that a living process holds is touched: data is locked by its writer, so the sweep
locks it first, then looks whether it is still wanted, and only then removes it.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable

from forebay.engine.outbox.durable import recover
from forebay.engine.outbox.notifier import drop_gone
from forebay.engine.transfer.workers import Workers
from forebay.engine.uploads.concatenation import is_partial, parts_of, release_part
from forebay.engine.uploads.outcome import is_published, is_recorded
from forebay.engine.uploads.publish import Completion
from forebay.errors import NotFound, StorageError, UploadBusy
from forebay.locks.base import Locks
from forebay.model import UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Staged, Store

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
    called. Without it that is left to a server: the record says so.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions | None,
        workers: Workers,
        locks: Locks,
        notify: Notify = lambda _: None,
    ) -> None:
        self._store = store
        self._sessions = sessions
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
        if self._sessions is not None:
            await self._repair(self._sessions, swept)
        return swept

    async def clean(self, now: float, swept: Swept) -> None:
        """Removes what has expired, and data that belongs to no upload; beside the serving."""
        if self._sessions is not None:
            await self._recover_whole(self._sessions, swept)
            await self._expire(self._sessions, now, swept)
            swept.dropped = await drop_gone(
                self._store, self._sessions, self._workers, self._locks, now
            )
            await self._remove_orphans(self._sessions, swept)

    async def _repair(self, sessions: Sessions, swept: Swept) -> None:
        completion = self._completion(sessions)
        after = ""
        while page := await sessions.page(state=UploadState.COMPLETING, after=after, limit=_STEP):
            for record in page:
                if is_recorded(record):
                    await self._recover_one(sessions, record, swept)
                    continue
                try:
                    repaired = await completion.repair(record)
                except StorageError as error:  # others can be served all the same
                    logger.warning("upload %s cannot be looked at: %s", record.id, error)
                else:
                    swept.repaired += repaired.state is UploadState.COMPLETE
            after = page[-1].id

    async def _recover_whole(self, sessions: Sessions, swept: Swept) -> None:
        """Whole uploads whose process died when they were published: without data of their own."""
        after = ""
        while page := await sessions.page(state=UploadState.COMPLETING, after=after, limit=_STEP):
            for record in page:
                if is_recorded(record):
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

    def _completion(self, sessions: Sessions) -> Completion:
        return Completion(self._store, sessions, self._workers)

    async def _expire(self, sessions: Sessions, now: float, swept: Swept) -> None:
        kept: set[str] = set()
        while True:
            page = await sessions.expired(now, _STEP + len(kept))
            fresh = [record for record in page if record.id not in kept]
            if not fresh:
                return
            for record in fresh:
                if not await self._end(sessions, record.id, now, swept):
                    kept.add(record.id)  # asked for again, it would come again

    async def end_empty(self, before: float) -> int:
        """Ends some uploads of which no byte has come, and that were made before that time, the
        first to expire first; how many.
        """
        assert self._sessions is not None
        swept = Swept()
        for record in await self._sessions.expired(math.inf, _STEP):
            unused = record.state is UploadState.OPEN and not record.offset
            if unused and record.created_at < before and not parts_of(record):
                # Under its lock it has to expire as it did: with a byte it would later.
                assert record.expires_at is not None
                await self._end(self._sessions, record.id, record.expires_at, swept)
        return swept.expired

    async def _end(self, sessions: Sessions, upload_id: str, now: float, swept: Swept) -> bool:
        run = self._workers.run
        try:
            staged = await run(self._store.claim, upload_id)
        except NotFound:  # it has no data (any more)
            staged = None
        except UploadBusy:  # never in the middle of an append
            swept.busy += 1
            return False
        except StorageError as error:
            logger.warning("the expired upload %s cannot be removed: %s", upload_id, error)
            return False
        try:
            # Asked again under the lock: its client may have come back since the page was read.
            expired = await self._expired(sessions, upload_id, now)
            if expired is None:
                return False
            # The crash may be longer ago than that, and yet no callback was called.
            if staged is not None:
                expired = await self._settle(sessions, expired, staged)
            if is_unnotified(expired):
                return False
            await sessions.delete(upload_id)
            if staged is not None:
                await run(staged.discard)
        except StorageError as error:
            logger.warning("the expired upload %s cannot be removed: %s", upload_id, error)
            return False
        finally:
            if staged is not None:
                await run(staged.close)
        swept.expired += 1
        return True

    async def _settle(
        self, sessions: Sessions, record: UploadRecord, staged: Staged
    ) -> UploadRecord:
        record = await self._completion(sessions).settle(record, staged)
        self._notify(record)
        return record

    async def _expired(self, sessions: Sessions, upload_id: str, now: float) -> UploadRecord | None:
        """The record, if it is to end now."""
        try:
            record = await sessions.load(upload_id)
            if record.expires_at is None or record.expires_at > now or is_recorded(record):
                return None  # a whole upload's record goes when its callback was called
            if is_partial(record):
                await release_part(sessions, record)
        except (NotFound, UploadBusy):  # it went; or a final upload is being made of it
            return None
        return record

    async def _remove_orphans(self, sessions: Sessions, swept: Swept) -> None:
        run = self._workers.run
        ids = self._store.remains()
        while step := await run(lambda: list(itertools.islice(ids, _STEP))):
            # Only what looks unwanted is looked at closely: living uploads cost a row each.
            wanted = {r.id for r in await sessions.load_many(step) if not _may_have_ended(r)}
            for upload_id in step:
                if upload_id not in wanted:
                    await self._remove_orphan(sessions, upload_id, swept)

    async def _remove_orphan(self, sessions: Sessions, upload_id: str, swept: Swept) -> None:
        try:
            staged = await self._workers.run(self._store.claim, upload_id)
        except UploadBusy:
            swept.busy += 1
            return
        except NotFound:
            return
        except StorageError as error:  # one that nobody can open must not stop the sweep
            logger.warning("%s in uploads/ cannot be looked at: %s", upload_id, error)
            return
        try:
            # Looked at again under the lock: whoever creates an upload holds it until the record
            # is there, so data without a record now is data that nobody will ask for.
            records = await sessions.load_many([upload_id])
            wanted = any([await self._is_wanted(sessions, record, staged) for record in records])
            if not wanted:
                await self._workers.run(staged.discard)
        except StorageError as error:
            logger.warning("%s in uploads/ cannot be looked at: %s", upload_id, error)
            return
        finally:
            await self._workers.run(staged.close)
        swept.orphans += not wanted

    async def _is_wanted(self, sessions: Sessions, record: UploadRecord, staged: Staged) -> bool:
        """Whether data that we hold has to stay; what can be ended by us is."""
        record = await self._settle(sessions, record, staged)
        if is_published(record):
            return False
        return _is_wanted(record)


def _may_have_ended(record: UploadRecord) -> bool:
    """Also one whose request was cancelled, or whose process died, just when it was published."""
    return record.state is UploadState.COMPLETING or not _is_wanted(record)


def _is_wanted(record: UploadRecord) -> bool:
    if record.state is UploadState.COMPLETE:
        return is_partial(record)  # until it expires: finals may be made of it
    return record.is_unfinished
