"""Content-Encoding of requests (RFC 9110, section 8.4)."""

from __future__ import annotations

from forebay.errors import UnsupportedCoding
from forebay.protocol import fields
from forebay.protocol.fields import Headers

__all__ = ["check_identity", "codings"]


def codings(headers: Headers) -> list[str]:
    """The codings of a request's content in the order they were applied, `identity` left out."""
    values = b",".join(fields.every(headers, b"content-encoding")).lower().split(b",")
    named = (value.strip(b" \t").decode("latin-1") for value in values)
    return [name for name in named if name not in ("", "identity")]


def check_identity(headers: Headers) -> None:
    """Raises UnsupportedCoding for content that is encoded in any way."""
    if codings(headers):
        raise UnsupportedCoding
