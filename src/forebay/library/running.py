"""What runs behind a `Forebay`: store, engine, sessions, housekeeping; from start to stop.

An application may be started again after it was stopped, in another event loop too, as tests
do. So everything that a loop owns is made at the start and not before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from forebay.engine.engine import Engine
from forebay.engine.opening import make_store
from forebay.engine.sweep import Housekeeping, open_sessions
from forebay.errors import ConfigError, UploadError
from forebay.hooks.base import Hooks
from forebay.http.dialects import dialects
from forebay.http.files import FilesApp
from forebay.http.ietf import Ietf
from forebay.http.partial import Partial
from forebay.http.tus_files import TusAtFiles
from forebay.http.uploads import UploadsApp
from forebay.sessions.sqlite import SqliteSessions
from forebay.stores.destinations import check_folder

if TYPE_CHECKING:
    from forebay.config import Settings

logger = logging.getLogger("forebay")

_LAST_JOBS = 10.0
"""Seconds that the last writes may take when everything is closed."""


class Running:
    """One run, in one event loop. Raises StorageError when the folder cannot be used."""

    def __init__(self, settings: Settings, hooks: Hooks) -> None:
        self.store = make_store(settings)
        self.engine = Engine(settings, self.store, hooks=hooks)
        self.files = FilesApp(
            self.engine,
            creator=Ietf(self.engine),
            partial=Partial(self.engine),
            tus=TusAtFiles(self.engine),
        )
        self.resumable = UploadsApp(self.engine, dialects(self.engine))
        self.loop: asyncio.AbstractEventLoop | None = None
        """The one it runs in; None before the start."""
        self.closed = False
        self._keeping: Housekeeping | None = None
        self._opening: asyncio.Task[None] | None = None

    def check_destinations(self, folders: Iterable[str]) -> None:
        """May wait for the disk. Raises ConfigError that says which cannot be used, and why."""
        for folder in folders:
            try:
                check_folder(self.store, folder)
            except UploadError as error:
                raise ConfigError(
                    f"The destination {folder!r} cannot be used: {error.message}"
                ) from error

    async def start(self, folders: Iterable[str]) -> None:
        """Raises ConfigError, StorageError."""
        await self.engine.workers.run(self.check_destinations, list(folders))
        await self._keep()
        self.loop = asyncio.get_running_loop()

    async def open_resumables(self) -> None:
        """Opens the state of resumable uploads, once; whoever comes meanwhile waits."""
        if self.engine.offers_resumable and self._opening is None:
            return
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open_resumables())
        try:
            await asyncio.shield(self._opening)
        finally:
            if self._opening is not None and self._opening.done():
                self._opening = None

    async def _open_resumables(self) -> None:
        sessions = open_sessions(self.engine.settings, self.store)
        await self.engine.open_resumables(sessions)
        await self._keep()
        self.engine.resumables.concatenation.resume_all()

    async def _keep(self) -> None:
        if self._keeping is not None:
            await self._keeping.stop()
        engine = self.engine
        self._keeping = Housekeeping(
            lambda: engine.settings, self.store, engine.workers, engine.sessions, engine.notify_soon
        )
        await self._keeping.start()
        if engine.offers_resumable:
            engine.resumables.notifier.start()

    async def stop(self) -> None:
        """Idempotent; waits for what is being written."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await keeping.stop()
        await self.engine.close_resumables()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Ends the worker threads, waiting for what they do, and closes the store."""
        if not self.closed:
            self.closed = True
            self.engine.close()
            self.engine.workers.join(_LAST_JOBS)  # they work with the store's descriptors
            self.store.close()

    async def abandon(self) -> None:
        """Ends a run whose event loop was closed under it, as well as that can be done."""
        self._keeping = None
        sessions = self.engine.sessions
        if self.engine.offers_resumable:
            await asyncio.to_thread(self.engine.resumables.holders.abandon)
        if isinstance(sessions, SqliteSessions):
            await asyncio.to_thread(sessions.abandon)
        await asyncio.to_thread(self.close)
