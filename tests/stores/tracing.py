"""Runs `worker.py` under strace: what it asked the kernel for, and with calls that fail."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import tempfile
from pathlib import Path

from .processes import command
from .tools import missing, need

_CALLS = "fsync,fdatasync,link,linkat,mkdir,mkdirat,rename,renameat,renameat2,pwrite64"
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR = re.compile(r"\d+<(.*?)>")


@dataclasses.dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    result: int

    @property
    def file(self) -> str:
        """The path behind its first descriptor."""
        match = _DESCRIPTOR.match(self.arguments)
        assert match, self.arguments
        return match[1]


@dataclasses.dataclass(frozen=True)
class Trace:
    calls: list[Call]
    said: list[str]

    def find(self, name: str, text: str = "", *, after: int = -1) -> int:
        """Where the first such call is that succeeded, after that place."""
        for place, call in enumerate(self.calls):
            if place > after and call.name == name and call.result >= 0 and text in call.arguments:
                return place
        raise AssertionError(f"no {name} with {text!r} after {after} in {self.calls}")

    def synced(self, file: str, *, after: int = -1) -> int:
        for place, call in enumerate(self.calls):
            if place > after and call.name == "fsync" and call.result == 0 and call.file == file:
                return place
        raise AssertionError(f"no fsync of {file} after {after} in {self.calls}")

    def count(self, name: str) -> int:
        return sum(call.name == name for call in self.calls)


@functools.cache
def need_strace() -> None:
    need("strace")
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        missing(f"strace may not trace here: {tried.stderr.strip()}")


def traced(folder: Path, kind: str, *arguments: str, inject: str = "") -> Trace:
    """The worker's calls and lines. `inject` is strace's, such as `fsync:error=EIO`."""
    need_strace()
    with tempfile.NamedTemporaryFile("r") as output:
        process = subprocess.run(
            [
                *("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-o", output.name),
                *("-e", f"trace={_CALLS}"),
                *(("-e", f"inject={inject}") if inject else ()),
                *command(folder, kind, *arguments),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        matches = [match for line in output if (match := _LINE.match(line))]
    calls = [Call(match[1], match[2], int(match[3])) for match in matches]
    return Trace(calls, process.stdout.splitlines())
