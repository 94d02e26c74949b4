"""Ids of resumable uploads, in request paths and in header fields (invariant 8).

Both have the same rule: nothing is unescaped, and an id has no dot and no slash. Here are also the
methods that the URL of an upload has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from forebay.errors import InvalidRequest, MethodNotAllowed, NotFound, UploadError
from forebay.model import Offered

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
"""Methods of an upload in tus and the IETF draft."""
UPLOAD_METHODS = (*RESUMABLE_METHODS, "PUT")
"""Methods of an upload in all protocols: Content-Range has PUT as well."""

_ID = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")


def validate_upload_id(text: str) -> str:
    """`text` unchanged, if it is valid as an id. Raises NotFound."""
    if _ID.match(text) is None:
        raise NotFound("There is no such upload.")
    return text


def upload_id_of(path: bytes) -> str | None:
    """The id in a path below the root of uploads; None for the collection itself.

    `path`: as it was sent; slashes around it are dropped. Raises NotFound.
    """
    text = path.strip(b"/").decode("latin-1")
    return validate_upload_id(text) if text else None


def methods_of(
    upload_id: str | None, offered: Offered, methods: Sequence[str] = UPLOAD_METHODS
) -> tuple[str, ...]:
    """The methods of an upload, or of the collection, for Allow (RFC 9110, section 10.2.1)."""
    if upload_id is None:
        return COLLECTION_METHODS
    return tuple(name for name in methods if name != "DELETE" or offered.termination)


def refuse_method(upload_id: str | None, offered: Offered) -> MethodNotAllowed:
    """The error for a method that tus and the IETF draft do not have (section 15.5.6)."""
    return MethodNotAllowed(allow=methods_of(upload_id, offered, RESUMABLE_METHODS))


def refuse_plain(method: str, upload_id: str | None, offered: Offered, message: str) -> UploadError:
    """The error for a request in no known protocol: InvalidRequest when only a field is missing,
    MethodNotAllowed when the method is wrong.
    """
    allow = methods_of(upload_id, offered)
    return InvalidRequest(message) if method in allow else MethodNotAllowed(message, allow=allow)
