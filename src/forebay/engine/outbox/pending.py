"""Uploads that came whole in one request, and their pending notifications."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from forebay.engine.about import stored_fields
from forebay.hooks.base import Arrival, Candidate
from forebay.model import Digest, Principal, Receive, Stored, UploadRecord, UploadState
from forebay.record import WHOLE, Extra
from forebay.stores.base import Publication, Published


@dataclasses.dataclass(frozen=True, slots=True)
class WholeUpload:
    """An upload that came whole in one request, as hooks are told of it."""

    id: str
    command: Receive
    principal: Principal
    context: Mapping[str, Any] | None
    """The context of the request, for hooks."""
    started: float
    """`time.perf_counter()` when it began."""
    digests: tuple[Digest, ...] = ()
    received: int | None = None
    """Bytes that came, when the body was decoded."""

    @property
    def publication(self) -> Publication:
        """Where and how it is published."""
        return Publication(self.command.name, self.command.conflict, self.command.preconditions)

    def arrival(self, length: int | None) -> Arrival:
        """What `on_progress` is told. `length`: bytes, None when unknown."""
        command = self.command
        return Arrival(
            self.id,
            command.name,
            length,
            command.media_type,
            self.principal,
            about=command.about,
            context=self.context,
        )

    def candidate(self, size: int, reader: Callable[[], BinaryIO]) -> Candidate:
        """What `on_verify` is told. `size`: bytes."""
        command = self.command
        return Candidate(
            command.name,
            size,
            command.media_type,
            self.digests,
            self.principal,
            reader,
            self.id,
            command.about,
            self.context,
            self.received,
        )

    def stored(self, published: Published) -> Stored:
        """It as a stored file."""
        duration = time.perf_counter() - self.started
        return published.stored(self.digests, duration, self.received)

    def record(self, size: int) -> UploadRecord:
        """Its record before it is published. `size`: bytes."""
        about = self.command.about
        return UploadRecord(
            id=self.id,
            principal=self.principal.id,
            dialect=WHOLE,
            state=UploadState.COMPLETING,
            offset=size,
            length=size,
            name=self.command.name,
            created_at=time.time() - (time.perf_counter() - self.started),
            expires_at=None,
            conflict=self.command.conflict,
            media_type=self.command.media_type,
            extra=Extra(filename=about.filename, fields=stored_fields(about)).encode(),
        )


class PendingNotification(Protocol):
    """A file that was just published: `on_complete` is called about it, or it is taken back.

    Exactly one of the methods is called, once.
    """

    @property
    def stored(self) -> Stored:
        """The published file."""
        ...

    async def notify(self) -> None:
        """Calls `on_complete`. Returns when it has returned or failed, or takes very long."""
        ...

    async def take_back(self) -> None:
        """Removes the file. No callback is called."""
        ...

    def abandon(self) -> None:
        """Calls `on_complete` without waiting, as the request has ended."""
        ...
