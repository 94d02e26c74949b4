"""The lifecycle of a `Forebay`: made, started, serving its mounts, stopped, started again."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from forebay.config import Settings, changes_needing_restart
from forebay.engine.engine import Engine
from forebay.errors import ConfigError
from forebay.hooks.base import Access
from forebay.hooks.python import PythonHooks
from forebay.http import scope_keys
from forebay.http.answers import Receive, Send
from forebay.http.verdicts import add_verdict
from forebay.library.mounts import Mounted, Places
from forebay.library.runtime import Runtime

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Lifecycle:
    """The base of `Forebay`: one runtime at a time, in one event loop."""

    def _set_up(
        self,
        settings: Settings,
        authorise: Callable[[Access], Any] | None,
        places: Places,
    ) -> None:
        self._hooks = PythonHooks(authorise)
        self._places = places
        self._folders: set[str] = set()
        self._doubtful: set[str] = set()
        self._resumable_wanted = False
        self._starting: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that it runs in, or is starting in."""
        self._claiming = threading.Lock()
        self._runtime = Runtime(settings, self._hooks)
        places.files = self.files = Mounted(
            self._serve_files, places, lambda: self.settings.allow_origin
        )
        """An ASGI application to mount: raw uploads, downloads, listings."""
        self._resumable = Mounted(self._serve_resumable, places, lambda: self.settings.allow_origin)
        if places.knows_resumable:
            self.resumable  # noqa: B018 (its mount is named, so it is wanted)

    @property
    def resumable(self) -> Mounted:
        """An ASGI application to mount: resumable uploads, by tus and the IETF's protocol."""
        self._resumable_wanted = self.settings.resumable
        self._places.resumable = self._resumable
        return self._resumable

    @property
    def engine(self) -> Engine:
        """The engine of the current run; another one after a stop and a start."""
        return self._runtime.engine

    @property
    def settings(self) -> Settings:
        """The current settings. Assign others, made by `settings.replace(...)`, to change them for
        requests that start from then on.
        """
        return self.engine.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Raises ConfigError for a change, such as of the folder, that needs a new Forebay."""
        if not isinstance(settings, Settings):
            raise ConfigError(
                f"settings cannot be {settings!r}. Assign uploads.settings.replace(max_size=...)."
            )
        fixed = changes_needing_restart(self.settings, settings)
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)} cannot change on a Forebay that is there already; make a new "
                "one, with the value from the start."
            )
        self.engine.settings = settings

    @contextlib.contextmanager
    def with_settings(self, settings: Settings) -> Iterator[None]:
        """Uses other settings for the block, also another folder; for tests.

        Start and stop it within the block. Raises RuntimeError when it is running.
        """
        before = self._runtime
        if before.loop is not None and not before.closed:
            raise RuntimeError("This Forebay is running; stop it before its folder is changed.")
        instead = Runtime(settings, self._hooks)
        before.close()  # the next start replaces it
        self._runtime = instead
        try:
            instead.check_destinations(self._folders)
            yield
        finally:
            self._runtime.close()
            self._runtime, self._loop = before, None

    # --- start and stop --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """The application's `lifespan`: starts, and closes everything at the end.

        Raises ConfigError when a destination cannot be used, StorageError.
        """
        if app is not None:
            self._places.of_application(app)
            self._describe(app)
            self._check_routes(app)
            add_verdict(app)
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def lifespan_with(self, other: Lifespan) -> Lifespan:
        """A lifespan that runs `other`, the application's own, inside Forebay's."""

        @contextlib.asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with self.lifespan(app), other(app) as state:
                yield state

        return both

    async def start(self) -> None:
        """Removes what a crash left behind, and is ready then. Idempotent.

        For frameworks without lifespan events. Without either, the first request starts it.
        Raises ConfigError, StorageError.
        """
        runtime = await self._started()
        if self._resumable_wanted:
            await runtime.open_uploads()

    async def stop(self) -> None:
        """Waits for running writes and closes everything. Idempotent; it may be started again."""
        self._starting = None
        await self._runtime.stop()
        self._loop = None

    def close(self) -> None:
        """Closes everything, without an event loop: for an application that was never started."""
        self._runtime.close()
        self._loop = None

    async def _started(self) -> Runtime:
        """The runtime of this event loop; starts it when needed."""
        runtime, loop = self._runtime, _asyncio_loop()
        while runtime.loop is not loop or runtime.closed:
            self._claim(loop)
            if self._starting is None or self._starting[0] is not loop:
                self._starting = (loop, asyncio.ensure_future(self._start(loop)))
            try:
                await asyncio.shield(self._starting[1])
            finally:
                if self._starting is not None and self._starting[1].done():
                    self._starting = None
            runtime = self._runtime
        if self._hooks.completes and self.settings.resumable:
            await runtime.open_uploads()  # to call `on_complete` again after a crash
        return runtime

    def _claim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Before the start, so that two loops in two threads cannot both start it."""
        with self._claiming:
            other = self._loop
            if other is not None and other is not loop and not other.is_closed():
                raise RuntimeError("This Forebay runs in another event loop; make one for each.")
            self._loop = loop

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        runtime = self._runtime
        try:
            if runtime.loop not in (None, loop):  # its loop was closed before it was stopped
                await runtime.stop()
            if runtime.closed:
                runtime = self._runtime = Runtime(runtime.engine.settings, self._hooks)
            await runtime.start(self._folders, self._doubtful)
        except BaseException:
            self._loop = None
            raise

    # --- mounted applications --------------------------------------------------------------------

    def mounted_at(self, mounted: object, path: str) -> None:
        """Names the path at which `files` or `resumable` is mounted, as `Forebay(files_at=...)`
        does.
        """
        self._places.set(mounted, path)

    async def _serve_files(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        runtime = await self._started()
        if self._resumable_wanted and scope["method"] != "GET":
            await runtime.open_uploads()
        scope[scope_keys.SETTINGS] = runtime.engine.settings
        await runtime.files(scope, receive, send)

    async def _serve_resumable(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        runtime = await self._started()
        await runtime.open_uploads()
        scope[scope_keys.SETTINGS] = runtime.engine.settings
        await runtime.resumable(scope, receive, send)

    async def started_engine(self) -> Engine:
        """The engine of this event loop; starts it when needed."""
        return (await self._started()).engine

    def _check_routes(self, app: Any) -> None:
        if "fastapi" in sys.modules and hasattr(app, "routes"):
            from forebay.library.fastapi_routes import check_routes

            check_routes(app.routes)

    def _describe(self, app: object) -> None:
        if hasattr(app, "openapi") and hasattr(app, "openapi_schema"):
            from forebay.library.fastapi_routes import describe_bodies

            describe_bodies(app)


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "Forebay needs an event loop of asyncio (uvloop is one). Under hypercorn leave out "
            "--worker-class trio, or give asyncio or uvloop."
        ) from None
