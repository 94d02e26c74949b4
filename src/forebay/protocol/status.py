"""Errors as HTTP responses: status, header fields, body.

Only this module knows the statuses of the errors in `forebay.errors`.
"""

from __future__ import annotations

import dataclasses
import http
import json
import math
from collections.abc import Mapping
from types import MappingProxyType

from forebay import errors
from forebay.errors import UploadError

__all__ = ["STATUS", "Answer", "phrase", "problems_of", "render", "restated", "status_of"]

# Sections are of RFC 9110 where no other document is named.
STATUS: Mapping[type[UploadError], int] = MappingProxyType(
    {
        errors.UploadError: 500,
        # refused
        errors.Refused: 400,
        errors.InvalidRequest: 400,
        errors.HeadTooLarge: 431,  # RFC 6585, section 5
        errors.UnknownTransferCoding: 501,  # RFC 9112, section 6.1
        errors.InvalidField: 400,
        errors.InvalidName: 400,
        errors.InvalidForm: 422,
        errors.MissingField: 422,
        errors.NotAuthenticated: 401,
        errors.Forbidden: 403,
        errors.OriginRefused: 403,
        errors.HostRefused: 421,  # 15.5.20
        errors.NotFound: 404,
        errors.Gone: 410,
        errors.MethodNotAllowed: 405,
        errors.MethodUnknown: 501,  # 15.6.2
        errors.NameTaken: 409,
        errors.NotAFolder: 409,
        errors.PreconditionFailed: 412,
        errors.RangeNotSatisfiable: 416,
        errors.LengthRequired: 411,
        errors.NotOffered: 501,
        errors.TooLarge: 413,
        errors.UnsupportedMediaType: 415,
        errors.UnsupportedCoding: 415,  # 8.4
        errors.TooManyUploads: 503,
        errors.TooManyUnfinished: 503,
        errors.ShuttingDown: 503,
        errors.OffsetMismatch: 409,
        errors.InconsistentLength: 400,
        # Not 423 (Locked): some clients take any 4xx for final; all of them retry a 503.
        errors.UploadBusy: 503,
        errors.UploadExists: 409,
        errors.WrongState: 409,
        errors.AlreadyExists: 500,
        errors.VerificationRefused: 422,
        # the body did not arrive as announced
        errors.BodyFailed: 400,
        errors.IncompleteBody: 400,
        errors.MalformedBody: 400,
        errors.BodyTimeout: 408,
        errors.HeadTimeout: 408,
        errors.TooSlow: 408,
        errors.DigestMismatch: 400,
        errors.UndecodableBody: 400,
        errors.HookFailed: 500,
        errors.OutOfMemory: 503,
        errors.Interrupted: 503,
        errors.LeaseLost: 503,
        # storage
        errors.StorageError: 500,
        errors.DiskFull: 507,  # RFC 4918, section 11.5
        errors.QuotaExceeded: 507,
        errors.StorageDenied: 500,
        errors.NoDescriptors: 503,
        errors.StorageBusy: 503,
        errors.SyncFailed: 500,
        errors.StorageFailed: 500,
        errors.StorageUnavailable: 503,
        errors.SessionsUnavailable: 503,
    }
)

_PHRASES: Mapping[int, str] = MappingProxyType(
    {
        104: "Upload Resumption Supported",  # draft-ietf-httpbis-resumable-upload
        413: "Content Too Large",  # RFC 9110 has new names; Python has them since 3.13
        414: "URI Too Long",
        416: "Range Not Satisfiable",
        422: "Unprocessable Content",
        460: "Checksum Mismatch",  # tus 1.0, extension checksum
    }
)


def phrase(status: int) -> str:
    """The reason phrase of a status, "" if none is known (RFC 9112, section 4)."""
    if status in _PHRASES:
        return _PHRASES[status]
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def status_of(error: UploadError) -> int:
    """The status of an error; for a class of an application, that of its nearest ancestor."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. Its fields are as in ASGI."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


def render(error: UploadError, accept: bytes | None, *, upload_id: str | None = None) -> Answer:
    """The response to a client for `error`.

    A problem document (RFC 9457), unless `accept` names text and not JSON, as browsers do.
    """
    status = status_of(error)
    if _wants_text(accept):
        kind = b"text/plain; charset=utf-8"
        body = f"{error.message} ({error.code})\n".encode("utf-8", "replace")
    else:
        kind = b"application/problem+json"
        body = _problem(error, status, upload_id)
    headers = (
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept"),
        (b"x-content-type-options", b"nosniff"),
        *_fields(error, status),
    )
    return Answer(status, headers, body)


def restated(answer: Answer, status: int) -> Answer:
    """The same response with another status, one of a protocol, also in its body."""
    body = answer.body
    if (b"content-type", b"application/problem+json") in answer.headers:
        problem = {**json.loads(body), "title": phrase(status), "status": status}
        body = json.dumps(problem).encode("ascii") + b"\n"
    length = (b"content-length", b"%d" % len(body))
    headers = tuple(length if field[0] == length[0] else field for field in answer.headers)
    return Answer(status, headers, body)


def _wants_text(accept: bytes | None) -> bool:
    wanted = (accept or b"").lower()
    return b"text/" in wanted and b"json" not in wanted


_MEMBERS = {
    "expected": "expected-offset",  # names of the resumable upload draft
    "provided": "provided-offset",
    "limit": "limit",
    "field": "field",  # of a form, with the name of the file in it
    "filename": "filename",
    "state": "state",
    "algorithm": "algorithm",
}


def _problem(error: UploadError, status: int, upload_id: str | None) -> bytes:
    problem: dict[str, object] = {
        "type": f"urn:forebay:error:{error.code}",
        "title": phrase(status),
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    for key, member in _MEMBERS.items():
        value = error.detail.get(key)
        if isinstance(value, int | str):
            problem[member] = value
    if isinstance(error, errors.InvalidForm):
        problem["errors"] = problems_of(error)
    if upload_id is not None:
        problem["upload"] = upload_id
    return json.dumps(problem).encode("ascii") + b"\n"


def problems_of(error: errors.InvalidForm) -> list[dict[str, object]]:
    """What is wrong with each field of a form, as values for JSON."""
    return [
        {
            "loc": [part if isinstance(part, int) else str(part) for part in problem["loc"]],
            "msg": str(problem["msg"]),
            "type": str(problem["type"]),
        }
        for problem in error.detail.get("problems", ())
    ]


def _fields(error: UploadError, status: int) -> list[tuple[bytes, bytes]]:
    """The fields that a status requires."""
    detail = error.detail
    if status == 401:  # 15.5.2: a challenge; Basic would open a dialogue of the browser
        return [(b"www-authenticate", _ascii(detail.get("challenge", "Bearer")))]
    if status == 405:  # 15.5.6: the list may be empty, the field must be there
        allow = detail.get("allow", ())
        return [(b"allow", _ascii(allow if isinstance(allow, str) else ", ".join(allow)))]
    if status == 416 and detail.get("size") is not None:  # 14.4
        return [(b"content-range", b"bytes */%d" % detail["size"])]
    if status == 503:  # 10.2.3: whole seconds
        return [(b"retry-after", b"%d" % max(1, math.ceil(detail.get("retry_after") or 1)))]
    if isinstance(
        error, errors.UnsupportedCoding
    ):  # 12.5.3, 15.5.16: a 415 for a coding, not a media type
        return [(b"accept-encoding", _ascii(", ".join(detail.get("accept", ())) or "identity"))]
    return []


def _ascii(value: str) -> bytes:
    """`value` as the value of a field, without characters that could end or split it."""
    return "".join(c for c in value if " " <= c <= "~").encode("ascii")
