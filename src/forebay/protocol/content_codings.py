"""Content-Encoding of requests (RFC 9110, section 8.4)."""

from __future__ import annotations

from collections.abc import Collection

from forebay.errors import UnsupportedCoding
from forebay.protocol import fields
from forebay.protocol.fields import Headers

__all__ = ["check_identity", "content_codings", "to_decode"]

_ALIASES = {"x-gzip": "gzip"}  # section 8.4.1.3


def content_codings(headers: Headers) -> list[str]:
    """The codings of a request's content, in the order they were applied, without `identity`."""
    values = fields.elements(headers, b"content-encoding")
    named = (value.strip(b" \t").decode("latin-1") for value in values)
    return [_ALIASES.get(name, name) for name in named if name not in ("", "identity")]


def check_identity(headers: Headers) -> None:
    """Raises UnsupportedCoding for content that is encoded in any way."""
    if content_codings(headers):
        raise UnsupportedCoding("Bodies of this kind are taken without Content-Encoding only.")


def to_decode(headers: Headers, offered: Collection[str]) -> str | None:
    """The coding to decode, None when the content has none.

    `offered`: those that can be decoded. Raises UnsupportedCoding for any other, and for several:
    content that is encoded twice is more often an attack than meant.
    """
    named = content_codings(headers)
    if not named:
        return None
    if not offered:
        raise UnsupportedCoding
    if len(named) > 1 or named[0] not in offered:
        raise UnsupportedCoding(
            f"A body is decoded from one of these: {', '.join(offered)} (br and zstd need the "
            "extras of these names, and --memory-budget room for them).",
            accept=tuple(offered),
        )
    return named[0]
