"""What `/files` and `/uploads` need of a dialect, that is, of one protocol for uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from forebay import model
    from forebay.errors import UploadError
    from forebay.http.answers import Field, Headers, Receive, Send
    from forebay.model import UploadRecord
    from forebay.protocol.status import Answer


class Dialect(Protocol):
    """What both need."""

    def offer(self, scope: dict[str, Any]) -> Headers:
        """Fields of the answer to OPTIONS."""
        return []

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        """The answer to an error with the status and fields of this dialect."""
        ...


class UploadDialect(Dialect, Protocol):
    """Requests to `/uploads`."""

    name: str
    """As in `UploadRecord.dialect`."""
    answers_get: bool = False
    """Whether the dialect answers a GET of an upload; else it gets the JSON status."""
    always: Sequence[Field] = ()
    """Fields of every answer in this dialect, except those to OPTIONS."""

    def speaks(self, method: str, headers: Headers) -> bool:
        """Whether a request is in this dialect, going by its head."""
        ...

    def method_of(self, method: str, headers: Headers) -> str:
        """The method that is meant, where another was sent. Raises InvalidField."""
        return method

    def status_fields(self, record: UploadRecord, scope: dict[str, Any]) -> Headers:
        """Fields of the JSON status of an upload in this dialect."""
        return []

    async def handle(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str | None
    ) -> Answer:
        """Answers a POST to the collection (`upload_id` is None), or HEAD, PUT, PATCH, DELETE,
        POST (also GET, with `answers_get`) to an upload. May send interim responses before.
        Raises UploadError.
        """
        ...


class FilesDialect(Dialect, Protocol):
    """Requests to `/files` that are in an upload protocol: tus, or parts by Content-Range."""

    def wants(self, scope: dict[str, Any]) -> bool:
        """Whether the request is in this dialect, and the dialect can be had."""
        ...

    async def store(
        self, scope: dict[str, Any], receive: Receive, segments: list[str], folder: bool
    ) -> Answer:
        """Answers the request; `segments` are of the decoded path. Raises UploadError."""
        ...


class Creator(Dialect, Protocol):
    """Makes a resumable upload of a PUT or POST to `/files` that asks for one."""

    def wants(self, scope: dict[str, Any]) -> bool:
        """Whether the request asks for a resumable upload, and it can be had."""
        ...

    async def create(
        self, scope: dict[str, Any], receive: Receive, send: Send, command: model.Receive
    ) -> Answer:
        """Answers the request; `command` is what a plain upload would be. Raises UploadError."""
        ...
