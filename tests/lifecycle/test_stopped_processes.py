"""Processes that are stopped (SIGSTOP), perhaps with a lock in their hands: the others go on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from e2e.server import ServerProcess
from raw_http import Answer

Start = Callable[..., ServerProcess]
REPLACE = {"If-Match": "*"}


def test_a_lock_on_names_that_is_not_let_go_of_holds_up_no_download_and_no_start(
    start_server: Start, store_folder: Path
) -> None:
    """Bug: all threads of all processes waited for it, downloads included, and so did a start."""
    server = start_server("--durability", "relaxed", "--allow-delete", "--threads", "4")
    assert server.request("PUT", "/files/a.bin", b"old")[0] == 201
    lock = os.open(store_folder / ".forebay" / "names.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)  # as a process does that is stopped within
    answers: list[Answer] = []

    def replace() -> None:
        answers.append(server.request("PUT", "/files/a.bin", b"new", REPLACE))

    threads = [threading.Thread(target=replace) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert server.request("GET", "/files/a.bin")[2] == b"old"
    assert server.request("PUT", "/files/b.bin", b"abc")[0] == 201  # needs no lock
    for thread in threads:
        thread.join()
    for status, headers, answer in answers:
        assert (status, json.loads(answer)["code"]) == (503, "FB_STORAGE_BUSY")
        assert int(headers["retry-after"]) >= 1
    assert server.request("DELETE", "/files/a.bin")[0] == 503
    another = start_server("--durability", "relaxed")
    assert another.request("GET", "/files/a.bin")[2] == b"old"
    assert another.request("PUT", "/files/c.bin", b"abc")[0] == 201
    os.close(lock)
    assert server.request("DELETE", "/files/a.bin")[0] == 204


def test_a_stopped_process_holds_up_neither_the_others_nor_the_end(start_server: Start) -> None:
    server = start_server("--durability", "relaxed", "--workers", "2", "--drain-timeout", "1")
    server.request("PUT", "/files/a.bin", b"abc")
    os.kill(server.processes()[1], signal.SIGSTOP)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 1
    assert "did not end in time" in server.log
