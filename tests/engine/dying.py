"""Processes that die at a chosen step of their work, as a killed one would.

A test runs a module as a program (`died_in`), and that hands `dying_at` to what it does.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Point = Callable[[str], None]
"""Called with the name of each step."""

_DEAD = 77
_TESTS = Path(__file__).parents[1]


def dying_at(wanted: int) -> Point:
    """Prints the name of step number `wanted`, from 1, and ends this process there."""
    passed = 0

    def point(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == wanted:
            print(name, flush=True)
            os._exit(_DEAD)

    return point


def died_in(program: str, *arguments: object) -> str | None:
    """Runs a module of the tests as a program. The step at which it died, None if it lived."""
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(_TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, _DEAD), done.stderr
    return done.stdout.strip() if done.returncode == _DEAD else None


class Watched:
    """Stands for another object, and calls `point` before and after chosen methods."""

    def __init__(self, inner: Any, point: Point, methods: tuple[str, ...]) -> None:
        self._inner = inner
        self._point = point
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in self._methods:
            return value
        if inspect.iscoroutinefunction(value):

            async def call(*args: Any, **more: Any) -> Any:
                self._point(f"before {name}")
                result = await value(*args, **more)
                self._point(f"after {name}")
                return result

            return call

        def call_now(*args: Any, **more: Any) -> Any:
            self._point(f"before {name}")
            result = value(*args, **more)
            self._point(f"after {name}")
            return result

        return call_now
