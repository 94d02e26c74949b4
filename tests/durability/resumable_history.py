"""What clients of resumable uploads sent and what they were told, in one order of events."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `start` to `end` of an upload that a request carried, or a part of them."""

    start: int
    end: int
    checked: bool = False
    """They came under a checksum: all of them count, or none."""
    right: bool = True
    """The checksum is that of the bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Telling:
    """An offset that a client was told. None: it was told that there is no such upload.

    `began` and `ended` are the places of the question and of the answer in the order of all
    events: what was told before a question was asked binds its answer.
    """

    by: str
    began: int
    ended: int
    offset: int | None
    complete: bool = False
    """The answer says that the upload is finished."""


@dataclasses.dataclass(eq=False, slots=True)
class Upload:
    """One upload, as its client knows it. `location` is None while its creation is unanswered."""

    target: str
    method: str
    dialect: str
    seed: str
    size: int
    sha256: str
    location: str | None = None
    pieces: list[Piece] = dataclasses.field(default_factory=list)
    tellings: list[Telling] = dataclasses.field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Its client was told so."""
        return any(telling.complete for telling in self.tellings)

    def __repr__(self) -> str:
        return f"<{self.dialect} {self.seed} for {self.target}, {self.size} bytes, {self.location}>"


class ResumableHistory:
    """All uploads of one run. Thread-safe.

    `listeners` are called with each telling, in the thread of the client that was told.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._clock = itertools.count()
        self._uploads: list[Upload] = []
        self.events = 0
        self.broken = 0
        """Requests that were not answered."""
        self.listeners: list[Callable[[Upload, Telling], None]] = []

    def _tick(self) -> int:
        """The place of an event; the lock is held."""
        self.events += 1
        self._changed.notify_all()
        return next(self._clock)

    def begin(self, upload: Upload) -> None:
        with self._changed:
            self._uploads.append(upload)
            self._tick()

    def ask(self, upload: Upload, piece: Piece | None = None) -> int:
        """Before a request is sent, with the bytes it carries; the place of the question."""
        with self._changed:
            if piece is not None:
                upload.pieces.append(piece)
            return self._tick()

    def tell(
        self, upload: Upload, by: str, began: int, offset: int | None, *, complete: bool = False
    ) -> None:
        with self._changed:
            telling = Telling(by, began, self._tick(), offset, complete)
            upload.tellings.append(telling)
        for listener in self.listeners:
            listener(upload, telling)

    def break_off(self) -> None:
        """A request has no answer, and will never have one."""
        with self._changed:
            self.broken += 1
            self._tick()

    def wait_for(self, events: int, timeout: float) -> None:
        """Until so many events have been, or for `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.events >= events, timeout)

    def snapshot(self) -> list[Upload]:
        with self._changed:
            return list(self._uploads)
