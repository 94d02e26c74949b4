"""Clients that upload until the server is gone or they are told to stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
from collections.abc import Iterator, Sequence

from durability.content import content, digest
from durability.history import Attempt, History

SIZES = (0, 1, 100, 4096, 70_000, 1 << 20, 3_000_000, 9_000_001, 20 << 20)
_WEIGHTS = (2, 2, 4, 6, 6, 5, 4, 2, 1)
_PIECE = 200_000


class Client(threading.Thread):
    """One after the other, on a connection that is kept while it lasts.

    A part of its uploads is aimed at names that other clients want too.
    """

    def __init__(
        self,
        port: int,
        history: History,
        rng: random.Random,
        label: str,
        shared: Sequence[str],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=label, daemon=True)
        self._port = port
        self._history = history
        self._rng = rng
        self._label = label
        self._shared = shared
        self._stopping = stop
        self.unexpected: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        try:
            while not self._stopping.is_set():
                self._upload(connection, number)
                number += 1
        except (OSError, http.client.HTTPException):
            return  # killed
        finally:
            connection.close()

    def _upload(self, connection: http.client.HTTPConnection, number: int) -> None:
        rng = self._rng
        seed = f"{self._label}-{number}"
        size = rng.choices(SIZES, _WEIGHTS)[0]
        target = rng.choice(self._shared) if rng.random() < 0.35 else f"{seed}.bin"
        method = rng.choice(("PUT", "PUT", "POST"))
        chunked = rng.random() < 0.3
        body = content(seed, size)
        attempt = self._history.begin(
            target, method, seed, size, digest(seed, size), chunked=chunked
        )
        folder, _, base = target.rpartition("/")
        place = f"/files/{folder}/" if folder else "/files/"
        path = f"/files/{target}" if method == "PUT" else f"{place}?name={base}"
        if chunked:
            connection.request(method, path, _pieces(body), encode_chunked=True)
        else:
            connection.request(method, path, body)
        response = connection.getresponse()
        answer = response.read()
        self._note(attempt, response.status, answer)

    def _note(self, attempt: Attempt, status: int, answer: bytes) -> None:
        name: str | None = None
        if status in (200, 201):
            name = json.loads(answer)["name"]
        elif status not in (409, 503):
            self.unexpected.append(f"{attempt.method} {attempt.target}: {status} {answer!r}")
        self._history.end(attempt, status, name)


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


@contextlib.contextmanager
def traffic(port: int, history: History, rng: random.Random, label: str) -> Iterator[list[Client]]:
    """Five clients, until the block ends."""
    stop = threading.Event()
    shared = [f"{label}-shared-{n}.bin" for n in range(3)] + [f"{label}-folder/shared.bin"]
    clients = [
        Client(port, history, random.Random(rng.random()), f"{label}-c{n}", shared, stop)
        for n in range(5)
    ]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        stop.set()
        for client in clients:
            client.join(90)
    stuck = [client.name for client in clients if client.is_alive()]
    assert not stuck, f"clients never heard of the end of the server: {stuck}"
    unexpected = [line for client in clients for line in client.unexpected]
    assert not unexpected, unexpected
