"""`kill -9` at random moments of mixed traffic: nothing acknowledged is lost, nothing is torn.

A failure prints its seed; FOREBAY_TEST_SEED repeats it as far as timing allows.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from durability.checker import Checker, Watcher
from durability.faults import kill_after, kill_worker
from durability.history import History
from durability.traffic import traffic
from e2e.server import ServerProcess

Start = Callable[..., ServerProcess]


def make_rng() -> tuple[str, random.Random]:
    seed = os.environ.get("FOREBAY_TEST_SEED") or os.urandom(4).hex()
    print(f"FOREBAY_TEST_SEED={seed}")
    return seed, random.Random(seed)


class Run:
    """Rounds of start, traffic, kill; each start sweeps and is judged for the kill before."""

    def __init__(self, start: Start, folder: Path, options: list[str], *, replacing: bool) -> None:
        self._start = start
        self._folder = folder
        self._options = options
        self._replacing = replacing
        self.seed, self.rng = make_rng()
        self.acknowledged = 0
        self.unanswered = 0

    def play(self, rounds: int) -> None:
        server = self._restart()
        for number in range(rounds):
            history = History()
            checker = Checker(self._folder, history, replacing=self._replacing)
            label = f"r{number}"
            going = traffic(server.port, history, self.rng, label)
            with Watcher(checker) as watcher, going:
                kill_after(server, history, self.rng)
            assert watcher.rounds, "the watcher never looked"
            self._judge(label, "while uploads ran", watcher.violations)
            self._judge(label, "after the kill", checker.check())
            server = self._restart()
            assert server.leftovers() == [], f"{label}: left after the sweep, seed {self.seed}"
            self._judge(label, "after the restart", checker.check())
            self.acknowledged += len(history.acknowledged())
            self.unanswered += sum(a.status is None for a in history.snapshot())
            self._make_room()
        assert server.stop() == 0

    def _restart(self) -> ServerProcess:
        server = self._start(*self._options, folder=self._folder)
        status, _, _ = server.request("GET", "/healthz")  # answered once the sweep is done
        assert status == 200
        return server

    def _judge(self, label: str, when: str, violations: list[str]) -> None:
        assert not violations, f"{label}, {when}, FOREBAY_TEST_SEED={self.seed}: {violations}"

    def _make_room(self) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != ".forebay":
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()


CASES = [
    pytest.param("relaxed", 1, "auto", id="relaxed-1"),
    pytest.param("relaxed", 2, "replace", id="relaxed-2-replacing"),
    pytest.param("strict", 1, "replace", id="strict-1-replacing"),
    pytest.param("strict", 2, "auto", id="strict-2"),
]


def play(
    start: Start, folder: Path, durability: str, workers: int, conflict: str, rounds: int
) -> Run:
    options = ["--durability", durability, "--workers", str(workers), "--on-conflict", conflict]
    options += ["--no-access-log", "--min-free", "0"]
    run = Run(start, folder, options, replacing=conflict == "replace")
    run.play(rounds)
    print(f"{run.acknowledged} acknowledged, {run.unanswered} killed")
    return run


@pytest.mark.parametrize(("durability", "workers", "conflict"), CASES)
def test_what_was_acknowledged_outlives_kill_9(
    start_server: Start, store_folder: Path, durability: str, workers: int, conflict: str
) -> None:
    run = play(start_server, store_folder, durability, workers, conflict, rounds=6)
    assert run.acknowledged
    assert run.unanswered


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("durability", "workers", "conflict"), CASES)
def test_what_was_acknowledged_outlives_many_kills(
    start_server: Start, store_folder: Path, durability: str, workers: int, conflict: str
) -> None:
    play(start_server, store_folder, durability, workers, conflict, rounds=25)


def test_a_killed_worker_takes_nothing_acknowledged_along(
    start_server: Start, store_folder: Path
) -> None:
    seed, rng = make_rng()
    server = start_server("--durability", "relaxed", "--workers", "2", "--min-free", "0")
    history = History()
    checker = Checker(store_folder, history)
    with Watcher(checker) as watcher:
        for number in range(3):
            with traffic(server.port, history, rng, f"w{number}"):
                wanted = len(history.acknowledged()) + rng.randrange(5)
                while len(history.acknowledged()) < wanted:
                    time.sleep(0.002)
                kill_worker(server, rng)
    assert watcher.violations == [], seed
    assert checker.check() == [], seed
    assert server.leftovers() == []
    status, _, _ = server.request("PUT", "/files/after.bin", b"still here")
    assert status == 201
    assert server.stop() == 0
