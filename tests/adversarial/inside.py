"""`DirectProtocol` in the process of the test, so that what it holds can be looked at."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from forebay.http.direct import DirectProtocol
from forebay.http.limits import ConnectionLimits
from raw_http import AsyncRawClient


class Served:
    """Who listens, and all connections that are still alive."""

    def __init__(self, app: Any, limits: ConnectionLimits, **options: Any) -> None:
        options = {"lifespan": "off", "log_config": None, "access_log": False, **options}
        self.config = uvicorn.Config(app, http=DirectProtocol, **options)
        self.config.load()
        self.state = ServerState()
        self.alive: weakref.WeakSet[DirectProtocol] = weakref.WeakSet()
        served = self

        class Protocol(DirectProtocol):
            def __init__(self) -> None:
                super().__init__(served.config, served.state, {})
                served.alive.add(self)

        Protocol.limits = limits
        self.protocol = Protocol
        self.port = 0

    def connect(self, **options: int) -> socket.socket:
        """A blocking client: for use in threads, or for what cannot block."""
        client = socket.socket()
        client.settimeout(20)
        for name, value in options.items():
            client.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        client.connect(("127.0.0.1", self.port))
        return client

    async def ask(self, request: bytes, *, half_close: bool = False) -> bytes:
        """All that the server answers until it closes."""
        async with self.client() as client:
            client.writer.write(request)
            if half_close:
                client.half_close()
            return await asyncio.wait_for(client.read_all(), 20)

    def client(self) -> AsyncRawClient:
        return AsyncRawClient("127.0.0.1", self.port)

    async def idle(self) -> bool:
        return await eventually(lambda: not self.state.connections and not self.state.tasks)


async def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.005)
    return True


@contextlib.asynccontextmanager
async def serving(
    app: Any, limits: ConnectionLimits | None = None, **options: Any
) -> AsyncIterator[Served]:
    served = Served(app, limits or ConnectionLimits(), **options)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(served.protocol, "127.0.0.1", 0, ssl=served.config.ssl)
    served.port = listener.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listener.close()
        for connection in list(served.state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        for task in list(served.state.tasks):
            task.cancel()
        await served.idle()


async def answer(send: Any, body: bytes = b"ok", status: int = 200, *fields: Any) -> None:
    headers = [(b"content-length", b"%d" % len(body)), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def read_all(client: socket.socket) -> bytes:
    """Until the server closes. For a thread."""
    got = b""
    while data := client.recv(1 << 20):
        got += data
    return got
