"""Uploads that are held in the middle, so that something can happen meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from e2e.server import ServerProcess
from raw_http import RawClient


class HeldUpload:
    """A PUT whose head is admitted and of whose body only a part was sent so far."""

    def __init__(self, server: ServerProcess, name: str, body: bytes, first: int = 0) -> None:
        self.body = body
        self.sent = 0
        self.client = RawClient(server, timeout=90)
        self.client.send(
            b"PUT /files/%s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % (name.encode(), len(body))
        )
        status, fields = self.client.head()
        if status != 100:
            self.client.close()
            raise AssertionError(f"not admitted but {status} {fields}\n{server.log}")
        self.send(first)

    def send(self, size: int) -> None:
        self.client.send(self.body[self.sent : self.sent + size])
        self.sent += size

    def finish(self) -> tuple[int, bytes]:
        """Sends the rest; status and body of the answer."""
        with contextlib.suppress(OSError):  # what it is told may still be read
            self.send(len(self.body) - self.sent)
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        with self.client:
            status, _, answer = self.client.response()
        return status, answer

    def answer_or_end(self) -> int | None:
        """The status, or None when the connection just ended."""
        try:
            return self.answer()[0]
        except (OSError, EOFError):
            return None


def ready(server: ServerProcess) -> ServerProcess:
    """Once every worker process answers (each sweeps first)."""
    assert server.request("GET", "/healthz")[0] == 200
    return server


def eventually(what: str, holds: Callable[[], bool], timeout: float = 60) -> None:
    """Waits for something that is about to be so."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether that process runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def refused(server: ServerProcess) -> bool:
    try:
        server.connect(5).close()
    except ConnectionRefusedError:
        return True
    return False
