"""Open files and memory: as many as there may be, and a word where they are few."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from forebay.http.answers import answer_error

Start = Callable[..., ServerProcess]


def open_files(pid: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            soft, hard = line.split()[3:5]
            return int(soft), int(hard)
    raise AssertionError


@pytest.fixture
def few_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(soft: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_of_open_files_is_raised_at_start(
    start_server: Start, few_files: Callable[[int], None]
) -> None:
    few_files(300)
    server = start_server()
    soft, hard = open_files(server.pid)
    assert soft == min(hard, 1 << 16)
    assert "--max-uploads" not in server.log or hard < 3128


def test_uploads_that_the_hard_limit_cannot_hold_are_told(tmp_path: Path) -> None:
    serve = f"exec {sys.executable} -m forebay serve {tmp_path} --port 0"
    with subprocess.Popen(
        ["sh", "-c", f"ulimit -n 600; {serve} --max-uploads 1000"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "http://" in line:
                break
        process.terminate()
        process.stderr.read()
    text = "".join(lines)
    assert "--max-uploads" in text and "LimitNOFILE" in text and "157" in text


def test_a_request_that_finds_no_memory_is_told_so() -> None:
    scope = {"method": "PUT", "raw_path": b"/files/a", "path": "/files/a", "headers": []}
    answer = answer_error(MemoryError(), scope)
    assert answer.status == 503
    assert (b"retry-after", b"5") in answer.headers
    assert b"FB_OUT_OF_MEMORY" in answer.body
