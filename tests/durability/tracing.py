"""`strace` on a running server: what it asks of the kernel, and answers that are made up."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
from pathlib import Path

from e2e.server import ServerProcess

_LINE = re.compile(r"(\d+) +(.*)\Z")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>")


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One system call. `began` and `ended` are places in the order of all threads."""

    name: str
    text: str
    began: int
    ended: int


class Tracer:
    """Attached to all processes and threads of a server, and those they start, until stopped.

    `inject` are expressions of strace, such as `fsync:error=EIO:when=2`; `when` counts in each
    thread, so it means something for a server with `--threads 1`.
    """

    def __init__(self, server: ServerProcess, folder: Path, *inject: str, trace: str = "") -> None:
        self._output = folder / "strace.txt"
        calls = trace or ",".join(expression.partition(":")[0] for expression in inject)
        command = ["strace", "-f", "-y", "-s", "64", "-o", str(self._output)]
        command += ["-e", f"trace={calls}", "-e", "signal=none"]
        for expression in inject:
            command += ["-e", f"inject={expression}"]
        for pid in server.processes():
            command += ["-p", str(pid)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self._said = ""
        for _ in server.processes():
            line = self._process.stderr.readline()
            self._said += line
            assert "attached" in line, f"strace says {line!r}"

    def stop(self) -> list[Call]:
        """Detaches; the calls that were traced."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)
        return parse(self._output.read_text())

    def wait(self) -> None:
        """Until the last traced process is gone."""
        self._process.communicate(timeout=60)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()
        elif self._process.stderr is not None:
            self._process.stderr.close()


def parse(text: str) -> list[Call]:
    """The calls of a trace in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(text.splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue
        pid, rest = found.groups()
        began = place
        if rest.endswith("<unfinished ...>"):
            open_calls[pid] = (place, rest.removesuffix("<unfinished ...>"))
            continue
        resumed = _RESUMED.match(rest)
        if resumed is not None:
            began, start = open_calls.pop(pid)
            rest = start + rest[resumed.end() :]
        if "(" in rest:
            calls.append(Call(rest.partition("(")[0], rest, began, place))
    return sorted(calls, key=lambda call: call.began)
