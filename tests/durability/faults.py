"""What is done to a running server."""

from __future__ import annotations

import os
import random
import signal
import time

from durability.history import History
from e2e.server import ServerProcess


def kill_after(server: ServerProcess, history: History, rng: random.Random) -> None:
    """SIGKILL to every process of the server at a random moment of the traffic."""
    wanted = len(history.acknowledged()) + rng.choice((0, 1, 2, 5, 10, 20))
    deadline = time.monotonic() + 20
    while len(history.acknowledged()) < wanted and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.3)
    server.kill()


def kill_worker(server: ServerProcess, rng: random.Random) -> int:
    """SIGKILL to one of several worker processes; its number."""
    deadline = time.monotonic() + 30
    while len(server.processes()) == 1 and time.monotonic() < deadline:
        time.sleep(0.01)  # the one before is being replaced
    victim = rng.choice(server.processes()[1:])
    os.kill(victim, signal.SIGKILL)
    return victim
