"""`python -m bench.walk`: the files and functions that a request runs through, in their order.

Serves in this process, sends one request of each kind to itself, and notes every call into
`forebay` from the moment when the request arrives until its answer is here, in all threads.
What is counted are distinct files and distinct functions, not calls.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

import forebay
from forebay.backends import make_locks, make_sessions, make_store
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.maintenance.background import Background
from forebay.http.app import ServerApp
from forebay.http.direct import DirectProtocol

_ROOT = os.path.dirname(forebay.__file__) + os.sep
_PIECE = b"x" * (8 << 20)
_TUS = "Tus-Resumable: 1.0.0\r\n"


class Trace:
    """The functions of `forebay` that are called while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.functions: dict[tuple[str, str], None] = {}

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call":
            code = frame.f_code
            # A comprehension is a part of its function, whatever the interpreter makes of it.
            if code.co_filename.startswith(_ROOT) and not code.co_name.startswith("<"):
                file = code.co_filename.removeprefix(_ROOT)
                self.functions.setdefault((file, code.co_qualname))

    @property
    def files(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file, function in self.functions:
            found.setdefault(file, []).append(function)
        return found


class Client:
    """One connection to the server in this process."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))

    def ask(self, head: str, body: bytes = b"") -> str:
        """Sends a request; the head of the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self._socket.sendall(f"{head}\r\nHost: localhost\r\n{length}\r\n".encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(65536)
        read, _, rest = answer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in read.decode().split("\r\n")[1:])
        left = int(fields.get("content-length", "0")) - len(rest)
        while left > 0:
            left -= len(self._socket.recv(min(left, 1 << 20)))
        return read.decode()


def requests(client: Client) -> Iterator[tuple[str, str, bytes]]:
    """A name, a head and a body of each request whose walk is noted."""
    yield "PUT of a file", "PUT /files/a.bin HTTP/1.1", _PIECE
    created = client.ask(f"POST /uploads/ HTTP/1.1\r\n{_TUS}Upload-Length: {3 * len(_PIECE)}")
    place = next(
        line.split(": ")[1] for line in created.split("\r\n") if line.lower().startswith("location")
    )

    def patch(offset: int) -> str:
        kind = "Content-Type: application/offset+octet-stream"
        return f"PATCH {place} HTTP/1.1\r\n{_TUS}{kind}\r\nUpload-Offset: {offset}"

    client.ask(patch(0), _PIECE)
    yield "PATCH in the middle of a tus upload", patch(len(_PIECE)), _PIECE
    yield "last PATCH of a tus upload", patch(2 * len(_PIECE)), _PIECE
    form = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
        + _PIECE
        + b"\r\n--b--\r\n"
    )
    kind = "Content-Type: multipart/form-data; boundary=b"
    yield "form with one file", f"POST /files/ HTTP/1.1\r\n{kind}", form
    yield "GET of a file", "GET /files/a.bin HTTP/1.1", b""


async def serve(folder: str, port: socket.socket, ready: Callable[[Any], None]) -> None:
    settings = Settings(dir=folder, min_free=0, access_log=False)
    store = make_store(settings)
    engine = Engine(settings, store, locks=make_locks(store))
    background = Background(engine.context, engine.state, lambda: make_sessions(settings, store))
    await background.start(state=True)
    app = ServerApp(engine, listening_on_loopback=True)
    config = uvicorn.Config(app, http=DirectProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    ready(server)
    await server.serve(sockets=[port])
    await background.stop()
    await engine.close_uploads()
    engine.close()
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", action="store_true", help="name the functions, too")
    options = parser.parse_args()
    trace = Trace()
    threading.setprofile(trace.profile)
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(
            target=lambda: asyncio.run(serve(folder, listener, servers.append))
        )
        thread.start()
        client = Client(listener.getsockname()[1])
        client.ask("GET /healthz HTTP/1.1")
        for name, head, body in requests(client):
            trace.functions = {}
            trace.on = True
            answer = client.ask(head, body)
            trace.on = False
            show(name, answer.split("\r\n")[0], trace, functions=options.functions)
        servers[0].should_exit = True
        thread.join()


def show(name: str, status: str, trace: Trace, *, functions: bool) -> None:
    files = trace.files
    print(f"\n{name} ({status}): {len(files)} files, {len(trace.functions)} functions")
    for file, called in files.items():
        print(f"  {Path(file).as_posix():40} {len(called):3}")
        if functions:
            print("".join(f"      {function}\n" for function in called), end="")


if __name__ == "__main__":
    sys.exit(main())
