"""System calls that fail inside this process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

import pytest


def failing(number: int, after: int = 0) -> Any:
    """A system call that fails with errno `number`, from the call after `after` others."""
    calls = 0

    def fail(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(number, os.strerror(number))
        return fail.real(*arguments, **more)  # type: ignore[attr-defined]

    return fail


def break_call(patch: pytest.MonkeyPatch, name: str, number: int, after: int = 0) -> None:
    fail = failing(number, after)
    fail.real = getattr(os, name)
    patch.setattr(os, name, fail)


_CALLS = (
    (os, "open close fstat stat link unlink rename mkdir fchmod utime ftruncate fsync fdatasync"),
    (os, "dup2 pwrite pread preadv statvfs access scandir listdir copy_file_range"),
    (fcntl, "flock"),
)


class Step:
    """Lets the system calls of this process pass, and fails the one of that number, from 1."""

    def __init__(self, number: int, error: int) -> None:
        self._number = number
        self._error = error
        self.passed = 0
        self.failed: str | None = None
        """The call that failed; None when there were not so many."""

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module, names in _CALLS:
                for name in names.split():
                    if hasattr(module, name):
                        patch.setattr(module, name, self._watched(name, getattr(module, name)))
            yield

    def _watched(self, name: str, real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.passed += 1
            if self.passed != self._number:
                return real(*arguments, **more)
            self.failed = name
            if name == "close":  # Linux frees the descriptor all the same
                real(*arguments, **more)
            raise OSError(self._error, os.strerror(self._error))

        return call


def descriptors() -> set[str]:
    """What this process has open: each descriptor with what it is of."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {each for each in found if "/proc/" not in each}
