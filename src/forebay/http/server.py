"""`forebay serve`: sockets, worker processes, signals, and a shutdown that loses nothing."""

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

from forebay.backends import make_store
from forebay.config import Settings, changes_needing_restart, only_live_changes
from forebay.engine.engine import Engine
from forebay.engine.maintenance.background import Background
from forebay.engine.transfer.admission import Tally
from forebay.errors import ConfigError, ForebayError
from forebay.http.app import ServerApp
from forebay.http.descriptors import raise_limit
from forebay.http.direct import DirectProtocol
from forebay.http.limits import ConnectionLimits
from forebay.http.logs import set_up
from forebay.standard_error import say

logger = logging.getLogger("forebay")

Loader = Callable[[], Settings]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(settings: Settings, loader: Loader) -> int:
    """Serves until a signal ends it; returns the exit code.

    SIGTERM or SIGINT: stop accepting, let uploads finish within `drain_timeout`, 0. A second
    one ends the process at once. SIGHUP: `loader` reads the settings again.
    Raises ConfigError when the address cannot be listened on, StorageError when the folder
    cannot be used.
    """
    set_up(settings.log_level, settings.log_format, access_log=settings.access_log)
    raise_limit(settings)
    make_store(settings).close()  # a wrong folder is told before anything is listened on
    listener = listen(settings)
    # They wait until somebody can act on them: whoever reads the line may send one at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    announce(settings, listener)
    try:
        if settings.workers == 1:
            return serve_one(settings, loader, listener, Tally())
        from forebay.http.supervisor import supervise

        return supervise(settings, loader, listener)
    finally:
        listener.close()


def listen(settings: Settings) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} (--host, --port): {error.strerror}"
        ) from error
    return listener


def announce(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.ssl_certfile else "http"
    shown = f"[{host}]" if ":" in host else host
    plural = "s" if settings.workers > 1 else ""
    line = (
        f"Forebay listens on {scheme}://{shown}:{port} and stores in "
        f"{os.path.abspath(settings.dir)} ({settings.durability}, "
        f"{settings.workers} worker{plural})"
    )
    say(line)  # the one line that a person waits for


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def limits_of(settings: Settings) -> ConnectionLimits:
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
    """One server process: its own store, engine and event loop, on a shared listener.

    `lifeline` is for a process with a supervisor: a descriptor at whose end that one is gone.
    """
    store = make_store(settings)
    engine = Engine(settings, store, tally=tally)

    class Protocol(DirectProtocol):
        limits = limits_of(settings)

    ending = contextlib.AsyncExitStack()

    async def start() -> None:
        background = Background(engine.context, engine.state, store)
        ending.push_async_callback(engine.close_uploads)
        ending.push_async_callback(background.stop)
        await background.start(state=settings.resumable)
        # What start-up made stays for good; collections need not look at it again.
        gc.collect()
        gc.freeze()
        # A request leaves no cycles behind, so looking for them often is work for nothing.
        gc.set_threshold(10_000, 20, 50)

    app = ServerApp(
        engine,
        listening_on_loopback=is_loopback(settings.host),
        on_startup=start,
        on_shutdown=ending.aclose,
    )
    config = uvicorn.Config(
        app,
        http=Protocol,
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._orphaned, loop, self._lifeline)
        await super().startup(sockets=sockets)

    def _orphaned(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        """Nobody could end us any more, and we would keep the port from the next server."""
        loop.remove_reader(lifeline)
        logger.error("the parent process is gone; draining")
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not noted for uvicorn to raise again: a drained server has ended well, with 0.
        # With a supervisor, that one counts: a signal to the whole group comes here twice.
        if self.should_exit and self._lifeline is None:
            os._exit(128 + sig)  # asked twice: unnamed temporaries vanish by themselves
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
        """Takes over what may change while running; says what needs a restart."""
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
        """Renewed files serve the connections to come; those that run keep theirs."""
        context = self.config.ssl
        if context is None or settings.ssl_certfile is None:
            return
        files = (settings.ssl_certfile, settings.ssl_keyfile, _no_password)
        try:
            # First into another: half a pair in the one that serves would end every handshake.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
            context.load_cert_chain(*files)
        except OSError as error:  # ssl.SSLError is one
            logger.error("the TLS files were not read again, the old ones serve on: %s", error)


def _no_password() -> str:
    """A key that wants one is refused; nobody is there to be asked."""
    return ""


__all__ = ["Server", "listen", "run", "serve_one"]
