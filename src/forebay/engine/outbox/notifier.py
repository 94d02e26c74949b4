"""Calling `on_complete` about a published file until it returns (invariant 11).

The record of the upload says that the call is pending (`notify_at`), from before the publication
until it has returned; so no crash, restart or failure loses it. The process that published the file
calls first. A call that failed, or that a dead process left, is made again here, with a growing
pause.

A lock that all processes share lets one of them at a time call about a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import random
import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.about import about_of
from forebay.engine.lifecycle import Event, after
from forebay.errors import NotFound, UploadBusy, UploadError
from forebay.hooks.base import Completion
from forebay.locks.base import Lock, release_lock
from forebay.model import Principal, UploadRecord, UploadState
from forebay.record import NO_FAILURES, Failures, Outcome, is_whole, stored_of
from forebay.sessions.base import Sessions
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Lockable, Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

logger = logging.getLogger("forebay")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 600.0
"""Seconds between two calls; doubled after each failure, and varied by half."""
PATIENCE = 60.0
"""Seconds that a request waits for the callback; then it goes on without the request."""
MANY_FAILURES = 10
"""After so many failures a call is logged once more; that is about a quarter of an hour."""
_POLL = 10.0
"""Seconds until it looks for calls that other processes left."""
_AT_ONCE = 16
_SLOW = 30.0
"""Seconds after which a call that has not returned no longer counts against `_AT_ONCE`."""
_MOST = 256
"""Calls that may hang at once in this process."""
_LAST = 5.0
"""Seconds that running calls may take when the server stops."""


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures, at least one."""
    doubled = FIRST_PAUSE * 2 ** min(failures - 1, 30)
    varied: float = min(doubled, LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
    return varied


class Notifier:
    """Calls `hooks.complete` for the files of one engine. Used on the event loop only.

    `sessions` has the records of the uploads; what is in memory is called again in this process
    only.
    """

    def __init__(self, engine: EngineContext, sessions: Sessions) -> None:
        self._engine = engine
        self._sessions = sessions
        self._running: dict[str, tuple[asyncio.Task[None], float]] = {}
        self._not_before: dict[str, float] = {}
        """By upload, when a call is tried again at the earliest: others may be at it."""
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._everything = False
        self._closed = False

    # --- first calls ------------------------------------------------------------------------------

    async def notify(
        self,
        record: UploadRecord,
        context: Mapping[str, Any] | None = None,
        lock: Lock | None = None,
    ) -> None:
        """The first call about a file. Returns when the callback has returned or failed, and after
        `PATIENCE` seconds at the latest; the call goes on then, and also when this is cancelled.

        `context` is what is known of the request at hand. `lock`: that of the upload's id, where
        the caller has it; it is released here.
        """
        self.begin(record, context, lock)
        task, _ = self._running[record.id]
        await asyncio.wait({task}, timeout=PATIENCE)

    def begin(
        self,
        record: UploadRecord,
        context: Mapping[str, Any] | None = None,
        lock: Lock | None = None,
    ) -> None:
        """`notify` without waiting."""
        if record.id not in self._running:
            calling = self._attempt(record.id, record=record, context=context, lock=lock)
            self._begin(record.id, calling)

    async def notify_if_new(
        self, record: UploadRecord, context: Mapping[str, Any] | None = None
    ) -> None:
        """`notify`, if the call is pending and was not tried yet."""
        if is_unnotified(record) and not Outcome.of(record).failures.count:
            await self.notify(record, context)

    def soon(self, record: UploadRecord) -> None:
        """Makes the first call about a file without waiting for it, if it is pending."""
        known = record.id in self._running or self._closed
        if known or not is_unnotified(record) or not self._engine.hooks.completes:
            return
        if not Outcome.of(record).failures.count:
            self._begin(record.id, self._again(record))

    # --- again, and for others -------------------------------------------------------------------

    def start(self) -> None:
        """Makes all pending calls now, and from now on those that are due, also those that other
        processes left.
        """
        self._everything = True
        self._go_on()

    def _go_on(self) -> None:
        if self._loop is None and not self._closed:
            self._loop = asyncio.ensure_future(self._run())
        self._wake.set()

    async def close(self) -> None:
        """Ends all calls. Those that have not returned are made again after a start."""
        self._closed = True  # first: a call that fails now starts no other
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await asyncio.wait({loop})
        tasks = {task for task, _ in self._running.values()}
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=_LAST)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause = _POLL
            try:
                pause = await self._call_due()
            except UploadError as error:
                logger.warning("which files on_complete waits for cannot be read: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _call_due(self) -> float:
        """Starts the calls that are due; seconds until there may be more."""
        if not self._engine.hooks.completes:
            return _POLL
        now, everything = time.time(), self._everything
        self._everything = False
        self._not_before = {i: t for i, t in self._not_before.items() if 0 < t - now <= _POLL}
        most = len(self._running) + len(self._not_before) + 4 * _AT_ONCE
        pause = _POLL
        for record in await self._sessions.unnotified(math.inf, most):
            assert record.notify_at is not None
            left = record.notify_at - now
            # After a start all are: it may have mended what failed. A time that nobody would
            # have chosen is that of a clock that was wrong.
            if not everything and 0 < left < 2 * LONGEST_PAUSE:
                return min(left, pause)
            if record.id in self._running:
                continue
            if record.id in self._not_before:
                pause = min(pause, self._not_before[record.id] - now)
                continue
            if not self._has_turn(now):
                break
            self._begin(record.id, self._again(record))
        return pause

    def _has_turn(self, now: float) -> bool:
        quick = sum(began > now - _SLOW for _, began in self._running.values())
        return quick < _AT_ONCE and len(self._running) < _MOST

    def _begin(self, upload_id: str, calling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(calling)
        self._running[upload_id] = task, time.time()
        task.add_done_callback(lambda done: self._ended(upload_id, done))

    def _ended(self, upload_id: str, task: asyncio.Task[None]) -> None:
        del self._running[upload_id]
        self._not_before[upload_id] = time.time() + FIRST_PAUSE
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("upload %s: on_complete cannot be called now: %s", upload_id, error)
            self._go_on()

    async def _again(self, record: UploadRecord) -> None:
        if not is_whole(record) and not await self._discard(record.id):
            return
        await self._attempt(record.id, version=record.version)

    async def _discard(self, upload_id: str) -> bool:
        """Removes the data of a resumable upload that is published. False while a request has it,
        which will make the call itself.
        """
        run, store = self._engine.workers.run, self._engine.store
        if not isinstance(store, Lockable):
            return True  # the lock that all processes share has to do; the sweep removes the data
        try:
            staged = await run(store.claim, upload_id, undo=_close)
        except UploadBusy:
            return False
        except NotFound:
            return True
        await run(staged.discard)
        return True

    # --- one call --------------------------------------------------------------------------------

    async def _attempt(
        self,
        upload_id: str,
        *,
        record: UploadRecord | None = None,
        context: Mapping[str, Any] | None = None,
        version: int | None = None,
        lock: Lock | None = None,
    ) -> None:
        """Makes the call, unless another process makes it or has made it. `version`: that of the
        record that was due. `lock`: see `notify`.
        """
        run = self._engine.workers.run
        if lock is None:
            lock = await run(self._engine.locks.try_acquire, upload_id, undo=release_lock)
            if lock is None:
                return
        try:
            now = await self._sessions.load(upload_id)
            if is_unnotified(now):
                record = now
            elif now.notify_at is None:
                return
            if record is not None and version in (None, now.version):
                await self._call(record, now.state, context)
        except NotFound:
            pass
        finally:
            await run(lock.release)

    async def _call(
        self, record: UploadRecord, state: UploadState, context: Mapping[str, Any] | None
    ) -> None:
        stored = stored_of(record)
        assert stored is not None
        failures = Outcome.of(record).failures
        completion = Completion(
            record.id,
            stored,
            record.media_type,
            Principal(record.principal),
            about_of(record),
            context,
        )
        returned = set(failures.returned)
        try:
            await self._engine.hooks.complete(completion, returned)
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            failures = Failures(failures.count + 1, _shown(error), tuple(sorted(returned)))
            _log_failure(record, failures.count, error)
            noting = self._note(record, state, failures)
        else:
            if failures.count:
                logger.info("on_complete has returned for %r at last", record.final_name)
            noting = self._forget(record)
        try:
            await noting
        except NotFound:
            pass
        except UploadError as error:
            logger.warning("upload %s: its call of on_complete is not noted: %s", record.id, error)

    async def _note(self, record: UploadRecord, state: UploadState, failures: Failures) -> None:
        changes: dict[str, Any] = {
            "outcome": dataclasses.replace(Outcome.of(record), failures=failures).encode(),
            "notify_at": time.time() + pause_after(failures.count),
        }
        if state is UploadState.COMPLETING:  # a whole upload, which nobody has ended yet
            changes |= {
                "state": after(state, Event.PUBLISHED),
                "final_size": record.final_size,
            }
        await self._sessions.update(record.id, **changes)
        self._go_on()

    async def _forget(self, record: UploadRecord) -> None:
        if is_whole(record) or record.state is UploadState.CANCELLED:
            await self._sessions.delete(record.id)
            return
        cleared = dataclasses.replace(Outcome.of(record), failures=NO_FAILURES).encode()
        await self._sessions.update(record.id, notify_at=None, outcome=cleared)


def _log_failure(record: UploadRecord, count: int, error: BaseException) -> None:
    """Logs the first failure, and one more when it goes on for long; not every call."""
    if count == 1:
        logger.error(
            "on_complete failed for %r (upload %s); the file stays, and it is called again until"
            " it returns",
            record.final_name,
            record.id,
            exc_info=error,
        )
    elif count == MANY_FAILURES:
        logger.error(
            "on_complete has failed %d times for %r (upload %s), which `forebay uploads list`"
            " shows: %s",
            count,
            record.final_name,
            record.id,
            _shown(error),
        )


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _close(staged: Staged) -> None:
    staged.close()
