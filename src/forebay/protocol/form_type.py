"""The Content-Type of a form: its boundary, and the charset of its names."""

from __future__ import annotations

import re

from forebay.errors import InvalidField, InvalidRequest
from forebay.protocol import charsets, content_type

__all__ = ["boundary_of", "charset_of", "read_parameters"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
_KIND = re.compile(rf"[ \t]*({_TOKEN}(?:/{_TOKEN})?)[ \t]*")
# Possessive, so the time is linear. Bare values may be no tokens: boundaries have ":" and "/".
_BARE = r'([^;" \t]++)'
_BEFORE = rf"[ \t]*({_TOKEN})[ \t]*=[ \t]*"
_ESCAPING = re.compile(rf';(?:{_BEFORE}(?:"((?:[^"\\]++|\\["\\]?+)*+)"|{_BARE}))?[ \t]*')
_LITERAL = re.compile(rf';(?:{_BEFORE}(?:"([^"]*+)"|{_BARE}))?[ \t]*')

_MAX_PARAMETERS = 64
_MAX_LENGTH = 8192


def read_parameters(text: str) -> tuple[str, dict[str, str]] | None:
    """The main value in lower case, and its parameters; None when the field is malformed.

    For Content-Type and Content-Disposition as browsers write them (RFC 7578, section 4.2; WHATWG
    HTML). A backslash escapes only a quote or another backslash. Browsers do not escape it, so a
    name may end with one before the closing quote: when reading quotes as escaped fails, they are
    read as not escaped.
    """
    if len(text) > _MAX_LENGTH:
        return None
    found = _read(text, _ESCAPING)
    return _read(text, _LITERAL) if found is None and '\\"' in text else found


def _read(text: str, grammar: re.Pattern[str]) -> tuple[str, dict[str, str]] | None:
    match = _KIND.match(text)
    if match is None:
        return None
    kind = match[1].lower()
    parameters: dict[str, str] = {}
    position = match.end()
    for _ in range(_MAX_PARAMETERS):
        if position == len(text):
            return kind, parameters
        match = grammar.match(text, position)
        if match is None:
            return None
        position = match.end()
        name, quoted, bare = match.groups()
        if name is None:
            continue  # a stray semicolon
        if name.lower() in parameters:
            return None  # two readers would pick different ones
        if bare is None and grammar is _ESCAPING and "\\" in quoted:
            # Pairs of backslashes first. NUL, which no field has, takes their place meanwhile.
            quoted = quoted.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")
        parameters[name.lower()] = quoted if bare is None else bare
    return None


MAX_BOUNDARY = 70
"""Bytes (RFC 2046, section 5.1.1)."""
# Clients use more characters than the RFC allows. Quote and backslash are not safe: parsers differ.
_BOUNDARY = re.compile(r"[ !#-\[\]-~]{0,69}[!#-\[\]-~]")


def boundary_of(value: bytes) -> bytes:
    """The boundary in a Content-Type (RFC 2046, section 5.1.1).

    Raises `InvalidRequest` when the type is not multipart/form-data, and `InvalidField` when the
    field is malformed or has no boundary, two of them, or one with unsafe characters.
    """
    found = read_parameters(value.decode("latin-1"))
    if not content_type.is_form_data([(b"content-type", value)]):
        raise InvalidRequest("This is not a form: send it as multipart/form-data.")
    if found is None or found[0] != content_type.FORM:
        raise InvalidField(
            "Content-Type cannot be read. It must be: multipart/form-data; boundary=..., with each "
            "parameter once; let the client library set it by itself."
        )
    boundary = found[1].get("boundary")
    if boundary is None:
        raise InvalidField(
            "Content-Type names no boundary; let the client library set this field by itself."
        )
    if _BOUNDARY.fullmatch(boundary) is None:
        raise InvalidField(
            f"The boundary must be 1 to {MAX_BOUNDARY} visible ASCII characters, without quotes "
            "and backslashes, and must not end with a space."
        )
    return boundary.encode("ascii")


def charset_of(value: bytes) -> str:
    """The codec for names and fields that the Content-Type of a form names, else UTF-8.

    The parameter is in no standard, but Java clients and others send it.
    """
    found = read_parameters(value.decode("latin-1"))
    label = found[1].get("charset") if found is not None else None
    return charsets.codec_of(label) or "utf-8"
