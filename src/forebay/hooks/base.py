"""The port of hooks: who is asked before something happens, and told after.

A hook may take its time: the engine awaits it, nothing else waits. A hook refuses by raising
an `UploadError` (NotAuthenticated, Forbidden, VerificationRefused, ...); any other exception
is a failure of the hook and ends the request without storing anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from forebay.model import Digest, FileInfo, Principal, Stored


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """What somebody wants to do, before a byte of the body was read."""

    action: str
    """`create`, `read`, `list` or `delete`; of an unfinished upload `append`, `offset` or
    `cancel`.
    """
    name: str
    """The path under the folder of Forebay, which for a folder ends with a slash ("/" is the
    whole); "" where a file has no place yet.
    """
    context: Mapping[str, Any]
    """What the outer layer knows of the request; for HTTP the ASGI scope."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A received file before publication; whoever verifies it may read it."""

    name: str
    size: int
    media_type: str | None
    digests: tuple[Digest, ...]
    principal: Principal
    open: Callable[[], BinaryIO]
    """A new reader at its start; the caller closes it. May wait for the disk."""
    id: str = ""
    """The one that its Completion will have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """An upload that is on its way. `length` and `received` are of all of it, in bytes."""

    id: str
    name: str
    length: int | None
    media_type: str | None
    principal: Principal
    received: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A published file. `id` is the same each time this is told (at least once)."""

    id: str
    stored: Stored
    media_type: str | None
    principal: Principal


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """A file that was removed, as it was; `file.name` is its whole path."""

    file: FileInfo
    principal: Principal
    context: Mapping[str, Any]
    """What the outer layer knows of the request; empty when the application removed it."""


class Hooks(Protocol):
    async def authorise(self, access: Access) -> Principal:
        """Who this is. Raises NotAuthenticated or Forbidden."""
        ...

    @property
    def verifies(self) -> bool:
        """Whether `verify` has anything to ask; when not, it is not called."""
        ...

    async def verify(self, candidate: Candidate) -> None:
        """Before publication. Raises VerificationRefused to refuse the file."""
        ...

    @property
    def completes(self) -> bool:
        """Whether `complete` has anybody to tell; when not, it is not called."""
        ...

    async def complete(self, completion: Completion, returned: set[str]) -> None:
        """After publication. When it raises, the file stays, and it is called again later.

        Whose names are in `returned` are left out; names of those that return are added.
        """
        ...

    @property
    def progresses(self) -> bool:
        """Whether `progress` has anybody to tell; when not, it is not called."""
        ...

    async def progress(self, arrival: Arrival) -> None:
        """While bytes arrive, at most ten times a second. What it raises is logged."""
        ...

    @property
    def deletes(self) -> bool:
        """Whether `delete` has anybody to tell; when not, it is not called."""
        ...

    async def delete(self, deletion: Deletion) -> None:
        """After a file was removed. What it raises is logged."""
        ...
