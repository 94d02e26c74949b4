"""CPU time and memory of a server: all of its processes, from /proc."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICKS = os.sysconf("SC_CLK_TCK")


def _status_kib(pid: int, field: str) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1])
    except (OSError, IndexError, ValueError):
        pass
    return 0


def _stat_fields(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _process_clock(pid: int) -> float | None:
    """CPU seconds of one process, ended threads included, in nanoseconds' resolution.

    The clock's id is made as clock_getcpuclockid(3) makes it on Linux.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


class ProcessTree:
    """A server's process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                fields = _stat_fields(int(name))
                if fields:
                    parents.setdefault(int(fields[1]), []).append(int(name))
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo.extend(parents.get(pid, []))
        return found

    def cpu_seconds(self) -> float:
        """Of the living, plus of children that ended and were waited for."""
        total = 0.0
        for pid in self.pids():
            fields = _stat_fields(pid)
            if not fields:
                continue
            own = _process_clock(pid)
            total += own if own is not None else (int(fields[11]) + int(fields[12])) / TICKS
            total += (int(fields[13]) + int(fields[14])) / TICKS
        return total

    def rss(self) -> int:
        """Resident bytes now. Pages that processes share count in each."""
        return sum(_status_kib(pid, "VmRSS:") for pid in self.pids()) << 10

    def reset_peak(self) -> bool:
        """Makes the kernel's high-water marks start again; false where it cannot be done."""
        try:
            for pid in self.pids():
                with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
                    file.write("5")
        except OSError:
            return False
        return True

    def peak(self) -> int:
        """The sum of the high-water marks, in bytes."""
        return sum(_status_kib(pid, "VmHWM:") for pid in self.pids()) << 10


class Usage:
    """What one run cost; the fields are set when the block ends."""

    cpu_seconds = 0.0
    idle_rss = 0
    peak_rss = 0


@contextmanager
def usage_of(pid: int) -> Iterator[Usage]:
    """Measures a server for the length of a block."""
    tree, usage = ProcessTree(pid), Usage()
    exact = tree.reset_peak()
    stop = threading.Event()
    sampled = [0]

    def sample() -> None:
        while not stop.wait(0.02):
            sampled[0] = max(sampled[0], tree.rss())

    sampler = threading.Thread(target=sample, daemon=True)
    if not exact:
        sampler.start()
    usage.idle_rss = tree.rss()
    before = tree.cpu_seconds()
    try:
        yield usage
    finally:
        usage.cpu_seconds = tree.cpu_seconds() - before
        stop.set()
        if not exact:
            sampler.join()
        usage.peak_rss = tree.peak() if exact else sampled[0]
