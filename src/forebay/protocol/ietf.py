"""Resumable uploads of the IETF: draft-ietf-httpbis-resumable-upload.

A request's head in, a `CreateUpload` or `AppendUpload` out; an upload's state in, fields out.
Sections are of the newest text read, httpwg/http-extensions b1b1c72f (2026-07-01), with what
is known of -12 and later. Until it is an RFC its iterations are told apart by a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from forebay.errors import InvalidField, UnsupportedMediaType
from forebay.model import AppendUpload, CreateUpload, Receive
from forebay.protocol import checksums, content_type, fields, structured_fields
from forebay.protocol.fields import Headers

__all__ = [
    "LARGEST",
    "NAME",
    "NEWEST",
    "PARTIAL_UPLOAD",
    "VERSIONS",
    "Limits",
    "UploadFields",
    "Version",
    "announcement_fields",
    "append",
    "completeness_field",
    "create",
    "has_completeness",
    "length_problem",
    "offset_field",
    "offset_problem",
    "progress_fields",
    "read",
    "speaks",
    "state_fields",
    "version_fields",
]

Fields = list[tuple[bytes, bytes]]

NAME = "ietf"
LARGEST = 999_999_999_999_999
"""Bytes: the largest Integer of a structured field (RFC 9651, section 3.3.1)."""
PARTIAL_UPLOAD = "application/partial-upload"
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"


# --- what differs between the iterations -----------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """One iteration of the draft, by its interop number; None is the protocol without one."""

    number: int | None
    incomplete: bool = False
    """Says `Upload-Incomplete`, the opposite, where the others say `Upload-Complete`."""
    media_type: bool = True
    """An append has to be `application/partial-upload`."""
    lax: bool = False
    """An append without `Upload-Complete` is one that does not end the upload."""
    length: bool = True
    """Knows `Upload-Length`."""
    limits: bool = True
    """Knows `Upload-Limit`."""
    age: bytes = b"max-age"
    """What that calls the seconds left to live."""
    interim: bool = True
    """104 may be sent to a client that asked in this version."""


VERSIONS: Mapping[int, Version] = MappingProxyType(
    {
        # -01; clients: iOS 17, early swift-nio-extras
        3: Version(3, True, media_type=False, lax=True, length=False, limits=False),
        # -02
        4: Version(4, media_type=False, lax=True, length=False, limits=False),
        # -03; tus-js-client "ietf-draft-03"
        5: Version(5, media_type=False, lax=True, length=False, limits=False),
        # -04, -05; iOS 18, tus-js-client "ietf-draft-05"
        6: Version(6, age=b"expires"),
        7: Version(7),  # -06 to -08
        8: Version(8),  # -09 to -11; iOS 26
        9: Version(9),  # -12
    }
)
NEWEST = VERSIONS[9]


def _version(headers: Headers, without_version: bool) -> Version:
    """Section "Draft Version Identification". An unknown number gets the newest rules and
    no 104, none at all likewise unless the RFC is out (`without_version`).
    """
    number = _integer(headers, b"upload-draft-interop-version")
    if number is None:
        return dataclasses.replace(NEWEST, number=None, interim=without_version)
    known = VERSIONS.get(number)
    return known or dataclasses.replace(NEWEST, number=None, interim=False)


# --- reading ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class UploadFields:
    """What the fields of a request say; None for a field that is absent or not to be read."""

    version: Version
    complete: bool | None
    offset: int | None
    length: int | None


def read(headers: Headers, *, without_version: bool = False) -> UploadFields:
    version = _version(headers, without_version)
    if version.incomplete:
        incomplete = _boolean(headers, b"upload-incomplete")
        complete = None if incomplete is None else not incomplete
    else:
        complete = _boolean(headers, b"upload-complete")
    return UploadFields(
        version,
        complete,
        _integer(headers, b"upload-offset"),
        _integer(headers, b"upload-length"),
    )


def _item(headers: Headers, name: bytes) -> object:
    lines = fields.every(headers, name)
    item = structured_fields.structured_item(b", ".join(lines)) if lines else None
    return item[0] if item is not None else None


def _integer(headers: Headers, name: bytes) -> int | None:
    """Sections 4.1.1 and 4.1.3: any other value makes the field as if it were not there."""
    value = _item(headers, name)
    return value if type(value) is int and value >= 0 else None


def _boolean(headers: Headers, name: bytes) -> bool | None:
    value = _item(headers, name)
    return value if isinstance(value, bool) else None


def has_completeness(headers: Headers) -> bool:
    """Whether a request has a field that begins an upload (section 4.2.2), readable or not."""
    return any(key in _MARKS for key, _ in headers)


def is_part(headers: Headers) -> bool:
    """Whether the body is said not to be the whole: stored as one it would be taken for it."""
    return has_completeness(headers) and read(headers).complete is False


_MARKS = frozenset({b"upload-complete", b"upload-incomplete"})


def speaks(method: str, headers: Headers) -> bool:
    """Whether a request to an upload, or to where they begin, is in this dialect."""
    if method == "POST":
        return read(headers).complete is not None
    if method in ("GET", "HEAD", "DELETE"):  # without the number nothing tells it from others
        return fields.first(headers, b"upload-draft-interop-version") is not None
    return method == "PATCH"


def create(target: Receive, length: int | None, headers: Headers) -> CreateUpload:
    """The upload that a creation asks for (section 4.2.2); `length` is what it comes to in
    all, where that is known. `target` is the request as its resource would have taken it.
    """
    limits = [LARGEST] if target.max_size is None else [target.max_size, LARGEST]
    return CreateUpload(
        dialect=NAME,
        name=target.name,
        conflict=target.conflict,
        length=length,
        media_type=target.media_type,
        expected=checksums.file_digests(headers),
        wanted=target.wanted,
        max_size=min(limits),
        preconditions=target.preconditions,
        about=dataclasses.replace(target.about, length=length),
    )


def append(asked: UploadFields, upload_id: str, headers: Headers) -> AppendUpload:
    """What a PATCH asks for (section 4.4). Raises UnsupportedMediaType and InvalidField."""
    kind = content_type.file_type(headers)
    if asked.version.media_type and kind != PARTIAL_UPLOAD:
        raise UnsupportedMediaType(f"Send the bytes to append as {PARTIAL_UPLOAD}.")
    if asked.offset is None:
        raise InvalidField("Upload-Offset must say at which byte to go on.")
    if asked.complete is None and not asked.version.lax:
        raise InvalidField("Upload-Complete must say whether these are the last bytes.")
    return AppendUpload(
        upload_id,
        NAME,
        asked.offset,
        length=asked.length,
        completes=bool(asked.complete),
    )


# --- writing ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What an upload is bounded by; None where nothing does."""

    max_size: int | None = None
    """Bytes."""
    age: int | None = None
    """Seconds that are left."""
    max_append_size: int | None = None
    """Bytes of one request."""

    def field(self, version: Version = NEWEST) -> tuple[bytes, bytes]:
        """`Upload-Limit` (section 4.1.4); it is never empty."""
        members = []
        if self.max_size is not None and self.max_size < LARGEST:
            members.append(b"max-size=%d" % self.max_size)
        if self.max_append_size is not None and self.max_append_size < LARGEST:
            members.append(b"max-append-size=%d" % self.max_append_size)
        if self.age is not None:
            members.append(version.age + b"=%d" % max(0, min(self.age, LARGEST)))
        return b"upload-limit", b", ".join(members) or b"min-size=0"


def version_fields(version: Version) -> Fields:
    """The number that the client sent, on all that is for it."""
    if version.number is None:
        return []
    return [(b"upload-draft-interop-version", b"%d" % version.number)]


def completeness_field(version: Version, complete: bool) -> tuple[bytes, bytes]:
    """Whether an answer is the target's own (section 4.1.2), True, or about the transfer."""
    if version.incomplete:
        return b"upload-incomplete", b"?0" if complete else b"?1"
    return b"upload-complete", b"?1" if complete else b"?0"


def offset_field(value: int) -> tuple[bytes, bytes]:
    return b"upload-offset", b"%d" % value


def announcement_fields(version: Version, location: bytes, limits: Limits) -> Fields:
    """A 104 that names the upload (section 4.2.2)."""
    found = [(b"location", location)]
    if version.limits:
        found.append(limits.field(version))
    return [*found, *version_fields(version)]


def progress_fields(version: Version, committed: int) -> Fields:
    """A 104 that acknowledges bytes (sections 4.2.2 and 4.4.2): no Location."""
    return [offset_field(committed), *version_fields(version)]


def state_fields(
    version: Version, *, complete: bool, at: int, length: int | None, limits: Limits | None
) -> Fields:
    """Where an upload stands, on a final answer (section 4.3.2)."""
    found = [completeness_field(version, complete), offset_field(at)]
    if version.length and length is not None:
        found.append((b"upload-length", b"%d" % length))
    if version.limits and limits is not None:
        found.append(limits.field(version))
    return [*found, *version_fields(version)]


def offset_problem(*, expected: int, provided: int, **_: object) -> dict[str, object]:
    """Members of the problem document for an offset that does not fit (section 7.1)."""
    kind = _PROBLEMS + "mismatching-upload-offset"
    return {"type": kind, "expected-offset": expected, "provided-offset": provided}


def length_problem() -> dict[str, object]:
    """Members of the problem document for lengths that do not agree (section 7.2)."""
    return {"type": _PROBLEMS + "inconsistent-upload-length"}
