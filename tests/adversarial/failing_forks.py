"""`forebay ...` in a machine that now and then has no process to give."""

from __future__ import annotations

import errno
import os

from forebay.cli import main

real = os.fork
calls = 0


def fork() -> int:
    global calls
    calls += 1
    if calls in (1, 3):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    return real()


os.fork = fork
main()
