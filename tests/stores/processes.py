"""Starts `worker.py` beside a test, and ends it whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

WORKER = str(Path(__file__).parent / "worker.py")


def command(folder: Path, kind: str, *arguments: str) -> list[str]:
    # The interpreter itself: a wrapper in its place would be traced as well.
    return [os.path.abspath(sys.executable), WORKER, str(folder), kind, *arguments]


@contextlib.contextmanager
def worker(
    folder: Path, kind: str, *arguments: str, umask: int = -1
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(folder, kind, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        umask=umask,
    )
    try:
        with process:
            yield process
            # else a reader of the pipe could wait for ever
            process.kill()
    finally:
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def nudge(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    found = []
    while (each := line(process)) != last:
        assert each, f"the worker ended early: {process.wait()}"
        found.append(each)
    return found


def start_together(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert line(process) == "ready"
    for process in processes:
        nudge(process)


def kill(process: subprocess.Popen[str]) -> None:
    """With SIGKILL; its locks are free when this returns."""
    process.kill()
    process.wait()
