"""`forebay serve`: the listening socket, and one server process or several."""

from __future__ import annotations

import os
import signal
import socket

from forebay.backends import make_store
from forebay.config import Settings
from forebay.engine.transfer.admission import Tally
from forebay.errors import ConfigError
from forebay.http.descriptors import raise_limit
from forebay.http.logs import set_up
from forebay.http.process import SIGNALS, Loader, serve_one
from forebay.http.supervisor import supervise
from forebay.standard_error import say

__all__ = ["listen", "run"]


def run(settings: Settings, loader: Loader) -> int:
    """Serves until a signal ends it; returns the exit code.

    SIGTERM or SIGINT: stops accepting, lets uploads finish within `drain_timeout`, returns 0. A
    second one ends the process at once. SIGHUP: `loader` reads the settings again.
    Raises ConfigError when the address cannot be listened on, StorageError when the folder
    cannot be used.
    """
    set_up(settings.log_level, settings.log_format, access_log=settings.access_log)
    raise_limit(settings)
    make_store(settings).close()  # reports a wrong folder before listening
    listener = listen(settings)
    # Signals wait until a process handles them: a reader of the line may send one at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    announce(settings, listener)
    try:
        if settings.workers == 1:
            return serve_one(settings, loader, listener, Tally())
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
    """Prints the address to standard error: the one line that a person waits for."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.ssl_certfile else "http"
    shown = f"[{host}]" if ":" in host else host
    plural = "s" if settings.workers > 1 else ""
    line = (
        f"Forebay listens on {scheme}://{shown}:{port} and stores in "
        f"{os.path.abspath(settings.dir)} ({settings.durability}, "
        f"{settings.workers} worker{plural})"
    )
    say(line)
