"""The port of hooks: who is asked before something happens, and told after.

A hook may take its time: the engine awaits it, nothing else waits. A hook refuses by raising
an `UploadError` (NotAuthenticated, Forbidden, VerificationRefused, ...); any other exception
is a failure of the hook and ends the request without storing anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from forebay.hooks.request import Request
from forebay.model import NOTHING_SAID, About, Digest, FileInfo, Metadata, Principal, Stored


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
    upload_id: str = ""
    """Of an upload that has begun; "" before."""
    describe: Callable[[], About] = lambda: NOTHING_SAID
    """Gives `about`."""

    @property
    def about(self) -> About:
        """What the client says of the file, as far as it has."""
        return self.describe()

    @property
    def filename(self) -> str | None:
        """What the client calls the file; None when it does not say. Not judged."""
        return self.about.filename

    @property
    def length(self) -> int | None:
        """Bytes that the file will have; None when nobody knows yet."""
        return self.about.length

    @property
    def media_type(self) -> str | None:
        return self.about.media_type

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded."""
        return self.about.metadata

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The text fields of the file's form, in their order; none before the form is here."""
        return self.about.fields

    @property
    def request(self) -> Request:
        """The head of the request."""
        return Request(self.context)

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def path(self) -> str:
        """The path of the URL, decoded, with any mount."""
        return self.request.path

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; a field that came several times is joined by commas."""
        return self.request.headers

    @property
    def query(self) -> Mapping[str, str]:
        """The query of the URL; of a name that came several times the last."""
        return self.request.query

    @property
    def cookies(self) -> Mapping[str, str]:
        return self.request.cookies

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer; None where nobody knows."""
        return self.request.client


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
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the request at hand; None where there is none."""
    received: int | None = None
    """Bytes that came, for a file that was decoded; None for one stored as it came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """An upload that is on its way. `length` and `received` are of all of it, in bytes."""

    id: str
    name: str
    length: int | None
    media_type: str | None
    principal: Principal
    received: int = 0
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the request at hand; None where there is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A published file. `id` is the same each time this is told (at least once)."""

    id: str
    stored: Stored
    media_type: str | None
    principal: Principal
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the request at hand; None when it is called later, or after a restart."""


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
