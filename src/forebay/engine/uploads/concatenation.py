"""Final uploads: their data is made of that of partial ones (tus, extension concatenation).

A final upload is an upload whose bytes come from parts and not from requests: it is held,
committed, finished and cleaned up like any other. Copying goes on without the request that
asked for it, and whoever asks for the upload next starts it again where a crash ended it.

Parts stay as they are, for other finals, until they expire. While a final is being made of
it a finished part remembers that (`finals` in its record's `extra`), and is not removed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.engine.outbox.notifier import Notifier
from forebay.engine.uploads import lengths
from forebay.engine.uploads.commits import Commits, expiry
from forebay.engine.uploads.finish import Ending
from forebay.engine.uploads.locking import UploadLocks
from forebay.errors import (
    Interrupted,
    InvalidRequest,
    NotFound,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadBusy,
    UploadError,
    WrongState,
)
from forebay.model import UNFINISHED, MiB, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.stores.base import Reader, Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")

STEP = 64 * MiB
"""Bytes a worker thread copies at a time: a stop is looked at between two steps."""
MOST_USES = 16
"""How often a part may stand in final uploads, in all of them together: what a short request has
stored is bounded by that.
"""
SOON = 2.0
"""Seconds a request waits for a final upload to be made; then it goes on by itself."""
_PRUNE_FROM = 1024
"""Final uploads that wait for parts, from which on those that have ended are looked for."""
_STEP = 500

Claim = Callable[[str], Awaitable[Staged | None]]


class _Stop:
    """Ends a copy between two steps."""

    def __init__(self) -> None:
        self.error: UploadError | None = None

    def stop(self, error: UploadError) -> None:
        self.error = self.error or error


class Concatenation:
    """Makes the final uploads of one process. Used on the event loop only.

    Args:
        claim: locks the data of an upload; None when there is none. Raises UploadBusy.
    """

    def __init__(
        self,
        engine: EngineContext,
        sessions: Sessions,
        holders: UploadLocks,
        ending: Ending,
        claim: Claim,
        notifier: Notifier,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._holders = holders
        self._ending = ending
        self._claim = claim
        self._notifier = notifier
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finding: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[str]] = {}
        """By part, the final uploads that it is missing in."""
        self._missing: dict[str, set[str]] = {}
        """By final upload, the parts that it waits for."""
        self._prune_at = _PRUNE_FROM
        self._again: set[str] = set()
        """Those that are being made, and of which a part has ended meanwhile."""

    # --- from requests ---------------------------------------------------------------------------

    async def begin(
        self, record: UploadRecord, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Starts to make a final upload that has just been created; as it is soon after.

        Raises NotFound, and removes it again, when a part went meanwhile.
        """
        if len(self._missing) >= self._prune_at:
            await self._prune()
        try:
            await self._parts(record)
        except BaseException:
            self._forget(record.id)
            await self._sessions.delete(record.id)
            await self._engine.workers.run(self._engine.store.remove, record.id)
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
        """An upload is complete, or gone. Whichever final uploads wait for it as their part go on;
        no part wakes it any more, should it be one of those.
        """
        self._forget(upload_id)
        for final in self._waiting.pop(upload_id, ()):
            self._missing.get(final, set()).discard(upload_id)
            if final in self._tasks:
                self._again.add(final)
            else:
                self.resume(final)

    def _forget(self, upload_id: str) -> None:
        for part_id in list(self._missing.get(upload_id, ())):
            self._wait_no_more(part_id, upload_id)
        self._missing.pop(upload_id, None)

    async def _prune(self) -> None:
        """Forgets final uploads that ended where nobody told us: in a sweep, another process."""
        finals = list(self._missing)
        for start in range(0, len(finals), _STEP):
            step = finals[start : start + _STEP]
            records = await self._sessions.load_many(step)
            living = {record.id for record in records if record.is_unfinished}
            for final in step:
                if final not in living:
                    self._forget(final)
        self._prune_at = max(_PRUNE_FROM, 2 * len(self._missing))

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
        for state in UNFINISHED:
            after = ""
            while page := await self._sessions.page(state=state, after=after, limit=500):
                for record in page:
                    if parts_of(record):
                        self.resume(record.id)
                after = page[-1].id

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
        run = self._engine.workers.run
        stop = _Stop()
        with contextlib.suppress(UploadBusy, NotFound):  # another process is at it, or it went
            async with self._holders.taken(
                upload_id, lambda: self._claim(upload_id), ask=False
            ) as (holding, staged):
                if staged is None:
                    self._forget(upload_id)
                    return
                try:
                    holding.read_from(stop, least=0)
                    record = await self._sessions.load(upload_id)
                    record = await self._ending.settle(record, staged)
                    if record.state is UploadState.OPEN:
                        record = await self._fill(record, staged, stop)
                    if record.is_unfinished and record.offset == record.length:
                        record = await self._ending.finish(record, staged, context)
                    elif record.state is UploadState.OPEN:  # who asks for it keeps it alive
                        lives = expiry(self._engine.settings.retention)
                        await self._sessions.advance(record.id, record.offset, lives)
                finally:
                    await run(staged.close)
            await self._notifier.notify_if_new(record, context)

    async def _fill(self, record: UploadRecord, staged: Staged, stop: _Stop) -> UploadRecord:
        """Takes all parts that are complete, in their order. Raises what ended the upload."""
        run = self._engine.workers.run
        try:
            parts = await self._parts(record)
            record = await self._settle_length(record, parts)
            if staged.offset < record.offset:
                raise StorageFailed("The data of this upload was lost; start a new one.")
            if staged.offset > record.offset:
                await run(staged.rollback, record.offset)
            if record.length:
                await run(staged.reserve, record.length)
            await self._copy(record, staged, parts, stop)
        except (NotFound, TooLarge, StorageFailed) as error:
            ended: UploadError = error
            if isinstance(error, NotFound):
                ended = WrongState("A part of this upload was removed before it was finished.")
            self._forget(record.id)
            await self._ending.fail(record, staged, ended)
            raise ended from error
        except BaseException:
            if staged.dead:
                await self._ending.fail(record, staged, SyncFailed())
            raise
        return await self._sessions.load(record.id)

    async def _settle_length(
        self, record: UploadRecord, parts: Sequence[UploadRecord]
    ) -> UploadRecord:
        """Records the length once all parts have one. Raises TooLarge."""
        length = total(parts)
        known = sum(part.length if part.length is not None else part.offset for part in parts)
        limit = lengths.limit_of(record)
        if limit is not None and known > limit:
            raise TooLarge(f"The parts have {known} bytes; at most {limit} are taken.", limit=limit)
        if length is None or record.length is not None:
            return record
        return await self._sessions.update(record.id, version=record.version, length=length)

    async def _copy(
        self, record: UploadRecord, staged: Staged, parts: Sequence[UploadRecord], stop: _Stop
    ) -> None:
        engine = self._engine
        commits = Commits(
            record,
            staged,
            sessions=self._sessions,
            workers=engine.workers,
            retention=engine.settings.retention,
        )
        start = 0
        try:
            for part in parts:
                if part.state is not UploadState.COMPLETE:
                    break  # goes on when it ends
                end = start + part.offset
                if end > staged.offset:
                    await self._copy_part(part, staged, start, end, stop, commits)
                start = end
        except UploadError:
            await commits.settle()
            with contextlib.suppress(UploadError):  # the first error is the one to tell
                await commits.finish()
            raise
        except BaseException:
            await commits.settle()
            raise
        await commits.finish()

    async def _copy_part(
        self,
        part: UploadRecord,
        staged: Staged,
        start: int,
        end: int,
        stop: _Stop,
        commits: Commits,
    ) -> None:
        """Appends what is missing of the part whose bytes are those from `start` to `end`."""
        run = self._engine.workers.run
        source = await run(self._engine.store.open_staged, part, (), undo=_close)
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
        """Its parts in order, the complete ones kept from now on. Raises NotFound."""
        ids = parts_of(record)
        uses = collections.Counter(ids)
        found = {part_id: await self._keep(part_id, record.id, uses[part_id]) for part_id in uses}
        return [found[part_id] for part_id in ids]

    async def _keep(self, part_id: str, final_id: str, uses: int) -> UploadRecord:
        # Before it is looked at: it may end just then.
        self._waiting.setdefault(part_id, set()).add(final_id)
        self._missing.setdefault(final_id, set()).add(part_id)
        try:
            part = await self._keep_complete(part_id, final_id, uses)
        except BaseException:
            self._wait_no_more(part_id, final_id)
            raise
        if part.state is UploadState.COMPLETE:
            self._wait_no_more(part_id, final_id)
        return part

    def _wait_no_more(self, part_id: str, final_id: str) -> None:
        for index, key, value in (
            (self._waiting, part_id, final_id),
            (self._missing, final_id, part_id),
        ):
            found = index.get(key, set())
            found.discard(value)
            if not found:
                index.pop(key, None)

    async def _keep_complete(self, part_id: str, final_id: str, uses: int) -> UploadRecord:
        while True:
            part = await self._sessions.load(part_id)
            if part.state in (UploadState.FAILED, UploadState.CANCELLED):
                raise NotFound("A part has failed or was removed.")
            extra = json.loads(part.extra)
            if part.state is not UploadState.COMPLETE or final_id in extra.get("finals", ()):
                return part
            if len(extra.get("finals", ())) + uses > MOST_USES:
                raise NotFound(f"A part was used {MOST_USES} times already.")
            extra["finals"] = [*extra.get("finals", ()), *[final_id] * uses]
            with contextlib.suppress(WrongState):  # it changed meanwhile: look again
                return await self._sessions.update(
                    part_id, version=part.version, extra=json.dumps(extra).encode()
                )


def _log_failure(finding: asyncio.Task[None]) -> None:
    if not finding.cancelled() and (error := finding.exception()) is not None:
        logger.error(
            "final uploads that were begun before the start are gone on with only when they are"
            " asked for: %s",
            error,
            exc_info=None if isinstance(error, UploadError) else error,
        )


def parts_of(record: UploadRecord) -> tuple[str, ...]:
    """Ids of the parts of a final upload; () for any other."""
    if b'"parts"' not in record.extra:
        return ()
    return tuple(json.loads(record.extra).get("parts", ()))


def is_partial(record: UploadRecord) -> bool:
    """Whether it is a part of final uploads to come."""
    return b'"partial"' in record.extra and bool(json.loads(record.extra).get("partial"))


def check_parts(ids: Sequence[str], parts: Mapping[str, UploadRecord], dialect: str) -> None:
    """Refuses what no final upload can be made of, before it has any effect: a short request must
    not have much copied. Raises InvalidRequest, NotFound.
    """
    uses = collections.Counter(ids)
    for part in parts.values():
        if part.state in (UploadState.FAILED, UploadState.CANCELLED):
            raise NotFound("An upload in the list has failed or was removed.")
        if part.dialect != dialect or not is_partial(part):
            raise InvalidRequest("An upload in the list is not a partial one.")
        if len(json.loads(part.extra).get("finals", ())) + uses[part.id] > MOST_USES:
            raise InvalidRequest(
                f"An upload in the list would be used more than {MOST_USES} times; send it again."
            )


def total(parts: Iterable[UploadRecord]) -> int | None:
    """Bytes of all parts together, None while one of them has no length yet."""
    sizes = [part.length for part in parts]
    return None if None in sizes else sum(size for size in sizes if size is not None)


async def release_part(sessions: Sessions, record: UploadRecord) -> None:
    """Before a partial upload is removed: from now on no final can be made of it.

    Raises UploadBusy while one is being made.
    """
    extra: dict[str, Any] = json.loads(record.extra)
    for final_id in dict.fromkeys(extra.get("finals", ())):
        with contextlib.suppress(NotFound):
            if (await sessions.load(final_id)).is_unfinished:
                raise UploadBusy("A final upload is being made of this one.", retry_after=5)
    try:
        await sessions.update(record.id, version=record.version, state=UploadState.CANCELLED)
    except WrongState:
        raise UploadBusy(retry_after=1) from None


__all__ = ["Concatenation", "check_parts", "is_partial", "parts_of", "release_part", "total"]


def _close(reader: Reader) -> None:
    reader.close()
