"""Processes that die at a chosen step of their work, as a killed one would.

A test runs a module as a program (`crashed_in`), and that hands `crash_at` to what it does.
As a program, this is the process that runs them.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import inspect
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Point = Callable[[str], None]
"""Called with the name of each step."""

_DEAD = 77
_TESTS = Path(__file__).parents[1]


def crash_at(wanted: int) -> Point:
    """Prints the name of step number `wanted`, from 1, and ends this process there."""
    passed = 0

    def point(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == wanted:
            print(name, flush=True)
            os._exit(_DEAD)

    return point


def crashed_in(program: str, *arguments: object) -> str | None:
    """Runs a module of the tests as a program. The step at which it died, None if it lived."""
    server = _fork_server()
    assert server.stdin is not None and server.stdout is not None
    command = [dict(os.environ), program, *map(str, arguments)]
    server.stdin.write(json.dumps(command) + "\n")
    server.stdin.flush()
    code, said = json.loads(server.stdout.readline())
    assert code in (0, _DEAD), said
    return str(said).strip() if code == _DEAD else None


@functools.cache
def _fork_server() -> subprocess.Popen[str]:
    """A process that forks for each program: what they import is imported once."""
    server = subprocess.Popen(
        [sys.executable, "-m", "engine.crashes"],
        env={**os.environ, "PYTHONPATH": str(_TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)  # which ends it
    return server


def _serve() -> None:
    importlib.import_module("engine.completion")  # and with it what every program needs
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            program = os.fork()
            if not program:
                _run(output.fileno(), *json.loads(line))
            _, status = os.waitpid(program, 0)
            output.seek(0)
            answer = [os.waitstatus_to_exitcode(status), output.read().decode()]
        print(json.dumps(answer), flush=True)


def _run(output: int, environment: dict[str, str], program: str, *arguments: str) -> NoReturn:
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(environment)
        signal.alarm(60)
        warnings.simplefilter("ignore", RuntimeWarning)  # that it was imported before
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


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


if __name__ == "__main__":
    _serve()
