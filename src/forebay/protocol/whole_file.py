"""Checks that a body is a whole file, and not a part of one.

Every route that stores a body as it comes calls `check` first. A request with fields of a
resumable protocol is served by that protocol or refused: its body could be a part, which must
not be stored as a whole file (docs/decisions/018-*).
"""

from __future__ import annotations

from collections.abc import Collection

from forebay.errors import (
    InconsistentLength,
    InvalidField,
    InvalidRequest,
    LengthRequired,
    UnsupportedMediaType,
)
from forebay.protocol import fields, ietf, tus
from forebay.protocol.fields import Headers, display_name

__all__ = ["FIELDS", "PARTIAL_TYPES", "check", "check_beginning", "check_override"]


_DRAFT = (
    b"upload-complete",
    b"upload-incomplete",
    b"upload-draft-interop-version",
    b"upload-length",
    b"upload-offset",
)
FIELDS = frozenset((*tus.FIELDS, *_DRAFT))
"""Fields of resumable protocols."""

PARTIAL_TYPES = frozenset({"application/offset+octet-stream", ietf.PARTIAL_UPLOAD})
"""Media types of bytes that are appended to an upload."""

_OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")
_FOREIGN = frozenset(
    (
        b"x-content-range",
        b"x-upload-content-length",
        b"x-goog-upload-protocol",
        b"x-goog-upload-command",
        b"x-goog-upload-offset",
        b"oc-chunked",
    )
)
"""Fields of protocols for parts that are not supported: nginx's upload module, Google, ownCloud."""
_MARKS = FIELDS | _FOREIGN | {b"content-range", *_OVERRIDES}


def check(method: str, headers: Headers, names: Collection[bytes] | None = None) -> None:
    """Checks that the body of a request is a whole file. `names`: names of its fields, if known.

    With `Upload-Complete: ?1` it is (draft-ietf-httpbis-resumable-upload, section 4.2.2); the
    other fields of the draft are then allowed if they agree. Raises InvalidRequest, InvalidField,
    InconsistentLength, LengthRequired, UnsupportedMediaType.
    """
    names = {name for name, _ in headers} if names is None else names
    if b"content-type" in names:
        _check_type(headers)
    if _MARKS.isdisjoint(names):
        return
    if b"content-range" in names:
        raise InvalidField("Content-Range: a part of a file is not taken here; send it whole.")
    check_override(method, headers)
    _check_foreign(names)
    for name in tus.FIELDS:
        if name in names:
            raise InvalidRequest(
                f"{display_name(name)} belongs to a resumable upload (tus), which cannot begin "
                "here. Begin it where those are offered, or send the whole file without that field."
            )
    if not FIELDS.isdisjoint(names):
        _check_draft(headers)


def check_beginning(method: str, headers: Headers) -> None:
    """Checks that a request that creates an upload of the draft carries its first bytes.

    Raises InvalidField when the bytes belong to another offset, and InvalidRequest for fields of
    another protocol, which could mean another part.
    """
    check_override(method, headers)
    names = {name for name, _ in headers}
    _check_foreign(names)
    for name in tus.FIELDS:
        if name in names:
            raise InvalidRequest(
                f"{display_name(name)} belongs to tus, and Upload-Complete to another protocol. "
                "Send the fields of one of them."
            )
    _check_one(headers)
    if fields.every(headers, b"upload-offset") and ietf.read(headers).offset != 0:
        raise InvalidField(
            "An upload begins at byte 0. To add to one that exists, PATCH its own address (the "
            "Location that it was given)."
        )


def check_override(method: str, headers: Headers) -> None:
    """Checks that X-HTTP-Method-Override, or a field like it, names the request's own method: an
    override is supported only in tus. Raises InvalidField.
    """
    for name, value in headers:
        if name in _OVERRIDES and value.strip().upper() != method.encode():
            raise InvalidField(
                f"{display_name(name)} does not count here (X-HTTP-Method-Override does for tus, "
                "at the address of uploads). Send the method itself."
            )


def _check_foreign(names: Collection[bytes]) -> None:
    if _FOREIGN.isdisjoint(names):
        return
    name = min(_FOREIGN.intersection(names))
    raise InvalidRequest(
        f"{display_name(name)} belongs to an upload in parts that is not spoken here. Send the "
        "whole file without it, or use tus, Upload-Complete or Content-Range."
    )


def _check_type(headers: Headers) -> None:
    for value in fields.every(headers, b"content-type"):
        # Also when the parameters are malformed: no file has such a type.
        kind = value.partition(b";")[0].partition(b",")[0].strip().lower().decode("latin-1")
        if kind in PARTIAL_TYPES:
            raise UnsupportedMediaType(
                f"{kind} is for bytes that are added to an upload, by PATCH of its own address. "
                "Send a whole file with its own media type."
            )


def _check_draft(headers: Headers) -> None:
    if not ietf.has_completeness(headers):
        name = next(name for name, _ in headers if name in FIELDS)
        raise InvalidRequest(
            f"{display_name(name)} belongs to a resumable upload. Say Upload-Complete: ?1 with a "
            "whole file, or send it without that field."
        )
    asked = ietf.read(headers, without_version=True)
    if asked.complete is None:
        raise InvalidField(
            "Upload-Complete cannot be read. It is ?1 when the body is the whole file, ?0 when "
            "more will follow (before version 4 of the draft it is Upload-Incomplete)."
        )
    _check_one(headers)
    if not asked.complete:
        raise InvalidRequest(
            "More would follow this body (Upload-Complete: ?0), but a resumable upload cannot "
            "begin here. Send the whole file in one request."
        )
    if fields.every(headers, b"upload-offset") and asked.offset != 0:
        raise InvalidField("Upload-Offset: a whole file begins at byte 0.")
    if fields.every(headers, b"upload-length"):
        _check_length(asked.length, fields.content_length(headers))


def _check_one(headers: Headers) -> None:
    """Only one of the two may be there: they say the opposite of each other."""
    if fields.every(headers, b"upload-complete") and fields.every(headers, b"upload-incomplete"):
        raise InvalidField("Send Upload-Complete or Upload-Incomplete, not both.")


def _check_length(announced: int | None, content_length: int | None) -> None:
    if announced is None:
        raise InvalidField("Upload-Length is not a number of bytes.")
    if content_length is None:
        raise LengthRequired("Beside Upload-Length a whole file needs its Content-Length.")
    if announced != content_length:
        raise InconsistentLength(
            f"Upload-Length says {announced} bytes, but the body has {content_length}; send them "
            "all."
        )
