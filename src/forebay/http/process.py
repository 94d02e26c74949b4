"""One server process: its store, engine and event loop, signals, and a draining shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable
from types import FrameType

import uvicorn

from forebay.backends import make_locks, make_sessions, make_store
from forebay.config import Settings, changes_needing_restart, only_live_changes
from forebay.engine.engine import Engine
from forebay.engine.maintenance.background import Background
from forebay.engine.transfer.admission import Tally
from forebay.errors import ForebayError
from forebay.http.allocator import keep_freed_memory
from forebay.http.app import ServerApp
from forebay.http.direct import DirectProtocol
from forebay.http.limits import ConnectionLimits
from forebay.http.logs import set_up

logger = logging.getLogger("forebay")

Loader = Callable[[], Settings]
"""Reads the settings again. Raises ConfigError."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Blocked from before the listening line is printed until a handler is there for them."""


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself, so that only its pages may be served."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def limits_of(settings: Settings) -> ConnectionLimits:
    """The limits of a connection before there is a request."""
    return ConnectionLimits(
        settings.head_timeout,
        settings.keep_alive_timeout,
        settings.linger_timeout,
        settings.max_head,
        settings.body_timeout,
    )


def serve_one(
    settings: Settings,
    loader: Loader,
    listener: socket.socket,
    tally: Tally,
    lifeline: int | None = None,
) -> int:
    """Serves in this process, on a listener that others may share; returns the exit code.

    `lifeline` is a pipe from the supervisor, if there is one: it ends when the supervisor dies.
    """
    if settings.ssl_certfile:  # bodies come through `receive`
        keep_freed_memory()
    store = make_store(settings)
    engine = Engine(settings, store, locks=make_locks(store), tally=tally)

    class Protocol(DirectProtocol):
        limits = limits_of(settings)

    shutdown = contextlib.AsyncExitStack()

    async def start() -> None:
        background = Background(
            engine.context, engine.state, lambda: make_sessions(engine.settings, store)
        )
        shutdown.push_async_callback(engine.close_uploads)
        shutdown.push_async_callback(background.stop)
        await background.start(state=settings.resumable)
        # The objects made at start-up stay; the garbage collector need not look at them again.
        gc.collect()
        gc.freeze()
        # Requests leave no reference cycles, so collecting rarely is enough.
        gc.set_threshold(10_000, 20, 50)

    app = ServerApp(
        engine,
        listening_on_loopback=is_loopback(settings.host),
        on_startup=start,
        on_shutdown=shutdown.aclose,
    )
    config = _uvicorn_config(settings, app, Protocol)
    server = Server(config, engine, loader, Protocol, lifeline)
    try:
        server.run(sockets=[listener])
    except ForebayError as error:
        logger.critical("%s", error)
        return 1
    finally:
        engine.close()
        store.close()
    return 0 if server.started else 3


def _uvicorn_config(
    settings: Settings, app: ServerApp, protocol: type[DirectProtocol]
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        proxy_headers=False,
        server_header=False,
        interface="asgi3",
        backlog=2048,
        timeout_graceful_shutdown=int(settings.drain_timeout) + 6,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )


class Server(uvicorn.Server):
    """uvicorn's server with our signals: drain, exit 0, and settings read again."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        loader: Loader,
        protocol: type[DirectProtocol],
        lifeline: int | None = None,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._loader = loader
        self._protocol = protocol
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._orphaned, loop, self._lifeline)
        await super().startup(sockets=sockets)

    def _orphaned(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        """Drains: without a parent this process would never end, and would keep the port."""
        loop.remove_reader(lifeline)
        logger.error("the parent process is gone; draining")
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after the shutdown; a drained server returns 0.
        # The supervisor counts signals itself: one to the process group comes here twice.
        if self.should_exit and self._lifeline is None:
            os._exit(128 + sig)  # the second signal: unnamed temporary files vanish by themselves
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timeout = self._engine.settings.drain_timeout
        logger.info(
            "draining for at most %g s; %d uploads run", timeout, len(self._engine.context.monitor)
        )
        self._engine.drain(timeout)
        self.config.timeout_graceful_shutdown = int(timeout) + 6  # it may have changed
        await super().shutdown(sockets=sockets)

    def reload(self) -> None:
        """Applies settings that may change while running; warns of those that need a restart."""
        old = self._engine.settings
        try:
            new = self._loader()
        except ForebayError as error:
            logger.error("settings not read again: %s", error)
            return
        fixed = changes_needing_restart(old, new)
        if fixed:
            logger.warning("these settings change only at a restart: %s", ", ".join(fixed))
            new = only_live_changes(old, new)
        self._engine.settings = new
        self._protocol.limits = limits_of(new)
        set_up(new.log_level, new.log_format, access_log=new.access_log)
        self._reload_tls(new)
        logger.info("settings read again")

    def _reload_tls(self, settings: Settings) -> None:
        """Uses renewed certificate files for new connections."""
        context = self.config.ssl
        if context is None or settings.ssl_certfile is None:
            return
        files = (settings.ssl_certfile, settings.ssl_keyfile, _no_password)
        try:
            # First in another context: a key without its certificate would fail every handshake.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
            context.load_cert_chain(*files)
        except OSError as error:  # ssl.SSLError is one
            logger.error("the TLS files were not read again, the old ones serve on: %s", error)


def _no_password() -> str:
    """Refuses a key with a password: there is no one to type it."""
    return ""
