"""The running parts of a `Forebay`: store, engine, sessions, housekeeping; from start to stop.

An application may be started again after it was stopped, also in another event loop, as tests do.
So everything that belongs to a loop is made at the start, not earlier. A loop may also be closed
while the runtime is running; then `stop`, from another loop, closes everything without it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from forebay.backends import check_folder, make_locks, make_sessions, make_store
from forebay.engine.engine import Engine
from forebay.engine.maintenance.background import Background
from forebay.errors import (
    ConfigError,
    DiskFull,
    NoDescriptors,
    QuotaExceeded,
    StorageBusy,
    StorageError,
    UploadError,
)
from forebay.hooks.base import Hooks
from forebay.http.cors import add_origins_of
from forebay.http.dialects import dialects
from forebay.http.files import FilesApp
from forebay.http.ietf import Ietf
from forebay.http.partial import Partial
from forebay.http.tus_files import TusAtFiles
from forebay.http.uploads import UploadsApp

if TYPE_CHECKING:
    from forebay.config import Settings

logger = logging.getLogger("forebay")

_LAST_JOBS = 10.0
"""Seconds to wait for the last writes when everything is closed."""


class Runtime:
    """One run, from start to stop, in one event loop. Raises StorageError when the folder cannot
    be used.
    """

    def __init__(self, settings: Settings, hooks: Hooks) -> None:
        try:
            self.store = make_store(settings)
        except StorageError as error:
            error.message = f"The folder {settings.dir!r} cannot be used: {error.message}"
            error.args = (error.message,)
            raise
        self.engine = Engine(settings, self.store, locks=make_locks(self.store), hooks=hooks)
        add_origins_of(self.engine)
        self.files = FilesApp(
            self.engine,
            creator=Ietf(self.engine),
            partial=Partial(self.engine),
            tus=TusAtFiles(self.engine),
        )
        self.resumable = UploadsApp(self.engine, dialects(self.engine))
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that it runs in; None before the start."""
        self.closed = False
        self._background = Background(
            self.engine.context,
            self.engine.state,
            lambda: make_sessions(self.engine.settings, self.store),
        )

    def check_destinations(self, folders: Iterable[str]) -> None:
        """Raises ConfigError for a folder that cannot be used. May wait for the disk."""
        for folder in folders:
            try:
                check_folder(self.store, folder)
            except (DiskFull, QuotaExceeded, NoDescriptors, StorageBusy) as error:
                logger.error("The destination %r cannot be used now: %s", folder, error.message)
            except UploadError as error:
                if error.detail.get("errno") == errno.EROFS:  # files can still be read
                    logger.error("The destination %r cannot be used now: %s", folder, error.message)
                    continue
                raise ConfigError(
                    f"The destination {folder!r} cannot be used: {error.message}"
                ) from error

    def check_names(self, names: Iterable[str]) -> None:
        """Checks names of files that may have been meant as folders. Raises ConfigError for a name
        that is a folder.
        """
        for name in names:
            try:
                is_folder = self.store.stat(name).is_folder
            except UploadError:
                is_folder = False
            if is_folder:
                raise ConfigError(
                    f"The destination {name!r} names a file, and is a folder. End it with a slash "
                    f"for files in that folder: {name + '/'!r}."
                )
            warn_of(name)

    async def start(self, folders: Iterable[str], doubtful: Iterable[str] = ()) -> None:
        """`doubtful`: names of files that may have been meant as folders. Raises ConfigError,
        StorageError.
        """
        await self.engine.workers.run(self.check_destinations, list(folders))
        await self.engine.workers.run(self.check_names, sorted(doubtful))
        await self._background.start(state=False)
        self.loop = asyncio.get_running_loop()

    async def open_uploads(self) -> None:
        """Opens the state of resumable uploads, now or as soon as possible."""
        await self._background.open_state()

    async def stop(self) -> None:
        """Waits for running writes and closes everything. Idempotent. From another loop, when its
        own was closed, only what needs no loop is left to close.
        """
        if self.loop in (None, asyncio.get_running_loop()):
            await self._background.stop()
            await self.engine.close_uploads()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Closes what is still open, without the event loop. Waits for the worker threads."""
        if not self.closed:
            self.closed = True
            self.engine.close()
            self.engine.workers.join(_LAST_JOBS)  # they use the store's descriptors
            self.store.close()


def warn_of(name: str) -> None:
    """Warns of a file's name that may have been meant as a folder."""
    logger.warning(
        "The destination %r is the name of one file, which every upload would get. For files in "
        "a folder of that name end it with a slash: %r",
        name,
        f"{name}/",
    )
