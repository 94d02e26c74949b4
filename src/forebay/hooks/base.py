"""The port of hooks: callbacks before something happens, which may refuse it, and after it.

A hook may be slow: only its own request waits for it. A hook refuses by raising an `UploadError`
(NotAuthenticated, Forbidden, VerificationRefused, ...); any other exception is a failure of the
hook and ends the request; nothing is stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from forebay.hooks.request import Request
from forebay.model import NOTHING_SAID, About, Digest, FileInfo, Metadata, Principal, Stored


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """What a client wants to do, before a byte of the body is read."""

    action: str
    """`create`, `read`, `list` or `delete`; for an unfinished upload `append`, `offset` or
    `cancel`.
    """
    name: str
    """The path under Forebay's folder. For a folder it ends with a slash ("/" is the whole
    folder); "" for a file that has no path yet.
    """
    context: Mapping[str, Any]
    """The request, as the outer layer describes it; for HTTP the ASGI scope."""
    upload_id: str = ""
    """The id of an upload that exists already, else ""."""
    describe: Callable[[], About] = lambda: NOTHING_SAID
    """Returns `about`; called only when that is needed."""

    @property
    def about(self) -> About:
        """The client's description of the file, as far as it is known."""
        return self.describe()

    @property
    def filename(self) -> str | None:
        """The client's name for the file, unchecked; None when there is none."""
        return self.about.filename

    @property
    def length(self) -> int | None:
        """Bytes of the whole file; None when they are not known yet."""
        return self.about.length

    @property
    def media_type(self) -> str | None:
        """The client's media type of the file; None when there is none."""
        return self.about.media_type

    @property
    def metadata(self) -> Metadata:
        """Upload-Metadata of tus, decoded: text when it is UTF-8, else bytes."""
        return self.about.metadata

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The text fields of the file's form, in their order; empty before the form arrives."""
        return self.about.fields

    @property
    def request(self) -> Request:
        """The head of the request."""
        return Request(self.context)

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The path of the URL, decoded, including mounts."""
        return self.request.path

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; several fields of one name are joined by commas."""
        return self.request.headers

    @property
    def query(self) -> Mapping[str, str]:
        """The query of the URL; of several values of one name, the last."""
        return self.request.query

    @property
    def cookies(self) -> Mapping[str, str]:
        """By name; those that cannot be parsed are left out."""
        return self.request.cookies

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer; None when they are not known."""
        return self.request.client


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A received file before publication. Hooks may read it. `size` is in bytes."""

    name: str
    size: int
    media_type: str | None
    digests: tuple[Digest, ...]
    principal: Principal
    open: Callable[[], BinaryIO]
    """Returns a new reader at its start, which the caller closes. May wait for the disk."""
    id: str = ""
    """The id that its Completion will have."""
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the current request; None when there is none."""
    received: int | None = None
    """Bytes received, for a file that was decoded (Content-Encoding); else None."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """An upload that is arriving. `length` and `received` count the whole upload, in bytes."""

    id: str
    name: str
    length: int | None
    media_type: str | None
    principal: Principal
    received: int = 0
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the current request; None when there is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A published file. Each call about it (at least one) has the same `id`."""

    id: str
    stored: Stored
    media_type: str | None
    principal: Principal
    about: About = NOTHING_SAID
    context: Mapping[str, Any] | None = None
    """That of the current request; None when it is called later, or after a restart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """A file that was removed, as it was before; `file.name` is its whole path."""

    file: FileInfo
    principal: Principal
    context: Mapping[str, Any]
    """The request, as the outer layer describes it; empty when the application removed it."""


class Hooks(Protocol):
    """What the engine calls."""

    async def authorise(self, access: Access) -> Principal:
        """The client. Raises NotAuthenticated, Forbidden, HookFailed."""
        ...

    @property
    def verifies(self) -> bool:
        """Whether there are `verify` callbacks; when false, it is not called."""
        ...

    async def verify(self, candidate: Candidate) -> None:
        """Called before publication. Raises VerificationRefused to refuse the file."""
        ...

    @property
    def completes(self) -> bool:
        """Whether there are `complete` callbacks; when false, it is not called."""
        ...

    async def complete(self, completion: Completion, returned: set[str]) -> None:
        """Called after publication. When it raises, the file stays, and it is called again later.

        Callbacks whose names are in `returned` are not called; names of callbacks that return are
        added to it.
        """
        ...

    @property
    def progresses(self) -> bool:
        """Whether there are `progress` callbacks; when false, it is not called."""
        ...

    async def progress(self, arrival: Arrival) -> None:
        """Called while bytes arrive, at most ten times a second. An exception is logged."""
        ...

    @property
    def deletes(self) -> bool:
        """Whether there are `delete` callbacks; when false, it is not called."""
        ...

    async def delete(self, deletion: Deletion) -> None:
        """Called after a file was removed. An exception is logged."""
        ...
