"""The parent of several server processes, when the machine is short of them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from e2e.server import ServerProcess
from waiting import wait_for


class FailingForks(ServerProcess):
    def command(self, *options: str) -> list[str]:
        script = str(Path(__file__).with_name("failing_forks.py"))
        return [sys.executable, script, "serve", str(self.folder), "--port", "0", *options]


def children(server: ServerProcess) -> list[int]:
    return server.processes()[1:]


def test_a_process_that_cannot_be_started_is_started_later(store_folder: Path):
    """The first at the start, the third when one that has died is to be replaced."""
    server = FailingForks(store_folder, "--workers", "2", "--durability", "relaxed")
    try:
        wait_for(lambda: len(children(server)) == 2, server.log)
        assert server.request("PUT", "/files/a", b"a")[0] == 201
        os.kill(children(server)[0], signal.SIGKILL)
        server.wait_for_log("ended with -9")
        wait_for(lambda: len(children(server)) == 2, server.log)
        assert server.request("PUT", "/files/b", b"b")[0] == 201
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
