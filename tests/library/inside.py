"""Real servers in the process of the test, each in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from forebay.http.direct import DirectProtocol


class Serving:
    """An application on a free port of loopback, until `stop`."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def connect(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection(self.address, timeout)


def _listening() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()
    return f"http://{host}:{port}"


@contextlib.contextmanager
def by_uvicorn(app: Any, http: Any, lifespan: str) -> Iterator[Serving]:
    config = uvicorn.Config(
        app,
        http=http,
        lifespan=lifespan,
        log_config=None,
        access_log=False,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    listening = _listening()
    up = threading.Event()
    original = server.startup

    async def startup(*args: Any, **kwargs: Any) -> None:
        await original(*args, **kwargs)
        up.set()

    server.startup = startup  # type: ignore[method-assign]

    def run() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            up.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert up.wait(20)
    assert server.started, "the application did not start"
    try:
        yield Serving(_url_of(listening))
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@contextlib.contextmanager
def by_hypercorn(app: Any) -> Iterator[Serving]:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listening = _listening()
    listening.listen()
    config = Config()
    url = _url_of(listening)
    config.bind = [f"fd://{listening.detach()}"]  # which hypercorn closes
    config.errorlog = None
    config.graceful_timeout = 1
    ended: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []
    up = threading.Event()

    async def main() -> None:
        ended.append(asyncio.Event())
        loops.append(asyncio.get_running_loop())
        up.set()
        await serve(app, config, shutdown_trigger=ended[0].wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert up.wait(20)
    try:
        yield Serving(url)
    finally:
        loops[0].call_soon_threadsafe(ended[0].set)
        thread.join(20)


@contextlib.contextmanager
def by_granian(app: Any) -> Iterator[Serving]:
    embed = pytest.importorskip("granian.server.embed")
    with _listening() as found:
        port = found.getsockname()[1]
    loops: list[asyncio.AbstractEventLoop] = []
    server = embed.Server(app, port=port, interface="asgi", log_enabled=False)

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.01)
    try:
        yield Serving(f"http://127.0.0.1:{port}")
    finally:
        loops[0].call_soon_threadsafe(server.stop)
        thread.join(20)


@contextlib.contextmanager
def serving(app: Any, server: str = "direct", lifespan: str = "on") -> Iterator[Serving]:
    """`server`: direct, uvicorn, hypercorn or granian; the last two ask for a lifespan always."""
    if server == "hypercorn":
        running = by_hypercorn(app)
    elif server == "granian":
        running = by_granian(app)
    else:
        running = by_uvicorn(app, DirectProtocol if server == "direct" else "httptools", lifespan)
    with running as found:
        yield found
