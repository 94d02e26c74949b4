"""What runs behind the serving: the state of uploads, and the housekeeping.

State that cannot be opened, because the disk is full or the database is damaged or locked, keeps
nobody from the files that are here: it is tried again until it can be. It is opened anew, too,
when its folder was made anew or another database was put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.engine.maintenance.sweep import Housekeeping, open_sessions
from forebay.errors import SessionsUnavailable, StorageError, UploadError
from forebay.sessions.base import Sessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.state import State
    from forebay.stores.files.store import FileStore

logger = logging.getLogger("forebay")

PATIENCE = 3.0
"""Seconds that a start waits for the state; then it goes on opening behind the serving."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two tries to open it."""
WATCH = 1.0
"""Seconds between two looks at whether folder and database are still those that are open."""


class Background:
    """Of one engine, on its event loop. `open`: makes the session store."""

    def __init__(
        self,
        engine: EngineContext,
        offered: State,
        store: FileStore,
        make: Callable[[], Sessions] | None = None,
    ) -> None:
        self._engine = engine
        self._offered = offered
        self._store = store
        self._make = make or (lambda: open_sessions(engine.settings, store))
        self._keeping: Housekeeping | None = None
        self._state: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._refused: Exception | None = None
        self._generation = 0
        self._told = ""

    async def start(self, *, state: bool) -> None:
        """Returns when serving may begin. Raises ConfigError."""
        if state:
            await self.open_state()
        if self._keeping is None:
            await self._keep()
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())

    async def open_state(self) -> None:
        """Has the state opened, now or as soon as it can be. Idempotent. Raises ConfigError."""
        if self._state is None:
            opening = SessionsUnavailable("The upload state is being opened.", retry_after=1)
            self._offered.error = opening
            self._state = asyncio.ensure_future(self._open())
        if not self._tried.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._tried.wait()
            self._tried.set()  # whoever comes now does not wait any more
        if self._refused is not None:
            raise self._refused

    async def stop(self) -> None:
        """Idempotent."""
        for task in (self._watching, self._state):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._watching = None
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await keeping.stop()

    async def _open(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._generation = self._store.generation
            try:
                await self._offered.open(self._make())
                break
            except StorageError as error:
                self._fail(error)
            except Exception as error:  # a setting that will not do: nothing comes of waiting
                self._refused = error
                self._tried.set()
                return
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if self._told:
            self._told = ""
            logger.info("the upload state is open; resumable uploads are taken again")
        await self._keep()
        self._offered.uploads.concatenation.resume_all()
        self._offered.uploads.notifier.start()
        self._tried.set()

    def _fail(self, error: UploadError) -> None:
        self._offered.error = SessionsUnavailable(
            f"Resumable uploads cannot be taken now: {error.message}",
            retry_after=5,
            cause=error.code,
        )
        if self._told != error.message:  # once, however often it is tried
            self._told = error.message
            logger.error(
                "%s: %s Files are served all the same; it is tried again.",
                error.code,
                error.message,
            )

    async def _keep(self) -> None:
        if self._keeping is not None:
            await self._keeping.stop()
        engine = self._engine
        self._keeping = Housekeeping(
            lambda: engine.settings,
            self._store,
            engine.workers,
            engine.locks,
            self._offered.sessions,
            self._offered.notify_soon,
        )
        await self._keeping.start()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            try:
                await self._look()
            except Exception:
                logger.exception("the state of uploads could not be looked at")

    async def _look(self) -> None:
        with contextlib.suppress(StorageError):  # /readyz says so
            await self._engine.workers.run(self._store.refresh)
        sessions = self._offered.sessions
        if sessions is None:
            return
        try:
            await sessions.in_place()
        except StorageError as error:
            moved = self._store.generation != self._generation
            if not moved and not error.detail.get("replaced"):
                if self._told != error.message:
                    self._told = error.message
                    logger.error("%s: %s", error.code, error.message)
                return
            self._fail(error)
            await self._offered.close()
            self._state = asyncio.ensure_future(self._open())
        else:
            self._told = ""
