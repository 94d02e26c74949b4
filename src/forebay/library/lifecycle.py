"""The life of a `Forebay`: made, started, serving what is mounted, stopped, started again."""

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
    """What `Forebay` is built on: one run at a time, in one event loop."""

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
        self._starting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Runtime]] | None = None
        self._owner: asyncio.AbstractEventLoop | None = None
        """The loop that it runs in, or begins to."""
        self._claiming = threading.Lock()
        self._running = Runtime(settings, self._hooks)
        places.files = self.files = Mounted(
            self._serve_files, places, lambda: self.settings.allow_origin
        )
        """An ASGI application to mount: raw uploads, downloads, listings."""
        self._resumable = Mounted(self._serve_resumable, places, lambda: self.settings.allow_origin)
        if places.knows_resumable:
            self.resumable  # noqa: B018 (said to be mounted, so it is wanted)

    @property
    def resumable(self) -> Mounted:
        """An ASGI application to mount: resumable uploads, by tus and the IETF's protocol."""
        self._resumable_wanted = self.settings.resumable
        self._places.resumable = self._resumable
        return self._resumable

    @property
    def engine(self) -> Engine:
        """Of the current run; another one after a stop and a start."""
        return self._running.engine

    @property
    def settings(self) -> Settings:
        return self.engine.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        """Replaces the settings whole; `settings.replace(...)` makes new ones. Takes effect
        for requests that start from now on. Raises ConfigError for settings, such as the folder,
        that only a new Forebay can have.
        """
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
        """Works by other settings for the block, another folder too, as tests want it.

        Around the start and the stop; raises RuntimeError when it runs.
        """
        before = self._running
        if before.loop is not None and not before.closed:
            raise RuntimeError("This Forebay is running; stop it before its folder is changed.")
        instead = Runtime(settings, self._hooks)
        before.close()  # a start makes it anew
        self._running = instead
        try:
            instead.check_destinations(self._folders)
            yield
        finally:
            self._running.close()
            self._running, self._owner = before, None

    # --- start and stop --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For the application's `lifespan`: starts, and lets go of everything at the end.

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
        """A lifespan that runs `other`, the application's own, inside that of Forebay."""

        @contextlib.asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with self.lifespan(app), other(app) as state:
                yield state

        return both

    async def start(self) -> None:
        """Sweeps what a crash left, and is ready then. Idempotent.

        For frameworks without lifespan events; without either, the first request does it.
        """
        running = await self._run()
        if self._state_wanted:
            await running.open_uploads()

    @property
    def _state_wanted(self) -> bool:
        """Whether uploads leave a record: to be resumed, or told of after a crash."""
        return self._resumable_wanted or (self._hooks.completes and self.settings.resumable)

    async def stop(self) -> None:
        """Waits for what is being written and closes everything. Idempotent; `start` may come
        again after it.
        """
        self._starting = None
        running = self._running
        if running.loop in (None, asyncio.get_running_loop()):
            await running.stop()
        else:
            await running.abandon()
        self._owner = None

    def close(self) -> None:
        """What `stop` does, for an application that was never started."""
        self._running.close()
        self._owner = None

    async def _run(self) -> Runtime:
        """The run of this event loop, started if need be."""
        running, loop = self._running, _asyncio_loop()
        if running.loop is loop and not running.closed:
            if self._hooks.completes and self.settings.resumable:
                await running.open_uploads()
            return running
        self._claim(loop)
        if self._starting is None or self._starting[0] is not loop:
            self._starting = (loop, asyncio.ensure_future(self._start(loop)))
        try:
            await asyncio.shield(self._starting[1])
        finally:
            if self._starting is not None and self._starting[1].done():
                self._starting = None
        return await self._run()

    def _claim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Before the start, so that two loops in two threads cannot both begin one."""
        with self._claiming:
            owner = self._owner
            if owner is not None and owner is not loop and not owner.is_closed():
                raise RuntimeError("This Forebay runs in another event loop; make one for each.")
            self._owner = loop

    async def _start(self, loop: asyncio.AbstractEventLoop) -> Runtime:
        running = self._running
        try:
            if running.loop is not None and running.loop is not loop and not running.closed:
                await running.abandon()
            if running.closed:
                running = self._running = Runtime(running.engine.settings, self._hooks)
            await running.start(self._folders, self._doubtful)
        except BaseException:
            self._owner = None
            raise
        return running

    # --- mounted applications --------------------------------------------------------------------

    async def _serve_files(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        running = await self._run()
        if self._resumable_wanted and scope["method"] != "GET":
            await running.open_uploads()
        scope[scope_keys.SETTINGS] = running.engine.settings
        await running.files(scope, receive, send)

    async def _serve_resumable(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        running = await self._run()
        await running.open_uploads()
        scope[scope_keys.SETTINGS] = running.engine.settings
        await running.resumable(scope, receive, send)

    async def running_engine(self) -> Engine:
        """The engine, started if need be."""
        return (await self._run()).engine

    def _check_routes(self, app: Any) -> None:
        if "fastapi" in sys.modules and hasattr(app, "routes"):
            from forebay.library.fastapi import check_routes

            check_routes(app.routes)

    def _describe(self, app: object) -> None:
        if hasattr(app, "openapi") and hasattr(app, "openapi_schema"):
            from forebay.library.fastapi import describe_bodies

            describe_bodies(app)


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "Forebay needs an event loop of asyncio (uvloop is one). Under hypercorn leave out "
            "--worker-class trio, or give asyncio or uvloop."
        ) from None
