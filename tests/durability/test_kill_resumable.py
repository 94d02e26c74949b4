"""`kill -9` at random moments of resumable uploads: no acknowledged offset is taken back.

A failure prints its seed; FOREBAY_TEST_SEED repeats it as far as timing allows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from durability.checker import Watcher
from durability.resumable_checker import ResumableChecker
from durability.resumable_faults import Killer
from durability.resumable_history import ResumableHistory
from durability.resumable_traffic import Place, Traffic, traffic
from durability.test_kill import make_rng
from e2e.server import ServerProcess
from tus.client import ask

Start = Callable[..., ServerProcess]

CASES = [
    pytest.param(durability, workers, id=f"{durability}-{workers}")
    for durability in ("relaxed", "strict")
    for workers in (1, 2)
]


class Run:
    """Traffic and kills beside each other, then all that is unfinished to its end."""

    def __init__(self, start: Start, folder: Path, durability: str, workers: int) -> None:
        options = ["--durability", durability, "--workers", str(workers)]
        options += ["--min-free", "0", "--no-access-log"]
        self.seed, rng = make_rng()
        self._place = Place()
        self._history = ResumableHistory()
        self._checker = ResumableChecker(folder, self._history)
        self._killer = Killer(
            lambda: start(*options, folder=folder),
            self._place,
            self._history,
            random.Random(rng.random()),
        )

    def play(self, uploads: int) -> None:
        with (
            Watcher(self._checker) as watcher,
            traffic(self._place, self._history, self.seed, uploads) as clients,
        ):
            while any(client.is_alive() for client in clients):
                self._killer.strike()
                self._judge("while uploads ran", [*watcher.violations, *self._checker.check_told()])
        self._judge("while uploads ran", watcher.violations)
        assert watcher.rounds, "the watcher never looked"
        self._killer.restart()
        self._judge("after the last kill", self._checker.check())
        self._finish(clients)
        self._judge("at the end", self._checker.check())
        self._clean(sum(client.lost_creations for client in clients))
        self._judge("at the very end", self._checker.check())
        assert self._killer.server.stop() == 0
        print(
            f"{self._killer.kills} kills, {self._history.broken} requests without an answer, "
            f"{sum(len(u.tellings) for u in self._history.snapshot())} offsets told"
        )
        assert self._history.broken, "no kill hit a request"

    def _finish(self, clients: list[Traffic]) -> None:
        """What was left half-done can be gone on with, and becomes a file."""
        for client in (paused for thread in clients for paused in thread.paused):
            client.end()
        for upload in self._history.snapshot():
            assert upload.finished or upload.location is None, f"{upload}, {self.seed}"

    def _clean(self, most: int) -> None:
        """Nothing is left but uploads whose creation was never answered, which can be ended."""
        server = self._killer.server
        known = {u.location for u in self._history.snapshot() if u.location is not None}
        ended: set[str] = set()
        deadline = time.monotonic() + 30
        while left := server.leftovers():  # the sweep goes on behind the start
            assert time.monotonic() < deadline, f"{left} belongs to no upload, {self.seed}"
            for path in (f"/uploads/{name.rpartition('/')[2]}" for name in left):
                statuses = [ask(server, "DELETE", path, version=v).status for v in ("1.0.0", None)]
                if 204 in statuses:  # in the dialect in which it was begun
                    ended.add(path)
            time.sleep(0.05)
        assert not ended & known, f"finished, and its data is still there, {self.seed}"
        assert len(ended) <= most, f"{ended} are more than {most} lost creations, {self.seed}"

    def _judge(self, when: str, violations: list[str]) -> None:
        assert not violations, f"{when}, FOREBAY_TEST_SEED={self.seed}: {violations}"


@pytest.mark.parametrize(("durability", "workers"), CASES)
def test_no_offset_is_taken_back_by_kill_9(
    start_server: Start, store_folder: Path, durability: str, workers: int
) -> None:
    """Ten uploads each."""
    Run(start_server, store_folder, durability, workers).play(10)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("durability", "workers"), CASES)
def test_no_offset_is_taken_back_by_many_kills(
    start_server: Start, store_folder: Path, durability: str, workers: int
) -> None:
    """Fifty uploads each: two hundred."""
    Run(start_server, store_folder, durability, workers).play(50)
