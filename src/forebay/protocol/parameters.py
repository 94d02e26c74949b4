"""Values with parameters: media types and Content-Disposition (RFC 9110, section 5.6.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from forebay.media_types import matches
from forebay.protocol.charsets import codec_of

__all__ = [
    "Disposition",
    "disposition_for",
    "matches_media_type",
    "parse_content_disposition",
    "parse_media_type",
]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
# Possessive repeats do not backtrack, so the time is linear for every value.
_PARAMETER = re.compile(
    rf'[ \t]*({_TOKEN})[ \t]*=[ \t]*(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^;]*+))[^;]*+', re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)  # quoted-pair: RFC 9110, section 5.6.4

MAX_LENGTH_OF_VALUE = 8192
"""Characters of a value that has parameters; a file name of 255 bytes, escaped, is 0.8 KiB."""
MAX_PARAMETERS = 64
"""Semicolons that are looked behind. As many as a head of 64 KiB can hold would block the event
loop for tens of milliseconds."""


def _parameters(text: str) -> list[tuple[str, str]] | None:
    """The `;name=value` pairs after the main value of a field, without malformed ones. None when
    there are more than MAX_PARAMETERS.
    """
    found: list[tuple[str, str]] = []
    position = 0
    for _ in range(MAX_PARAMETERS):
        position = text.find(";", position) + 1
        if not position:
            return found
        if match := _PARAMETER.match(text, position):
            name, quoted, bare = match.groups()
            if quoted is not None:
                value = _ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted
            else:
                value = bare.strip(" \t").removeprefix('"')
            found.append((name.lower(), value))
            position = match.end()
    return found if text.find(";", position) < 0 else None


_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*(?=;|\Z)")


def parse_media_type(value: bytes | str) -> tuple[str, dict[str, str]]:
    """`type/subtype` in lower case and its parameters (RFC 9110, section 8.3.1).

    The first parameter of a name counts. A malformed or too long value gives `("", {})`.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    match = _MEDIA_TYPE.match(text) if len(text) <= MAX_LENGTH_OF_VALUE else None
    found = _parameters(text[match.end() :]) if match is not None else None
    if match is None or found is None:
        return "", {}
    parameters: dict[str, str] = {}
    for name, parameter in found:
        parameters.setdefault(name, parameter)
    return match[1].lower(), parameters


def matches_media_type(value: bytes | str, patterns: Iterable[str]) -> bool:
    """Whether a media type is one of `patterns`: `image/png`, `image/*` or `*/*`."""
    kind = parse_media_type(value)[0]
    return bool(kind) and matches(kind, (pattern.strip().lower() for pattern in patterns))


class Disposition(NamedTuple):
    """A Content-Disposition (RFC 6266, RFC 7578). `kind` is in lower case, names are as sent."""

    kind: str
    name: str | None
    filename: str | None


_KIND = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(?=;|\Z)")
# RFC 8187, section 3.2.1. In the value, every percent sign must begin an octet.
_EXT_VALUE = re.compile(r"([\w-]{1,40})'[^']*'((?:[!-$&-~]|%[0-9A-Fa-f]{2})*+)", re.ASCII)
_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")


def parse_content_disposition(value: bytes) -> Disposition | None:
    """A Content-Disposition field (RFC 6266; RFC 8187; RFC 7578, section 4.2).

    None when it has no disposition type, is too long, or repeats a parameter: RFC 6266, section
    4.1, calls that invalid, and parsers disagree about which one counts.
    """
    text = value.decode("latin-1")
    match = _KIND.match(text) if len(text) <= MAX_LENGTH_OF_VALUE else None
    found = _parameters(text[match.end() :]) if match is not None else None
    if match is None or found is None:
        return None
    parameters: dict[str, str] = {}
    for name, parameter in found:
        if name in parameters:
            return None
        parameters[name] = parameter
    filename = _ext_value(parameters.get("filename*"))
    if filename is None:  # absent or malformed: RFC 6266, section 4.3
        filename = _raw_text(parameters.get("filename"))
    return Disposition(match[1].lower(), _raw_text(parameters.get("name")), filename)


def _raw_text(value: str | None) -> str | None:
    """Text that was read as ISO-8859-1, as UTF-8 if it is that, which browsers send."""
    if value is None:
        return None
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


def _ext_value(value: str | None) -> str | None:
    match = None if value is None else _EXT_VALUE.fullmatch(value)
    codec = codec_of(match[1]) if match is not None else None
    if match is None or codec is None:
        return None
    octets = _OCTET.sub(lambda octet: bytes((int(octet[1], 16),)), match[2].encode("ascii"))
    try:
        return octets.decode(codec)
    except UnicodeDecodeError:
        return None


_UNSAFE_IN_QUOTES = re.compile(r'[^ !#$&-\[\]-~]|["\\]')
_ATTR_CHAR = frozenset(
    b"!#$&+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


def disposition_for(filename: str, inline: bool = False) -> bytes:
    """A Content-Disposition with the last component of `filename`.

    Characters that are not safe in a quoted string are `_` in `filename`; `filename*` has the
    exact name (RFC 6266, section 4.3 and appendix D). So no name can end the field.
    """
    filename = filename.rpartition("/")[2]
    kind = b"inline" if inline else b"attachment"
    fallback = _UNSAFE_IN_QUOTES.sub("_", filename)
    field = kind + b'; filename="' + fallback.encode("ascii") + b'"'
    if fallback == filename:
        return field
    octets = filename.encode("utf-8", "replace")
    escaped = "".join(chr(o) if o in _ATTR_CHAR else f"%{o:02X}" for o in octets)
    return field + b"; filename*=UTF-8''" + escaped.encode("ascii")
