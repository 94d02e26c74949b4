"""Many uploads at once, each at a trickle: how much memory does a waiting upload hold?"""

import os
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.job import Job, Step
from bench.wire import Connection, RequestFailed, finish_answer, head, read_answer

PIECE = 32 << 10


@dataclass
class Trickle:
    """One upload: its connection and how much of its body is sent."""

    sock: socket.socket
    sent: int = 0


def begin(job: Job, steps: tuple[Step, ...]) -> Trickle:
    """Does every request before the last one, then sends the last one's head."""
    connection = Connection(job.port, None, job.timeout)
    location = ""
    for step in steps[:-1]:
        sock = connection.open()
        sock.sendall(head(step, step.path, job.size))
        answer = read_answer(sock)
        if not 200 <= answer.status < 300:
            raise RequestFailed(f"{step.method} {step.path}: {answer.status}")
        finish_answer(sock, answer)
        location = answer.headers.get("location", location)
    last = steps[-1]
    path = urlsplit(location).path if last.path == "@location" else last.path
    sock = connection.open()
    sock.sendall(head(last, path, job.size) + last.prefix.encode())
    return Trickle(sock)


def advance(trickle: Trickle, data: bytes, due: int, suffix: bytes) -> bool:
    """Sends up to `due` bytes of the body in all; true once the body is complete."""
    while trickle.sent < due:
        piece = data[trickle.sent : min(trickle.sent + PIECE, due)]
        try:
            trickle.sent += trickle.sock.send(piece, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
    if trickle.sent < len(data):
        return False
    trickle.sock.sendall(suffix)
    return True


def send_all(trickles: list[Trickle], data: bytes, duration: float, suffix: bytes) -> None:
    """Paces all bodies evenly over `duration` seconds, a piece at a time, spread over the time."""
    started = time.monotonic()
    open_ones = dict(enumerate(trickles))
    pieces = max(1, len(data) // PIECE)
    while open_ones:
        share = (time.monotonic() - started) / duration
        for index, trickle in list(open_ones.items()):
            lag = index / len(trickles)
            step = min(pieces, max(0, int(share * pieces + 1 - lag)))
            due = len(data) if step == pieces else step * PIECE
            if advance(trickle, data, due, suffix):
                del open_ones[index]
        time.sleep(duration / pieces / 4)


def collect(trickles: list[Trickle], timeout: float) -> list[int]:
    statuses = []
    with selectors.DefaultSelector() as selector:
        for trickle in trickles:
            selector.register(trickle.sock, selectors.EVENT_READ)
        deadline = time.monotonic() + timeout
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                selector.unregister(sock)
                statuses.append(read_answer(sock).status)
    return statuses


def slow_uploads(job: Job) -> dict[str, Any]:
    with open(job.source, "rb") as file:
        data = os.pread(file.fileno(), job.size, 0)
    trickles: list[Trickle] = []
    started = time.monotonic()
    try:
        trickles.extend(begin(job, steps) for steps in job.uploads)
        suffix = job.uploads[0][-1].suffix.encode()
        send_all(trickles, data, job.duration, suffix)
        statuses = collect(trickles, 60.0)
    except (OSError, RequestFailed, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error} ({len(trickles)} connections)"}
    finally:
        for trickle in trickles:
            trickle.sock.close()
    good = sum(1 for status in statuses if 200 <= status < 300)
    if good != len(job.uploads):
        return {"error": f"only {good} of {len(job.uploads)} slow uploads were answered with 2xx"}
    return {"seconds": time.monotonic() - started, "digest": None}
