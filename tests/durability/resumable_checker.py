"""Whether what clients of resumable uploads were told is true. Knows no server.

Invariants 1, 2, 3 and 11 of `docs/architecture.md`: an offset that was told stays, what is
visible is whole, each upload is one file, and none is said to be finished before it is that.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import defaultdict
from pathlib import Path

from durability.checker import Checker, visible, wanted_name
from durability.resumable_history import ResumableHistory, Telling, Upload


class ResumableChecker(Checker):
    """Judges a folder, and what was told, by a history."""

    def __init__(self, folder: Path, history: ResumableHistory) -> None:
        super().__init__(folder, history)  # type: ignore[arg-type]
        self._uploads = history.snapshot
        self._lock = threading.Lock()
        self._too_early: list[str] = []
        history.listeners.append(self._look_for)

    def check(self) -> list[str]:
        """All violations at rest: nothing is being written."""
        return [*self.check_visible(), *self.check_told(), *self._check_files()]

    # --- what was told -----------------------------------------------------------------------

    def check_told(self) -> list[str]:
        """Violations in the answers alone."""
        with self._lock:
            violations = list(self._too_early)
        for upload in self._uploads():
            violations += _check_order(upload)
            violations += [
                f"{upload}: {told.by} told {told.offset}, which is no end of bytes that count"
                for told in list(upload.tellings)
                if told.offset is not None and not _may_count(upload, told.offset)
            ]
        return violations

    def _look_for(self, upload: Upload, telling: Telling) -> None:
        """Whether the file is there at once when an upload is said to be finished."""
        if telling.complete and not self._holders(upload):
            with self._lock:
                self._too_early.append(f"{upload}: {telling} before there was a file")

    def _holders(self, upload: Upload) -> list[str]:
        """The names that hold exactly the bytes of an upload and are such as it may have."""
        return [
            name
            for name in visible(self._folder)
            if wanted_name(name, renaming=upload.method == "POST") == upload.target
            and self._is_whole(self._folder / name, upload)
        ]

    @staticmethod
    def _is_whole(path: Path, upload: Upload) -> bool:
        if path.stat().st_size != upload.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == upload.sha256

    # --- what is there -----------------------------------------------------------------------

    def _check_files(self) -> list[str]:
        violations: list[str] = []
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name, (_, sha256) in self._known.items():
            if (self._folder / name).exists():
                names[sha256].append(name)
            else:
                violations.append(f"{name} was there and is gone")
        for upload in self._uploads():
            found = names[upload.sha256]
            if upload.finished and not found:
                violations.append(f"{upload} was finished and is not there")
            if len(found) > 1:
                violations.append(f"{upload} was stored more than once: {sorted(found)}")
        return violations


def _check_order(upload: Upload) -> list[str]:
    """An answer is never lower than one that came before its question."""
    violations: list[str] = []
    tellings = sorted(upload.tellings, key=lambda told: told.began)
    before = sorted(upload.tellings, key=lambda told: told.ended)
    best: Telling | None = None
    for told in tellings:
        for earlier in itertools.takewhile(lambda t, now=told: t.ended < now.began, before):  # type: ignore[misc]
            if best is None or _rank(earlier) > _rank(best):
                best = earlier
        if best is not None and _rank(told) < _rank(best):
            violations.append(f"{upload}: {told} after {best}")
    return violations


def _rank(told: Telling) -> tuple[int, bool]:
    return (-1 if told.offset is None else told.offset, told.complete)


def _may_count(upload: Upload, offset: int) -> bool:
    """Whether bytes up to `offset` were sent, and none of a checksum that was not compared."""
    return offset == 0 or any(
        piece.right and (offset == piece.end if piece.checked else piece.start <= offset)
        for piece in list(upload.pieces)
        if offset <= piece.end
    )
