"""The parent of several server processes, when the machine is short of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from e2e.server import ServerProcess


class FailingForks(ServerProcess):
    def command(self, *options: str) -> list[str]:
        script = str(Path(__file__).with_name("failing_forks.py"))
        return [sys.executable, script, "serve", str(self.folder), "--port", "0", *options]


def children(server: ServerProcess) -> list[int]:
    return server.processes()[1:]


def wait_for(server: ServerProcess, count: int) -> None:
    for _ in range(400):
        if len(children(server)) == count:
            return
        time.sleep(0.05)
    raise AssertionError(server.log)


def test_a_process_that_cannot_be_started_is_started_later(store_folder: Path):
    """The first at the start, the third when one that has died is to be replaced."""
    server = FailingForks(store_folder, "--workers", "2", "--durability", "relaxed")
    try:
        wait_for(server, 2)
        assert server.request("PUT", "/files/a", b"a")[0] == 201
        os.kill(children(server)[0], signal.SIGKILL)
        server.wait_for_log("ended with -9")
        wait_for(server, 2)
        assert server.request("PUT", "/files/b", b"b")[0] == 201
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
