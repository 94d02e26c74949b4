"""The Content-Type of a request: whether its body is a form or a file.

The field decides, not the body. A body that is declared as a form is read as a form or refused: it
must not be stored as a file, which would be the framing with the file somewhere inside.
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
"""Also matches wrong types that clients send: application/form-data, multi-part/form-data."""
_INSTEAD = (
    "Post a form (multipart/form-data) to a folder, with '/' at its end (curl -F file=@NAME), or "
    "send the file itself as the body (curl -T FILE)."
)


def is_form_data(headers: Headers) -> bool:
    """Whether the Content-Type begins with multipart/form-data; the rest may be malformed."""
    return any(
        _FORM.match(value) is not None
        for name, value in headers
        if name == b"content-type" and len(value) >= len(FORM)
    )


_URLENCODED = b"application/x-www-form-urlencoded"
_NAVIGATIONS = ((b"sec-fetch-mode", b"navigate"), (b"upgrade-insecure-requests", b"1"))


def is_form_without_files(headers: Headers) -> bool:
    """Whether it is a form from a page with another `enctype` than multipart/form-data. A browser
    then sends only the names of the files (WHATWG HTML, "form submission").

    Such a request accepts a page as its answer; programs that send files of these types do not.
    """
    kind = (fields.first(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind not in (_URLENCODED, b"text/plain") or not negotiation.wants_page(headers):
        return False
    return kind == _URLENCODED or any(field in _NAVIGATIONS for field in headers)


def form_without_files() -> UnsupportedMediaType:
    """The error for such a form."""
    return UnsupportedMediaType(
        'The form came without its files. Its page needs <form method="post" '
        'enctype="multipart/form-data">.'
    )


def file_type(headers: Headers, instead: str = _INSTEAD) -> str:
    """`type/subtype` of a body that is stored as a file, "" when there is no Content-Type.

    Raises InvalidField when the field is repeated or malformed (RFC 9110, section 8.3), and
    UnsupportedMediaType for a type with several parts (multipart/*). `instead` is added to the
    message and says what to do.
    """
    value = fields.single(headers, b"content-type")
    return "" if value is None else parse_file_type(value, instead)


@functools.lru_cache(maxsize=256)
def parse_file_type(value: bytes, instead: str = _INSTEAD) -> str:
    """The same for the value of the field."""
    kind, parameters = parse_media_type(value)
    if not kind and value.strip(b" \t"):
        raise InvalidField(
            "Content-Type cannot be read. It must be one type/subtype, with parameters after "
            "semicolons; application/octet-stream is right for any file."
        )
    if _OF_PARTS.fullmatch(kind):
        raise UnsupportedMediaType(f"A body of {kind} is not one file. {instead}")
    if "boundary" in parameters:
        # RFC 2046, section 5.1.1: only multipart types have one.
        raise UnsupportedMediaType(
            f"Content-Type names a boundary beside {kind}, as if the body had parts. {instead}"
        )
    return kind
