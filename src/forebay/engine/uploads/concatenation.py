"""Final uploads: their data is made of that of partial ones (tus, extension concatenation).

A final upload is an upload whose bytes come from parts and not from requests: it is held,
committed, finished and cleaned up like any other. Copying goes on without the request that
asked for it, and the next request for the upload starts it again where a crash ended it.

Parts stay as they are, for other finals, until they expire.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.engine.uploads.commits import Commits, expiry
from forebay.engine.uploads.parts import total, use_part
from forebay.engine.uploads.waiting import WaitingFinals
from forebay.errors import (
    Interrupted,
    NotFound,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import UNFINISHED, Commit, MiB, UploadRecord, UploadState
from forebay.record import Extra
from forebay.sessions.base import each_record, leases_of
from forebay.stores.base import Reader, Resumable

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.notifier import Notifier
    from forebay.engine.uploads.access import UploadAccess
    from forebay.engine.uploads.accesses import Accesses
    from forebay.engine.uploads.finish import Finisher
    from forebay.sessions.base import Sessions

logger = logging.getLogger("forebay")

STEP = 64 * MiB
"""Bytes a worker thread copies at a time: a stop is looked at between two steps."""
SOON = 2.0
"""Seconds a request waits for a final upload to be made; then it goes on by itself."""
_PRUNE_FROM = 1024
"""Final uploads that wait for parts, from which on those that have ended are looked for."""
_STEP = 500


class _Stop:
    """Ends a copy between two steps."""

    def __init__(self) -> None:
        self.error: UploadError | None = None

    def stop(self, error: UploadError) -> None:
        self.error = self.error or error


class Concatenation:
    """Makes the final uploads of one process. Used on the event loop only."""

    def __init__(
        self,
        engine: EngineContext,
        sessions: Sessions,
        accesses: Accesses,
        finisher: Finisher,
        notifier: Notifier,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._accesses = accesses
        self._finisher = finisher
        self._notifier = notifier
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finding: asyncio.Task[None] | None = None
        self._waiting = WaitingFinals()
        self._prune_at = _PRUNE_FROM
        self._again: set[str] = set()
        """Those that are being made, and of which a part has ended meanwhile."""

    # --- from requests ---------------------------------------------------------------------------

    async def begin(
        self, record: UploadRecord, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Starts to make a final upload that has just been created; its record soon after.

        Raises NotFound, and removes it again, when a part went meanwhile.
        """
        if len(self._waiting) >= self._prune_at:
            await self._prune()
        try:
            await self._parts(record)
        except BaseException:
            self._waiting.forget(record.id)
            with contextlib.suppress(UploadError):  # then it stays until it expires
                async with self._accesses.open_idle(record.id) as access:
                    await access.remove()
            raise
        return await self.standing(record, context)

    async def standing(
        self, record: UploadRecord, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """A final upload as it is in a moment; it is being made from now on, if it was not.
        `context`: of the request that asks.

        Raises what the making ran into.
        """
        if record.is_unfinished:
            task = self.resume(record.id, context)
            await asyncio.wait([task], timeout=SOON)
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
            record = await self._sessions.load(record.id)
        return record

    def part_ended(self, upload_id: str) -> None:
        """An upload is complete, or gone. The final uploads that wait for it as their part go on;
        no part wakes it any more, should it be one of those.
        """
        self._waiting.forget(upload_id)
        for final_id in self._waiting.part_ended(upload_id):
            if final_id in self._tasks:
                self._again.add(final_id)
            else:
                self.resume(final_id)

    async def _prune(self) -> None:
        """Forgets final uploads that ended in a sweep, or in another process."""
        finals = self._waiting.finals
        for start in range(0, len(finals), _STEP):
            step = finals[start : start + _STEP]
            records = await self._sessions.load_many(step)
            unfinished = {record.id for record in records if record.is_unfinished}
            for final_id in step:
                if final_id not in unfinished:
                    self._waiting.forget(final_id)
        self._prune_at = max(_PRUNE_FROM, 2 * len(self._waiting))

    # --- in the background -----------------------------------------------------------------------

    def resume(
        self, upload_id: str, context: Mapping[str, Any] | None = None
    ) -> asyncio.Task[None]:
        """Goes on with a final upload, unless some process is at it already."""
        task = self._tasks.get(upload_id)
        if task is None or task.done():
            task = asyncio.ensure_future(self._make(upload_id, context))
            self._tasks[upload_id] = task
            task.add_done_callback(lambda done: self._ended(upload_id, done))
        return task

    def _ended(self, upload_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(upload_id) is task:
            del self._tasks[upload_id]
        again = upload_id in self._again
        self._again.discard(upload_id)
        if again and not task.cancelled():
            self.resume(upload_id)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Interrupted):  # somebody cancels it
            return
        known = isinstance(error, UploadError)
        logger.log(
            logging.WARNING if known else logging.ERROR,
            "upload %s could not be made of its parts: %s",
            upload_id,
            error,
            exc_info=None if known else error,
        )

    def resume_all(self) -> None:
        """After a start: goes on with every final upload that is not finished. Behind the serving:
        to find them, all uploads that are not finished have to be looked at.
        """
        if self._finding is None:
            self._finding = asyncio.ensure_future(self._resume_all())
            self._finding.add_done_callback(_log_failure)

    async def _resume_all(self) -> None:
        async for record in each_record(self._sessions, *UNFINISHED):
            if Extra.of(record).parts:
                self.resume(record.id)

    async def close(self) -> None:
        """Stops all copies; they can be gone on with."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        while tasks := list(self._tasks.values()):  # one that has just ended may be gone on with
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, upload_id: str, context: Mapping[str, Any] | None) -> None:
        """Copies what there is; finishes the upload when that was all."""
        stop = _Stop()
        with contextlib.suppress(UploadBusy, NotFound):  # another process is at it, or it went
            async with self._accesses.open_idle(upload_id) as access:
                if not access.has_data:
                    self._waiting.forget(upload_id)
                    return
                access.lock.read_from(stop, least=0)
                if access.record.state is UploadState.OPEN:
                    await self._fill(access, stop)
                record = access.record
                if record.is_unfinished and record.offset == record.length:
                    await self._finisher.finish(access, context)
                elif record.state is UploadState.OPEN:  # asking for it extends its life
                    lives = expiry(self._engine.settings.retention)
                    await access.advance(Commit(record.offset), lives)
                record = access.record
            await self._notifier.notify_if_new(record, context)

    async def _fill(self, access: UploadAccess, stop: _Stop) -> None:
        """Takes all parts that are complete, in their order. Raises what ended the upload."""
        try:
            parts = await self._parts(access.record)
            await self._record_length(access, parts)
            if access.staged.offset < access.record.offset:
                raise StorageFailed("The data of this upload was lost; start a new one.")
            await access.rollback()
            if access.record.length:
                await self._engine.workers.run(access.staged.reserve, access.record.length)
            await self._copy(access, parts, stop)
        except (NotFound, TooLarge, StorageFailed) as error:
            ended: UploadError = error
            if isinstance(error, NotFound):
                ended = WrongState("A part of this upload was removed before it was finished.")
            self._waiting.forget(access.record.id)
            await access.fail(ended)
            raise ended from error
        except BaseException:
            if access.staged.dead:
                await access.fail(SyncFailed())
            raise

    async def _record_length(self, access: UploadAccess, parts: Sequence[UploadRecord]) -> None:
        """Records the length once all parts have one. Raises TooLarge."""
        length = total(parts)
        known = sum(part.length if part.length is not None else part.offset for part in parts)
        limit = Extra.of(access.record).limit
        if limit is not None and known > limit:
            raise TooLarge(f"The parts have {known} bytes; at most {limit} are taken.", limit=limit)
        if length is not None and access.record.length is None:
            await access.change(length=length)

    async def _copy(self, access: UploadAccess, parts: Sequence[UploadRecord], stop: _Stop) -> None:
        commits = Commits(self._engine, access)
        start = 0
        try:
            for part in parts:
                if part.state is not UploadState.COMPLETE:
                    break  # goes on when it ends
                end = start + part.offset
                if end > access.staged.offset:
                    await self._copy_part(part, access, start, end, stop, commits)
                start = end
        except UploadError:
            await commits.wait()
            with contextlib.suppress(UploadError):  # the first error is the one to tell
                await commits.finish()
            raise
        except BaseException:
            await commits.wait()
            raise
        await commits.finish()

    async def _copy_part(
        self,
        part: UploadRecord,
        access: UploadAccess,
        start: int,
        end: int,
        stop: _Stop,
        commits: Commits,
    ) -> None:
        """Appends what is missing of the part whose bytes are those from `start` to `end`."""
        run, staged = self._engine.workers.run, access.staged
        leases = leases_of(self._sessions)
        pieces = () if leases is None else await leases.pieces(part.id)
        store = self._engine.store
        assert isinstance(store, Resumable)
        source = await run(store.open_staged, part, pieces, undo=_close)
        try:
            while staged.offset < end:
                if stop.error is not None:
                    raise stop.error
                step = min(STEP, end - staged.offset)
                await run(staged.append_from, source, staged.offset - start, step)
                commits.after_turn()
        finally:
            await run(source.close)

    # --- parts -----------------------------------------------------------------------------------

    async def _parts(self, record: UploadRecord) -> list[UploadRecord]:
        """Its parts in order; the complete ones stay for it from now on. Raises NotFound."""
        ids = Extra.of(record).parts
        uses = collections.Counter(ids)
        found = {part_id: await self._use(part_id, record.id, uses[part_id]) for part_id in uses}
        return [found[part_id] for part_id in ids]

    async def _use(self, part_id: str, final_id: str, uses: int) -> UploadRecord:
        self._waiting.add(part_id, final_id)  # before it is looked at: it may end just then
        try:
            part = await use_part(self._sessions, part_id, final_id, uses)
        except BaseException:
            self._waiting.discard(part_id, final_id)
            raise
        if part.state is UploadState.COMPLETE:
            self._waiting.discard(part_id, final_id)
        return part


def _log_failure(finding: asyncio.Task[None]) -> None:
    if not finding.cancelled() and (error := finding.exception()) is not None:
        logger.error(
            "final uploads that were begun before the start are gone on with only when they are"
            " asked for: %s",
            error,
            exc_info=None if isinstance(error, UploadError) else error,
        )


def _close(reader: Reader) -> None:
    reader.close()
