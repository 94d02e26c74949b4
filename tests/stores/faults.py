"""System calls that fail inside this process."""

from __future__ import annotations

import os
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
