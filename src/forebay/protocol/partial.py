"""Partial uploads by Content-Range (RFC 9110, sections 9.3.4 and 14.5): the wire rules.

A part says where it belongs. `bytes */total` (or `*/*`) without a body asks for the offset of the
upload. The status 308 and its Range field are what widely used resumable clients expect; they are
in no RFC.
"""

from __future__ import annotations

import dataclasses
import re

from forebay.errors import InvalidField, LengthRequired
from forebay.model import CreateUpload, Receive
from forebay.protocol import content_type, fields, ranges, whole_file
from forebay.protocol.content_codings import check_identity
from forebay.protocol.creation import create_from
from forebay.protocol.fields import Headers

__all__ = [
    "INCOMPLETE",
    "NAME",
    "OffsetQuery",
    "Part",
    "check_absent",
    "create",
    "read",
    "received_range",
    "speaks",
]

NAME = "content-range"
INCOMPLETE = 308
"""The status of an unfinished upload. It has no Location, so no client follows it."""

_ANY = re.compile(rb"bytes \*/\*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `stop`, not included, of a file of `total` bytes, if known."""

    start: int
    stop: int
    total: int | None

    @property
    def completes(self) -> bool | None:
        """Whether it is the last part; None when the size of the file is not known."""
        return None if self.total is None else self.stop == self.total


@dataclasses.dataclass(frozen=True, slots=True)
class OffsetQuery:
    """A request for the offset of an upload. `total`: size of the file, if the client knows it."""

    total: int | None


def speaks(method: str, headers: Headers) -> bool:
    """Whether a request to an upload is in this protocol, judging by its head."""
    if method not in ("PUT", "PATCH"):
        return False
    names = {name for name, _ in headers}
    return b"content-range" in names and names.isdisjoint(whole_file.FIELDS)


def check_absent(method: str, headers: Headers) -> None:
    """Checks that a request in another protocol has no Content-Range, which could contradict it.

    Requests without content may have one. Raises InvalidField.
    """
    sends = method in ("PUT", "PATCH", "POST")
    if sends and any(name == b"content-range" for name, _ in headers):
        raise _mixed()


def _mixed() -> InvalidField:
    return InvalidField("Content-Range does not go together with another upload protocol.")


def read(headers: Headers, content_length: int | None) -> Part | OffsetQuery:
    """The part or query in a request. `content_length`: bytes, None when not announced.

    A part with an unclear position is refused. Raises InvalidField, LengthRequired,
    UnsupportedCoding, UnsupportedMediaType.
    """
    value = fields.single(headers, b"content-range")
    if value is None:
        raise InvalidField(
            'A PATCH of a file needs Content-Range: "bytes first-last/total". What another upload '
            "protocol adds goes to the upload's own address (its Location)."
        )
    if not whole_file.FIELDS.isdisjoint(name for name, _ in headers):
        raise _mixed()
    check_identity(headers)
    content_type.file_type(headers)
    if content_length is None:
        raise LengthRequired("A request with Content-Range needs a Content-Length.")
    asked = _parse(value)
    size = asked.stop - asked.start if isinstance(asked, Part) else 0
    if size != content_length:
        raise InvalidField(
            f"Content-Range is about {size} bytes, Content-Length about {content_length}."
        )
    return asked


def _parse(value: bytes) -> Part | OffsetQuery:
    if _ANY.fullmatch(value):
        return OffsetQuery(None)
    start, stop, total = ranges.parse_content_range(value)
    return OffsetQuery(total) if start is None or stop is None else Part(start, stop, total)


def create(plain: Receive, total: int | None, headers: Headers) -> CreateUpload:
    """The command of a first part. `plain`: the command of a PUT of the whole file."""
    return create_from(plain, NAME, total, headers, max_size=plain.max_size, by_name=True)


def received_range(offset: int) -> list[tuple[bytes, bytes]]:
    """Range with the bytes received so far; no field when there are none."""
    return [(b"range", b"bytes=0-%d" % (offset - 1))] if offset else []
