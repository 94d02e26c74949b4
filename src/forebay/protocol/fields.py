"""Header fields by name: the first, every one, the only one.

Headers are as in ASGI: pairs of bytes, the names in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from forebay.errors import InvalidField
from forebay.model import MAX_OFFSET

__all__ = ["Headers", "content_length", "display_name", "elements", "every", "first", "single"]

Headers = Sequence[tuple[bytes, bytes]]


def display_name(name: bytes) -> str:
    """A field name as people write it: `Content-Length`."""
    return "-".join(part.capitalize() for part in name.decode("ascii").split("-"))


def first(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first field of that lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def every(headers: Headers, name: bytes) -> list[bytes]:
    """The values of all fields of that lower-case name, in order."""
    return [value for key, value in headers if key == name]


def single(headers: Headers, name: bytes) -> bytes | None:
    """The value of a field that must not be repeated. Raises `InvalidField` if it is."""
    values = every(headers, name)
    if len(values) > 1:
        raise InvalidField(f"The field {name.decode('latin-1')} was sent more than once.")
    return values[0] if values else None


_MAX_ELEMENTS = 64


def elements(headers: Headers, name: bytes) -> list[bytes]:
    """The elements of a list of tokens, in lower case, from all fields of that name (RFC 9110,
    section 5.6.1). Everything after the 64th comma is one element, which is no token.
    """
    return b",".join(every(headers, name)).lower().split(b",", _MAX_ELEMENTS)


_DIGITS = re.compile(rb"[0-9]{1,19}")


def content_length(headers: Headers) -> int | None:
    """The Content-Length, in bytes (RFC 9110, section 8.6).

    A repeated one is refused even when both agree, as the section allows: requests are smuggled
    past parsers that disagree about it. Raises `InvalidField`.
    """
    value = single(headers, b"content-length")
    if value is None:
        return None
    if _DIGITS.fullmatch(value) is None or (length := int(value)) > MAX_OFFSET:
        raise InvalidField("Content-Length is not a number of bytes.")
    return length
