"""What is done to a server while clients upload: killed, and started again on its folder."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from durability.resumable_history import ResumableHistory
from durability.resumable_traffic import Place
from e2e.server import ServerProcess


class Killer:
    """Kills a server again and again, at moments of the traffic that are random."""

    def __init__(
        self,
        start: Callable[[], ServerProcess],
        place: Place,
        history: ResumableHistory,
        rng: random.Random,
    ) -> None:
        self._start = start
        self._place = place
        self._history = history
        self._rng = rng
        self.kills = 0
        self.server = start()
        place.move(self.server.port)

    def strike(self) -> None:
        """At any moment, or just when a file gets its name."""
        self._history.wait_for(self._history.events + self._rng.randint(1, 50), timeout=2)
        if self._rng.random() < 0.5:
            self._wait_for_a_name()
        else:
            time.sleep(self._rng.choice((0.0, 0.002, 0.02, 0.1)) * self._rng.random())
        self.kills += 1
        workers = self.server.processes()[1:]
        if len(workers) > 1 and self._rng.random() < 0.4:
            os.kill(self._rng.choice(workers), signal.SIGKILL)
        else:
            self.restart()

    def _wait_for_a_name(self) -> None:
        """Until a file appears: its record is not yet complete then. Not for ever."""
        deadline = time.monotonic() + 0.3
        before = len(os.listdir(self.server.folder))
        while len(os.listdir(self.server.folder)) == before and time.monotonic() < deadline:
            pass

    def restart(self) -> ServerProcess:
        """Kills all of it."""
        self.server.kill()
        self._place.move(None)
        self.server = self._start()
        self._place.move(self.server.port)
        return self.server
