"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(holds: Callable[[], object], what: object = "it", timeout: float = 60) -> None:
    """Returns when it holds, whatever else the machine does. Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)
