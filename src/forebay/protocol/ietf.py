"""Resumable uploads of the IETF: draft-ietf-httpbis-resumable-upload.

The head of a request in, a `CreateUpload` or `AppendUpload` out; the state of an upload in,
fields out. Section numbers are those of httpwg/http-extensions b1b1c72f (2026-07-01), with what
is known of -12 and later. Versions of the draft are distinguished by their interop number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from forebay.errors import InvalidField, UnsupportedMediaType
from forebay.model import AppendUpload, CreateUpload, Receive
from forebay.protocol import content_type, fields, structured_fields
from forebay.protocol.creation import create_from
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


# --- versions of the draft -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """What a version of the draft has; `number` is its interop number, None when there is none."""

    number: int | None
    incomplete: bool = False
    """It has `Upload-Incomplete`, the opposite, in place of `Upload-Complete`."""
    media_type: bool = True
    """An append must have the media type `application/partial-upload`."""
    lax: bool = False
    """An append without `Upload-Complete` is valid, and does not end the upload."""
    length: bool = True
    """It has `Upload-Length`."""
    limits: bool = True
    """It has `Upload-Limit`."""
    age: bytes = b"max-age"
    """The member of `Upload-Limit` for the seconds until the upload expires."""
    interim: bool = True
    """104 responses may be sent to its clients."""


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
    """The version of a request (section "Draft Version Identification").

    An unknown number, or none, gets the rules of the newest version without 104 responses.
    `without_version`: requests without a number get them as well, as after the RFC.
    """
    number = _integer(headers, b"upload-draft-interop-version")
    if number is None:
        return dataclasses.replace(NEWEST, number=None, interim=without_version)
    known = VERSIONS.get(number)
    return known or dataclasses.replace(NEWEST, number=None, interim=False)


# --- reading ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class UploadFields:
    """The fields of a request; None for a field that is absent or malformed."""

    version: Version
    complete: bool | None
    """Upload-Complete: the body ends the upload."""
    offset: int | None
    """Upload-Offset, in bytes."""
    length: int | None
    """Upload-Length, in bytes."""


def read(headers: Headers, *, without_version: bool = False) -> UploadFields:
    """The fields of a request. `without_version`: the setting `resumable_without_version`."""
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
    """An Integer that is not negative; None for any other value (sections 4.1.1 and 4.1.3)."""
    value = _item(headers, name)
    return value if type(value) is int and value >= 0 else None


def _boolean(headers: Headers, name: bytes) -> bool | None:
    value = _item(headers, name)
    return value if isinstance(value, bool) else None


def has_completeness(headers: Headers) -> bool:
    """Whether a request has Upload-Complete or Upload-Incomplete, even malformed (4.2.2)."""
    return any(key in _COMPLETENESS for key, _ in headers)


def is_part(headers: Headers) -> bool:
    """Whether the request says that its body is only a part, which must not be stored as a file."""
    return has_completeness(headers) and read(headers).complete is False


_COMPLETENESS = frozenset({b"upload-complete", b"upload-incomplete"})


def speaks(method: str, headers: Headers) -> bool:
    """Whether a request to an upload, or to the collection, is in this protocol."""
    if method == "POST":
        return read(headers).complete is not None
    if method in ("GET", "HEAD", "DELETE"):  # only the number distinguishes it from others
        return fields.first(headers, b"upload-draft-interop-version") is not None
    return method == "PATCH"


def create(plain: Receive, length: int | None, headers: Headers) -> CreateUpload:
    """The command of a creation (section 4.2.2). `length`: bytes of the whole upload, None when not
    known. `plain`: the command that the request would be without this protocol.
    """
    max_size = LARGEST if plain.max_size is None else min(plain.max_size, LARGEST)
    return create_from(plain, NAME, length, headers, max_size=max_size)


def append(asked: UploadFields, upload_id: str, headers: Headers) -> AppendUpload:
    """The command of a PATCH (section 4.4). Raises UnsupportedMediaType and InvalidField."""
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
    """The limits of an upload; None is no limit."""

    max_size: int | None = None
    """Bytes."""
    age: int | None = None
    """Seconds until the upload expires."""
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
    """The interop number of the client, for every response to it."""
    if version.number is None:
        return []
    return [(b"upload-draft-interop-version", b"%d" % version.number)]


def completeness_field(version: Version, complete: bool) -> tuple[bytes, bytes]:
    """Upload-Complete of a response (section 4.1.2). True: it is the response of the target itself.
    False: it is about the transfer.
    """
    if version.incomplete:
        return b"upload-incomplete", b"?0" if complete else b"?1"
    return b"upload-complete", b"?1" if complete else b"?0"


def offset_field(value: int) -> tuple[bytes, bytes]:
    """Upload-Offset, in bytes."""
    return b"upload-offset", b"%d" % value


def announcement_fields(version: Version, location: bytes, limits: Limits) -> Fields:
    """The fields of a 104 response with the URL of the upload (section 4.2.2)."""
    found = [(b"location", location)]
    if version.limits:
        found.append(limits.field(version))
    return [*found, *version_fields(version)]


def progress_fields(version: Version, committed: int) -> Fields:
    """The fields of a 104 response that acknowledges bytes (sections 4.2.2 and 4.4.2)."""
    return [offset_field(committed), *version_fields(version)]


def state_fields(
    version: Version, *, complete: bool, at: int, length: int | None, limits: Limits | None
) -> Fields:
    """The state of an upload, for a final response (section 4.3.2)."""
    found = [completeness_field(version, complete), offset_field(at)]
    if version.length and length is not None:
        found.append((b"upload-length", b"%d" % length))
    if version.limits and limits is not None:
        found.append(limits.field(version))
    return [*found, *version_fields(version)]


def offset_problem(*, expected: int, provided: int, **_: object) -> dict[str, object]:
    """Members of the problem document for a wrong offset (section 7.1)."""
    kind = _PROBLEMS + "mismatching-upload-offset"
    return {"type": kind, "expected-offset": expected, "provided-offset": provided}


def length_problem() -> dict[str, object]:
    """Members of the problem document for contradicting lengths (section 7.2)."""
    return {"type": _PROBLEMS + "inconsistent-upload-length"}
