"""Starting and stopping contenders, and looking at what they stored."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import Contender
from bench.measure import ProcessTree

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class ServerFailed(Exception):
    """A contender did not start, died, or did not store what it said it had."""


def free_port() -> int:
    """A port below 31000 that nobody listens on."""
    while True:
        port = random.randrange(20000, 30990)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Server:
    """A running contender. Its files are in `folder`, its log beside it."""

    contender: Contender
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, contender: Contender, base: Path) -> "Server":
        home = base / contender.name.replace(" ", "-").replace("/", "-")
        folder = home / "files"
        folder.mkdir(parents=True)
        port, log = free_port(), home / "server.log"
        server = cls(contender, folder, port, contender.start(folder, port, log), log)
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if server.process.poll() is not None:
                raise ServerFailed(f"ended at the start: {server.last_words()}")
            if time.monotonic() > deadline:
                server.stop()
                raise ServerFailed(f"did not listen within {START_SECONDS:.0f} s")
            time.sleep(0.05)
        return server

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else f"exit code {self.process.returncode}, no log"

    def stop(self) -> None:
        """Ends the process and its descendants, each by its own id."""
        pids = ProcessTree(self.pid).pids()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in pids:
                _kill(pid)
            self.process.wait(STOP_SECONDS)

    def stored(self, size: int) -> list[Path]:
        """The stored files of exactly this size."""
        found = []
        for entry in self.contender.bodies(self.folder):
            with suppress(FileNotFoundError):
                if entry.stat().st_size == size:
                    found.append(Path(entry.path))
        return found

    def check(self, size: int, count: int) -> None:
        files = len(self.stored(size))
        if files < count:
            raise ServerFailed(f"answered 2xx, but {files} of {count} files have {size} bytes")

    def check_digest(self, size: int, digest: str) -> None:
        for path in self.stored(size):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return
        raise ServerFailed("no stored file has the digest of what was sent")

    def set_aside(self) -> None:
        """Moves the stored files out of the server's sight; they go with the scenario's folder.

        For many small ones: ext4 avoids inodes that were freed minutes ago by walking over them,
        one by one, at each creation, so that deleting 100,000 files slows every later round.
        """
        aside = Path(tempfile.mkdtemp(prefix="aside-", dir=self.folder.parent))
        for entry in list(self.contender.bodies(self.folder)):
            with suppress(FileNotFoundError):
                os.rename(entry.path, aside / entry.name)

    def clean(self) -> None:
        """Deletes the stored files, never the server's state."""
        for entry in list(self.contender.bodies(self.folder)):
            with suppress(FileNotFoundError):
                os.unlink(entry.path)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def python_process(module: str) -> list[str]:
    return [sys.executable, "-m", module]
