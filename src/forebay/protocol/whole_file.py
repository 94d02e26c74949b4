"""That a body is a whole file, and not in the terms of a resumable protocol.

Every route that stores a body as it comes asks `check` first. A request that speaks a resumable
protocol, in whatever spelling, is served by that protocol or refused: stored as it is, a part
would be taken for the whole (docs/decisions/018-*).
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
from forebay.protocol import fields, ietf
from forebay.protocol.fields import Headers, display_name

__all__ = ["FIELDS", "PARTIAL_TYPES", "check", "check_beginning", "check_override"]


_TUS = (
    b"tus-resumable",
    b"upload-metadata",
    b"upload-concat",
    b"upload-defer-length",
    b"upload-checksum",
)
_DRAFT = (
    b"upload-complete",
    b"upload-incomplete",
    b"upload-draft-interop-version",
    b"upload-length",
    b"upload-offset",
)
FIELDS = frozenset((*_TUS, *_DRAFT))
"""Those that a resumable protocol has and a whole body has no use for."""

PARTIAL_TYPES = frozenset({"application/offset+octet-stream", ietf.PARTIAL_UPLOAD})
"""Media types of bytes that are added to an upload."""

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
"""Of protocols that are not spoken here, whose bodies are parts (nginx's upload module, Google,
ownCloud).
"""
_MARKS = FIELDS | _FOREIGN | {b"content-range", *_OVERRIDES}


def check(method: str, headers: Headers, names: Collection[bytes] | None = None) -> None:
    """That the body of a request may be taken for a whole file. `names`: those of its fields.

    `Upload-Complete: ?1` says that it is (draft-ietf-httpbis-resumable-upload, section 4.2.2):
    then the draft's other fields may come along, as far as they agree. Raises InvalidRequest,
    InvalidField, InconsistentLength, LengthRequired, UnsupportedMediaType.
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
    for name in _TUS:
        if name in names:
            raise InvalidRequest(
                f"{display_name(name)} belongs to a resumable upload (tus), which cannot begin "
                "here. Begin it where those are offered, or send the whole file without that field."
            )
    if not FIELDS.isdisjoint(names):
        _check_draft(headers)


def check_beginning(method: str, headers: Headers) -> None:
    """That a request that begins an upload of the draft means its beginning, and nothing else.

    Raises InvalidField: bytes that belong further on would become the first ones. InvalidRequest
    for fields of another protocol, by which the body might be another part.
    """
    check_override(method, headers)
    names = {name for name, _ in headers}
    _check_foreign(names)
    for name in _TUS:
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
    """X-HTTP-Method-Override, and the like, count for tus alone. Raises InvalidField where one
    means another method than the request has.
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
        # Also where the rest cannot be read: nobody means a file by that.
        kind = value.partition(b";")[0].partition(b",")[0].strip().lower().decode("latin-1")
        if kind in PARTIAL_TYPES:
            raise UnsupportedMediaType(
                f"{kind} is for bytes that are added to an upload, by PATCH of its own address. "
                "Send a whole file with its own media type."
            )


def _check_draft(headers: Headers) -> None:
    if not ietf.asks(headers):
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
    """The two say the opposite of each other, each in its versions."""
    if fields.every(headers, b"upload-complete") and fields.every(headers, b"upload-incomplete"):
        raise InvalidField("Send Upload-Complete or Upload-Incomplete, not both.")


def _check_length(told: int | None, content_length: int | None) -> None:
    if told is None:
        raise InvalidField("Upload-Length is not a number of bytes.")
    if content_length is None:
        raise LengthRequired("Beside Upload-Length a whole file needs its Content-Length.")
    if told != content_length:
        raise InconsistentLength(
            f"Upload-Length says {told} bytes, but the body has {content_length}; send them all."
        )
