"""The id of a resumable upload, wherever on the wire it stands (invariant 8).

One rule for ids in request paths and for those in header fields: nothing is unescaped, no dot
and no slash can be part of one.
"""

from __future__ import annotations

import re

from forebay.errors import InvalidRequest, MethodNotAllowed, NotFound, UploadError

__all__ = [
    "COLLECTION_METHODS",
    "RESUMABLE_METHODS",
    "UPLOAD_METHODS",
    "methods_of",
    "refuse_method",
    "refuse_plain",
    "upload_id_of",
    "validate_upload_id",
]

COLLECTION_METHODS = ("POST", "OPTIONS")
RESUMABLE_METHODS = ("GET", "HEAD", "PATCH", "DELETE", "OPTIONS")
"""Of an upload, in tus and the IETF draft."""
UPLOAD_METHODS = (*RESUMABLE_METHODS, "PUT")
"""Of an upload, in any protocol: Content-Range comes by PUT, too."""

_ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")


def validate_upload_id(text: str) -> str:
    """`text` unchanged if it can be an upload's id. Raises NotFound."""
    if _ID.match(text) is None:
        raise NotFound("There is no such upload.")
    return text


def upload_id_of(path: bytes) -> str | None:
    """The id in a path below the uploads' own root; None for the collection itself.

    `path` is as it was sent; slashes around it are dropped. Raises NotFound.
    """
    text = path.strip(b"/").decode("latin-1")
    return validate_upload_id(text) if text else None


def methods_of(upload_id: str | None) -> tuple[str, ...]:
    """What Allow tells of an upload, or of the collection (RFC 9110, section 10.2.1)."""
    return COLLECTION_METHODS if upload_id is None else UPLOAD_METHODS


def refuse_method(upload_id: str | None) -> MethodNotAllowed:
    """What refuses a method that tus or the IETF draft does not have (section 15.5.6)."""
    return MethodNotAllowed(allow=COLLECTION_METHODS if upload_id is None else RESUMABLE_METHODS)


def refuse_plain(method: str, upload_id: str | None, message: str) -> UploadError:
    """What refuses a request whose head tells no protocol. 405 would not be true where the
    method is right and a field is missing.
    """
    allow = methods_of(upload_id)
    return InvalidRequest(message) if method in allow else MethodNotAllowed(message, allow=allow)
