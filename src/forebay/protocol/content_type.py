"""The Content-Type of a request: whether its body is a form, a file, or nobody can tell.

The field decides, not the body. What begins like a form is one, or is refused: stored as a file
it would be the form's framing with the file somewhere inside.
"""

from __future__ import annotations

import functools
import re

from forebay.errors import InvalidField, UnsupportedMediaType
from forebay.protocol import fields, negotiation
from forebay.protocol.fields import Headers
from forebay.protocol.parameters import parse_media_type

__all__ = ["FORM", "file_type", "form_without_files", "is_form_data", "is_form_without_files"]

FORM = "multipart/form-data"
_FORM = re.compile(rb"[ \t\"']*multipart/form-data(?![!#$%&*+.^_`|~0-9A-Za-z-])", re.IGNORECASE)
_OF_PARTS = re.compile(
    r"'*(?:x-)?multi-?part/.*|.*/(?:x-)?(?:(?:multi-?part[-_]?)?form[-_]?data|multi-?part)"
)
"""In the types that clients write by mistake, too: application/form-data, multi-part/form-data."""
_INSTEAD = (
    "Post a form (multipart/form-data) to a folder, with '/' at its end (curl -F file=@NAME), or "
    "send the file itself as the body (curl -T FILE)."
)


def is_form_data(headers: Headers) -> bool:
    """Whether a request means to send a form, readable or not."""
    return any(
        _FORM.match(value) is not None
        for name, value in headers
        if name == b"content-type" and len(value) >= len(FORM)
    )


_URLENCODED = b"application/x-www-form-urlencoded"
_NAVIGATIONS = ((b"sec-fetch-mode", b"navigate"), (b"upgrade-insecure-requests", b"1"))


def is_form_without_files(headers: Headers) -> bool:
    """Whether it is the form of a page that has another `enctype` than multipart/form-data: then
    a browser sends the names of its files, and not the files (WHATWG HTML, "form submission").
    It asks for a page; programs that send files by these types do not.
    """
    kind = (fields.first(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind not in (_URLENCODED, b"text/plain") or not negotiation.wants_page(headers):
        return False
    return kind == _URLENCODED or any(field in _NAVIGATIONS for field in headers)


def form_without_files() -> UnsupportedMediaType:
    """What refuses it."""
    return UnsupportedMediaType(
        'The form came without its files. Its page needs <form method="post" '
        'enctype="multipart/form-data">.'
    )


def file_type(headers: Headers, instead: str = _INSTEAD) -> str:
    """`type/subtype` of a body that is stored as it is, "" when nothing is said of it.

    Raises InvalidField when the field comes twice or cannot be read (RFC 9110, section 8.3), and
    UnsupportedMediaType, which says what to do `instead`, for one of several parts (multipart/*).
    """
    value = fields.single(headers, b"content-type")
    return "" if value is None else parse_file_type(value, instead)


@functools.lru_cache(maxsize=256)
def parse_file_type(value: bytes, instead: str = _INSTEAD) -> str:
    """The same of the field's one value."""
    kind, parameters = parse_media_type(value)
    if not kind and value.strip(b" \t"):
        raise InvalidField(
            "Content-Type cannot be read. It must be one type/subtype, with parameters after "
            "semicolons; application/octet-stream is right for any file."
        )
    if _OF_PARTS.fullmatch(kind):
        raise UnsupportedMediaType(f"A body of {kind} is not one file. {instead}")
    if "boundary" in parameters:
        # RFC 2046, section 5.1.1: only what has several parts has one.
        raise UnsupportedMediaType(
            f"Content-Type names a boundary beside {kind}, as if the body had parts. {instead}"
        )
    return kind
