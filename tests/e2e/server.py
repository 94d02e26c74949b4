"""Starts the real server as a process, and stops it again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from raw_http import Answer, request

READY = re.compile(r"listens on (https?)://(\S+):(\d+) ")


class ServerProcess:
    """`forebay serve DIR --port 0 ...` as a child process.

    `log` is everything it has written to standard error so far. Without `port_flag` the
    options or the environment have to ask for port 0.
    """

    ready_text = "listens on "
    ready = READY

    def __init__(
        self,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        wrap: Sequence[str] = (),
        port_flag: bool = True,
    ) -> None:
        self.folder = folder
        self._port_flag = port_flag
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
        self.process = subprocess.Popen(
            [*wrap, *self.command(*options)],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**clean, **self.environment(*options), **(env or {})},
            text=True,
            errors="replace",
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.wait_for_log(self.ready_text)
        found = self.ready.search(line)
        assert found, line
        self.scheme, self.host, self.port = found[1], found[2], int(found[3])
        self._wait_until_answering()

    def command(self, *options: str) -> list[str]:
        serve = [sys.executable, "-m", "forebay", "serve", str(self.folder)]
        return [*serve, *(["--port", "0"] if self._port_flag else []), *options]

    def environment(self, *options: str) -> dict[str, str]:
        """What it gets beside the environment of the tests."""
        return {}

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._lines.append("")
            self._changed.notify_all()

    def wait_for_log(self, text: str, timeout: float = 30) -> str:
        """The first line, past or to come, that holds `text`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and self._lines[-1:] == [""]):
                    raise AssertionError(f"{text!r} never came; the log is:\n{self.log}")
                self._changed.wait(min(left, 0.5))

    def _wait_until_answering(self) -> None:
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port), 5).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"the server does not accept connections:\n{self.log}")

    def connect(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own.

        It accepts anything, as curl does, unless `headers` has an Accept; none, if that is "".
        """
        return request(self, method, path, body, headers)

    def processes(self) -> list[int]:
        """The server's process and its children."""
        found = [self.pid]
        with contextlib.suppress(FileNotFoundError):
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            found += [int(pid) for pid in text.split()]
        return found

    def rss(self, field: str = "VmRSS") -> int:
        """Bytes of memory of all its processes; `VmHWM` for their highest so far."""
        total = 0
        for pid in self.processes():
            status = Path(f"/proc/{pid}/status").read_text()
            found = re.search(rf"{field}:\s+(\d+) kB", status)
            assert found
            total += int(found[1]) * 1024
        return total

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.processes())

    def published(self) -> dict[str, int]:
        """Every file that anyone can see under its final name, with its size."""
        return {
            str(path.relative_to(self.folder)): path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file() and ".forebay" not in path.parts
        }

    def leftovers(self) -> list[str]:
        """Data in the server's own folder that belongs to no upload any more."""
        own = self.folder / ".forebay"
        return sorted(
            str(path.relative_to(own))
            for part in ("tmp", "uploads")
            for path in (own / part).rglob("*")
            if path.suffix != ".probe"  # of a worker that starts just now
        )

    def check_answers(self) -> None:
        """Raises if an answer had a field twice, whoever asked and whatever came of it."""
        wrong = [line for line in self._lines if "WRONG ANSWER" in line]
        assert not wrong, "".join(wrong)

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait(timeout)

    def kill(self) -> int:
        """SIGKILL to it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)  # else it might replace a child in between
        for pid in reversed(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._wait(30)

    def _wait(self, timeout: float) -> int:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(30)
            raise AssertionError(f"the server did not stop:\n{self.log}") from None
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.check_answers()
        return code
