"""What the Content-Type of a form says: its boundary, and the charset of its names."""

from __future__ import annotations

import re

from forebay.errors import InvalidField, InvalidRequest
from forebay.protocol import charsets, content_type

__all__ = ["boundary_of", "charset_of", "read_parameters"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
_KIND = re.compile(rf"[ \t]*({_TOKEN}(?:/{_TOKEN})?)[ \t]*")
# Possessive, so linear. Bare values go beyond tokens: boundaries with ":" or "/" are common.
_BARE = r'([^;" \t]++)'
_BEFORE = rf"[ \t]*({_TOKEN})[ \t]*=[ \t]*"
_ESCAPING = re.compile(rf';(?:{_BEFORE}(?:"((?:[^"\\]++|\\["\\]?+)*+)"|{_BARE}))?[ \t]*')
_LITERAL = re.compile(rf';(?:{_BEFORE}(?:"([^"]*+)"|{_BARE}))?[ \t]*')

_MAX_PARAMETERS = 64
_MAX_LENGTH = 8192


def read_parameters(text: str) -> tuple[str, dict[str, str]] | None:
    """The main value in lower case and its parameters, None when that cannot be told.

    For Content-Type and Content-Disposition as browsers write them (RFC 7578, section 4.2; WHATWG
    HTML): a backslash is itself, save before a quote or another one. They do not escape it, so a
    name may end with one right before its closing quote: when it makes no sense that a quote is
    escaped, none is.
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
            # By pairs from the left, as a search would; NUL is in no field.
            quoted = quoted.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")
        parameters[name.lower()] = quoted if bare is None else bare
    return None


MAX_BOUNDARY = 70
"""Bytes (RFC 2046, section 5.1.1)."""
# Clients use more characters than the RFC has; a quote or backslash is read in two ways.
_BOUNDARY = re.compile(r"[ !#-\[\]-~]{0,69}[!#-\[\]-~]")


def boundary_of(value: bytes) -> bytes:
    """The boundary that a Content-Type names (RFC 2046, section 5.1.1).

    Raises `InvalidRequest` when it is not multipart/form-data, `InvalidField` when it cannot be
    read, has no boundary, two of them, or one that cannot be told from what surrounds it.
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
    """The codec that a form's Content-Type names for its names and fields; UTF-8 when it does
    not. No standard knows that parameter, but clients for Java and others send it.
    """
    found = read_parameters(value.decode("latin-1"))
    label = found[1].get("charset") if found is not None else None
    return charsets.codec_of(label) or "utf-8"
