"""The tasks behind the serving: opens the state of uploads, watches it, runs the housekeeping.

State may not open: the disk is full, or the database is damaged or locked. Files are served all the
same, and opening is tried again until it succeeds. State is also opened again when its folder was
removed and made anew, or when another database was put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from forebay.engine.maintenance.housekeeping import Housekeeping
from forebay.engine.maintenance.sweep import Sweeper
from forebay.errors import SessionsUnavailable, StorageError, UploadError
from forebay.sessions.base import Sessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.state import State

logger = logging.getLogger("forebay")

PATIENCE = 3.0
"""Seconds that a start waits for the state; after that it is opened behind the serving."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two attempts to open it."""
WATCH = 1.0
"""Seconds between two checks whether folder and database are still those that are open."""


@runtime_checkable
class Refreshable(Protocol):
    """A store whose folder may be removed and made anew while it is open."""

    generation: int
    """Rises whenever it was found to be made anew."""

    def refresh(self) -> bool:
        """Uses the folder that is there now; whether it was made anew. Raises StorageError."""
        ...


class Background:
    """Of one engine, on its event loop. `make_sessions` makes its session store."""

    def __init__(
        self, engine: EngineContext, state: State, make_sessions: Callable[[], Sessions]
    ) -> None:
        self._engine = engine
        self._state = state
        self._make_sessions = make_sessions
        self._housekeeping: Housekeeping | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        """Opening has been tried once."""
        self._refused: Exception | None = None
        """Why it is not tried again."""
        self._generation = 0
        """That of the store when the state was opened."""
        self._reported = ""
        """The last error in the log, which is not repeated."""

    async def start(self, *, state: bool) -> None:
        """Returns when serving may begin. Raises ConfigError."""
        if state:
            await self.open_state()
        if self._housekeeping is None:
            await self._start_housekeeping()
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())

    async def open_state(self) -> None:
        """Opens the state, now or as soon as possible. Idempotent. Raises ConfigError."""
        if self._opening is None:
            opening = SessionsUnavailable("The upload state is being opened.", retry_after=1)
            self._state.error = opening
            self._opening = asyncio.ensure_future(self._open())
        if not self._tried.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._tried.wait()
            self._tried.set()  # later calls do not wait
        if self._refused is not None:
            raise self._refused

    async def stop(self) -> None:
        """Idempotent."""
        for task in (self._watching, self._opening):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._watching = None
        housekeeping, self._housekeeping = self._housekeeping, None
        if housekeeping is not None:
            await housekeeping.stop()

    async def _open(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._generation = self._store_generation()
            try:
                await self._state.open(self._make_sessions())
                break
            except StorageError as error:
                self._fail(error)
            except Exception as error:  # such as a wrong setting: waiting does not help
                self._refused = error
                self._tried.set()
                return
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if self._reported:
            self._reported = ""
            logger.info("the upload state is open; resumable uploads are taken again")
        await self._start_housekeeping()
        self._state.uploads.concatenation.resume_all()
        self._state.uploads.notifier.start()
        self._tried.set()

    def _fail(self, error: UploadError) -> None:
        self._state.error = SessionsUnavailable(
            f"Resumable uploads cannot be taken now: {error.message}",
            retry_after=5,
            cause=error.code,
        )
        if self._reported != error.message:  # once, however often it is tried
            self._reported = error.message
            logger.error(
                "%s: %s Files are served all the same; it is tried again.",
                error.code,
                error.message,
            )

    async def _start_housekeeping(self) -> None:
        """Starts it again when the state was opened meanwhile."""
        if self._housekeeping is not None:
            await self._housekeeping.stop()
        self._housekeeping = Housekeeping(self._engine, self._sweeper())
        await self._housekeeping.start()

    def _sweeper(self) -> Sweeper:
        engine, state = self._engine, self._state
        return Sweeper(
            engine.store,
            state.sessions,
            engine.workers,
            engine.locks,
            state.notify_soon,
            state.accesses,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            try:
                await self._check()
            except Exception:
                logger.exception("the state of uploads could not be looked at")

    async def _check(self) -> None:
        store = self._engine.store
        if isinstance(store, Refreshable):
            with contextlib.suppress(StorageError):  # /readyz reports it
                await self._engine.workers.run(store.refresh)
        sessions = self._state.sessions
        if sessions is None:
            return
        try:
            await sessions.in_place()
        except StorageError as error:
            moved = self._store_generation() != self._generation
            if not moved and not error.detail.get("replaced"):
                if self._reported != error.message:
                    self._reported = error.message
                    logger.error("%s: %s", error.code, error.message)
                return
            self._fail(error)
            await self._state.close()
            self._opening = asyncio.ensure_future(self._open())
        else:
            self._reported = ""

    def _store_generation(self) -> int:
        store = self._engine.store
        return store.generation if isinstance(store, Refreshable) else 0
