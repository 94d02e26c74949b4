"""`Forebay`: the engine inside any ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from forebay.config import Settings, load
from forebay.engine.body import Body
from forebay.engine.engine import Engine
from forebay.engine.packing import packs
from forebay.engine.progress import ProgressFeed
from forebay.engine.sweep import Housekeeping
from forebay.hooks.base import Access, Candidate, Completion
from forebay.hooks.python import PythonHooks
from forebay.http.answers import Receive
from forebay.http.files import FilesApp, source_of
from forebay.protocol import fields
from forebay.protocol.names import numbered
from forebay.stores.files import FileStore

_LAST_JOBS = 10.0
"""Seconds that the last writes may take when everything is closed."""


class Forebay:
    """Takes uploads into one folder, inside an application of yours.

    Args:
        dir: the folder; made when missing.
        authorise: called with an `Access` before a byte of a body is read; returns a
            `Principal`, an id, or True; returns False or raises to refuse. Without it,
            everybody may do everything.
        settings: any setting of `forebay serve` by its name, such as `max_size=5 * GB`.

    Raises ConfigError for a wrong setting, StorageError when the folder cannot be used.

        uploads = Forebay("data/", max_size=5 * GB)
        app = FastAPI(lifespan=uploads.lifespan)
        app.mount("/files", uploads.files)
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],  # noqa: A002 (the setting's name)
        *,
        authorise: Callable[[Access], Any] | None = None,
        **settings: Any,
    ) -> None:
        self._start(Settings(dir=os.fspath(dir), **settings), authorise)

    @classmethod
    def from_env(cls, *, authorise: Callable[[Access], Any] | None = None) -> Forebay:
        """Settings from `FOREBAY_*`, then `./forebay.toml`, then the defaults."""
        made = cls.__new__(cls)
        made._start(load({}, os.environ, os.getcwd()).settings, authorise)
        return made

    def _start(self, settings: Settings, authorise: Callable[[Access], Any] | None) -> None:
        self._hooks = PythonHooks(authorise)
        self._store = FileStore(
            settings.dir,
            durability=settings.durability,
            min_free=settings.min_free,
            file_mode=settings.file_mode,
            folder_mode=settings.folder_mode,
            numbered=numbered,
            packs=packs(settings),
        )
        self.engine = Engine(settings, self._store, hooks=self._hooks)
        self.files = FilesApp(self.engine)
        """An ASGI application to mount: raw uploads, downloads, listings."""

    @property
    def settings(self) -> Settings:
        return self.engine.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Replaces the settings whole; `settings.replace(...)` makes new ones. Takes effect
        for requests that start from now on; folder and durability stay as they were.
        """
        self.engine.settings = settings

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For the application's `lifespan`: sweeps at the start, lets go at the end."""
        keeping = Housekeeping(lambda: self.settings, self._store, self.engine.workers, None)
        await keeping.start()
        try:
            yield
        finally:
            await keeping.stop()
            await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Ends the worker threads, waiting for what they do, and closes the store. Idempotent."""
        self.engine.close()
        self.engine.workers.join(_LAST_JOBS)  # they work with the store's descriptors
        self._store.close()

    @contextlib.asynccontextmanager
    async def body(
        self,
        scope: dict[str, Any],
        receive: Receive,
        *,
        max_size: int | None = None,
        threshold: int | None = None,
        progress: ProgressFeed | None = None,
    ) -> AsyncIterator[Body]:
        """The body of an ASGI request, in memory or in a file, whichever its size asks for.

        It is gone when the block ends, unless `move_to` kept it. Sizes are in bytes; without
        `max_size` only `settings.max_size` limits it. Raises an UploadError.

            async with uploads.body(scope, receive) as body:
                await body.move_to("videos/clip.mp4")
        """
        media_type = fields.first(scope["headers"], b"content-type")
        async with self.engine.receive_body(
            source_of(scope, receive),
            media_type=media_type.decode("latin-1") if media_type is not None else None,
            max_size=max_size,
            threshold=threshold,
            progress=progress,
        ) as body:
            yield body

    def on_verify(self, function: Callable[[Candidate], Any]) -> Callable[[Candidate], Any]:
        """Decorator: asked before a file is published; raise VerificationRefused to refuse."""
        self._hooks.verifiers.append(function)
        return function

    def on_complete(self, function: Callable[[Completion], Any]) -> Callable[[Completion], Any]:
        """Decorator: told after a file was published."""
        self._hooks.completers.append(function)
        return function
