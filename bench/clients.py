"""The client, a process of its own so that its CPU time is nobody else's.

`python -m bench.clients` reads a job as JSON from standard input and answers in JSON. The clock
runs from the first byte sent until the status of the last answer was read and found to be 2xx.
"""

import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.job import Job, Step
from bench.latency import requests, takeovers
from bench.slow import slow_uploads
from bench.wire import (
    PIECE,
    Answer,
    Connection,
    RequestFailed,
    body_edges,
    finish_answer,
    framed_size,
    head,
    read_answer,
    send_file,
)


@dataclass
class Outcome:
    started: float = 0.0
    ended: float = 0.0
    status: int = 0
    error: str | None = None
    digest: str | None = None


def request(connection: Connection, step: Step, path: str, job: Job, file: int) -> Answer:
    """Sends one request and reads its answer; an early answer to a body is preferred to a reset."""
    sock = connection.open()
    before, after = body_edges(step, job.size) if step.body else (b"", b"")
    size = framed_size(job.size) if step.framing == "chunks" else step.body_size(job.size)
    try:
        sock.sendall(head(step, path, job.size) + before)
        if step.body:
            send_file(sock, file, size, step.start)
        if after:
            sock.sendall(after)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the answer may be there all the same
    answer = read_answer(sock)
    if not 200 <= answer.status < 300:
        raise RequestFailed(f"{step.method} {path}: {answer.status} {answer.rest[:200]!r}")
    return answer


def next_path(step: Step, location: str) -> str:
    return urlsplit(location).path if step.path == "@location" else step.path


def upload(job: Job, steps: tuple[Step, ...], barrier: threading.Barrier, out: Outcome) -> None:
    connection = Connection(job.port, job.certificate, job.timeout)
    file = os.open(job.source, os.O_RDONLY)
    try:
        connection.open()
        barrier.wait()
        out.started = time.monotonic()
        location = ""
        for index, step in enumerate(steps):
            answer = request(connection, step, next_path(step, location), job, file)
            location = answer.headers.get("location", location)
            out.status = answer.status
            if index + 1 < len(steps):
                finish_answer(connection.open(), answer)
                if answer.headers.get("connection", "").lower() == "close":
                    connection.close()
        out.ended = time.monotonic()
    except (OSError, RequestFailed, ValueError, IndexError) as error:
        out.error = f"{type(error).__name__}: {error}"
        if not out.started:
            barrier.abort()
    except threading.BrokenBarrierError:
        out.error = "not started: another upload failed to connect"
    finally:
        connection.close()
        os.close(file)


def download(job: Job, steps: tuple[Step, ...], barrier: threading.Barrier, out: Outcome) -> None:
    """Reads a whole body. Without a digest the kernel drops the bytes instead of copying them."""
    connection = Connection(job.port, job.certificate, job.timeout)
    buffer = bytearray(PIECE)
    flags = 0 if job.digest or job.certificate else socket.MSG_TRUNC
    digest = hashlib.sha256()
    try:
        sock = connection.open()
        barrier.wait()
        out.started = time.monotonic()
        answer = request(connection, steps[0], steps[0].path, job, -1)
        if answer.length != job.size:
            raise RequestFailed(f"Content-Length is {answer.length}, not {job.size}")
        digest.update(answer.rest)
        left = job.size - len(answer.rest)
        while left > 0:
            n = sock.recv_into(buffer, min(left, PIECE), flags)
            if n == 0:
                raise RequestFailed(f"{left} bytes are missing")
            if job.digest:
                digest.update(memoryview(buffer)[:n])
            left -= n
        out.ended = time.monotonic()
        out.status = answer.status
        out.digest = digest.hexdigest() if job.digest else None
    except (OSError, RequestFailed, ValueError) as error:
        out.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def run_threads(job: Job) -> list[Outcome]:
    work = download if job.kind == "download" else upload
    outcomes = [Outcome() for _ in job.uploads]
    barrier = threading.Barrier(len(job.uploads))
    threads = [
        threading.Thread(target=work, args=(job, steps, barrier, out), daemon=True)
        for steps, out in zip(job.uploads, outcomes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


ALONE: dict[str, Callable[[Job], dict[str, Any]]] = {
    "slow": slow_uploads,
    "requests": requests,
    "takeover": takeovers,
}


def run(job: Job) -> dict[str, Any]:
    if job.kind in ALONE:
        return ALONE[job.kind](job)
    outcomes = run_threads(job)
    errors = [out.error for out in outcomes if out.error]
    if errors:
        first = next((text for text in errors if not text.startswith("not started")), errors[0])
        return {"error": f"{len(errors)} of {len(outcomes)} uploads failed: {first}"}
    return {
        "seconds": max(out.ended for out in outcomes) - min(out.started for out in outcomes),
        "digest": outcomes[0].digest,
    }


if __name__ == "__main__":
    print(json.dumps(run(Job.from_json(json.load(sys.stdin)))))
