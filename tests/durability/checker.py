"""Whether what is on the disk agrees with what clients were told. Knows no server.

Invariants 1, 2, 3 and 5 of `docs/architecture.md`: what was acknowledged is there whole, what
is visible is whole and belongs to somebody who wanted that name, nothing else is there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from durability.history import Attempt, History

_NUMBERED = re.compile(r" \(\d+\)(?=\.bin\Z)")


def visible(folder: Path) -> Iterator[str]:
    """Names that anybody can see, of files."""
    for place, folders, names in os.walk(folder):
        if ".forebay" in folders:
            folders.remove(".forebay")
        for name in names:
            yield os.path.relpath(os.path.join(place, name), folder)


def wanted_name(name: str, *, renaming: bool) -> str:
    """The name that somebody asked for who got `name`."""
    return _NUMBERED.sub("", name) if renaming else name


class Checker:
    """Judges a folder by a history.

    With `replacing` a name may change hands, to an attempt that did not end before another
    acknowledged one began; without, it keeps its first content for ever.
    """

    def __init__(self, folder: Path, history: History, *, replacing: bool = False) -> None:
        self._folder = folder
        self._history = history
        self._replacing = replacing
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def check(self) -> list[str]:
        """All violations at rest: nothing is being written."""
        return [*self.check_visible(), *self._check_acknowledged()]

    def check_visible(self) -> list[str]:
        """Violations that hold at any instant, also while uploads run."""
        violations: list[str] = []
        for name in list(visible(self._folder)):
            violations += self._check_one(name)
        return violations

    def _check_one(self, name: str) -> list[str]:
        try:
            with open(self._folder / name, "rb") as file:
                status = os.fstat(file.fileno())
                key = (status.st_ino, status.st_size, status.st_mtime_ns)
                known = self._known.get(name)
                if known is not None and known[0] == key:
                    return []
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return [f"{name} was there and is gone"] if not self._replacing else []
        if known is not None and not self._replacing:
            return [f"{name} has changed: {known} was followed by {(key, found)}"]
        self._known[name] = (key, found)
        if any(attempt.sha256 == found for attempt in self._who_wanted(name)):
            return []
        return [f"{name} ({status.st_size} bytes) is not whole, or not of anybody who wanted it"]

    def _who_wanted(self, name: str) -> list[Attempt]:
        return [
            attempt
            for attempt in self._history.snapshot()
            if attempt.target
            == wanted_name(name, renaming=attempt.method == "POST" and not self._replacing)
        ]

    def _check_acknowledged(self) -> list[str]:
        violations: list[str] = []
        owners: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in self._history.acknowledged():
            assert attempt.name is not None
            owners[attempt.name].append(attempt)
        for name, attempts in owners.items():
            if len(attempts) > 1 and not self._replacing:
                violations.append(f"{name} was given to {[a.seed for a in attempts]}")
            violations += self._check_owner(name, attempts)
        return violations

    def _check_owner(self, name: str, attempts: list[Attempt]) -> list[str]:
        try:
            with open(self._folder / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return [f"{name} was acknowledged ({attempts}) and is not there"]
        if not self._replacing:
            lost = [attempt for attempt in attempts if attempt.sha256 != found]
            return [f"{name} is not what was acknowledged: {lost}"] if lost else []
        holders = [a for a in self._who_wanted(name) if a.sha256 == found]
        for attempt in attempts:
            if not any(holder.overlaps_or_follows(attempt) for holder in holders):
                return [f"{name} went back behind {attempt}, to {holders}"]
        return []


class Watcher(threading.Thread):
    """Looks at everything visible, over and over, while uploads run."""

    def __init__(self, checker: Checker) -> None:
        super().__init__(name="watcher", daemon=True)
        self._checker = checker
        self._stopping = threading.Event()
        self.violations: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        while not self._stopping.is_set() and not self.violations:
            self.violations += self._checker.check_visible()
            self.rounds += 1

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join(60)
