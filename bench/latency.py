"""The client's jobs that time each request by itself."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.contenders.base import TUS
from bench.job import Job, Step
from bench.measure import ProcessTree
from bench.wire import Answer, Connection, RequestFailed, finish_answer, head, read_answer

TRIES = 200
"""Connections that are made at most until another process of the server accepts one."""
SETTLED = 0.02
"""Seconds between the server's last read and the take-over, so that its write is done."""


def ask(connection: Connection, step: Step, path: str, body: bytes = b"") -> Answer:
    """One request on a connection that stays usable. Raises RequestFailed unless it is 2xx."""
    sock = connection.open()
    sock.sendall(head(step, path, len(body)) + body)
    answer = read_answer(sock)
    if not 200 <= answer.status < 300:
        raise RequestFailed(f"{step.method} {path}: {answer.status} {answer.rest[:200]!r}")
    if step.method != "HEAD":
        finish_answer(sock, answer)
    if answer.headers.get("connection", "").lower() == "close":
        connection.close()
    return answer


def requests(job: Job) -> dict[str, Any]:
    """The steps of one upload, each timed from its first byte sent to its answer's head."""
    connection = Connection(job.port, job.certificate, job.timeout)
    latencies = []
    try:
        for step in job.uploads[0]:
            connection.open()
            started = time.perf_counter()
            ask(connection, step, step.path)
            latencies.append(time.perf_counter() - started)
    except (OSError, RequestFailed, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    return {"latencies": latencies}


# --- who has the other end of a connection --------------------------------------------------


@dataclass
class FarEnd:
    """The server's socket of one of our connections."""

    inode: str
    unread: int

    @classmethod
    def of(cls, sock: socket.socket, port: int) -> "FarEnd":
        """Raises RequestFailed when the kernel does not list it."""
        ours = sock.getsockname()[1]
        wanted = (f"0100007F:{port:04X}", f"0100007F:{ours:04X}")
        with open("/proc/net/tcp", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if (fields[1], fields[2]) == wanted:
                    return cls(fields[9], int(fields[4].partition(":")[2], 16))
        raise RequestFailed("the server's end of the connection is gone")


def owner(inode: str, pids: list[int]) -> int | None:
    """The process that has a socket open; None as long as nobody has accepted it."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{name}") == f"socket:[{inode}]":
                        return pid
    return None


# --- taking over ----------------------------------------------------------------------------


class Takeovers:
    """A stalled PATCH on one connection; HEAD and the rest on another."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.create, self.patch = job.uploads[0]
        self.pids = ProcessTree(job.server_pid).pids()
        with open(job.source, "rb") as file:
            self.data = file.read(job.size)
        self.second: dict[int, Connection] = {}
        """Connections to take over with, by the process that accepted them."""

    def connection(self) -> Connection:
        return Connection(self.job.port, self.job.certificate, self.job.timeout)

    def owner(self, connection: Connection) -> int:
        far = FarEnd.of(connection.open(), self.job.port)
        pid = owner(far.inode, self.pids)
        if pid is None:
            raise RequestFailed("cannot see which process of the server has a connection")
        return pid

    def begin(self, stalled: Connection) -> str:
        """Creates an upload; its path."""
        answer = ask(stalled, self.create, self.create.path)
        return urlsplit(answer.headers["location"]).path

    def connection_beside(self, first: int) -> Connection:
        """One that the process `first` has, or with `across` one that it has not."""
        for pid, connection in self.second.items():
            if (pid != first) == self.job.across:
                return connection
        collection = self.create.path
        for _ in range(TRIES):
            connection = self.connection()
            # An answer means that it was accepted.
            ask(connection, Step("OPTIONS", collection, (TUS,)), collection)
            pid = self.owner(connection)
            if (pid != first) == self.job.across:
                self.second[pid] = connection
                return connection
            connection.close()
        raise RequestFailed(f"none of {TRIES} connections went to another process")

    def stall(self, connection: Connection, path: str) -> None:
        """Sends half of a PATCH, and waits until the server has read all of it."""
        sock = connection.open()
        half = len(self.data) // 2
        sock.sendall(head(self.patch, path, len(self.data)) + self.data[:half])
        deadline = time.monotonic() + self.job.timeout
        while FarEnd.of(sock, self.job.port).unread:
            if time.monotonic() > deadline:
                raise RequestFailed("the server does not read the body")
            time.sleep(0.002)
        time.sleep(SETTLED)

    def once(self) -> float:
        """Seconds from the HEAD to its answer. The upload is completed after it."""
        stalled = self.connection()
        try:
            path = self.begin(stalled)
            other = self.connection_beside(self.owner(stalled))
            self.stall(stalled, path)
            other.open()
            started = time.perf_counter()
            answer = ask(other, Step("HEAD", path, (TUS,)), path)
            seconds = time.perf_counter() - started
            offset = int(answer.headers["upload-offset"])
            if offset > len(self.data) // 2:
                raise RequestFailed(f"{offset} bytes are acknowledged, fewer were sent")
            self.finish(other, path, offset)
            return seconds
        finally:
            stalled.close()
            self.forget_closed()

    def finish(self, connection: Connection, path: str, offset: int) -> None:
        headers = tuple(
            (name, str(offset) if name == "Upload-Offset" else value)
            for name, value in self.patch.headers
        )
        answer = ask(connection, Step("PATCH", path, headers, body=True), path, self.data[offset:])
        if answer.headers.get("upload-offset") != str(len(self.data)):
            raise RequestFailed("the upload that was taken over is not whole")

    def forget_closed(self) -> None:
        self.second = {pid: one for pid, one in self.second.items() if one.sock is not None}

    def all(self) -> Iterator[float]:
        try:
            for _ in range(self.job.repeat):
                yield self.once()
        finally:
            for connection in self.second.values():
                connection.close()


def takeovers(job: Job) -> dict[str, Any]:
    try:
        return {"latencies": list(Takeovers(job).all())}
    except (OSError, RequestFailed, ValueError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
