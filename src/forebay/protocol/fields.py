"""Header fields that more than one dialect reads or writes.

A list of headers is as ASGI gives it: pairs of bytes, the names in lower case.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from forebay.errors import InvalidField
from forebay.protocol.charsets import codec_of

__all__ = [
    "Disposition",
    "Headers",
    "content_disposition",
    "content_length",
    "disposition_for",
    "elements",
    "every",
    "first",
    "http_date",
    "matches_media_type",
    "media_type",
    "parse_http_date",
    "single",
    "structured_dictionary",
    "structured_item",
]

Headers = Sequence[tuple[bytes, bytes]]

MAX_LENGTH = 2**63 - 1
"""Offsets are signed 64-bit numbers on every filesystem."""


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
    """The value of a field that may come once. Raises `InvalidField` if it comes again."""
    values = every(headers, name)
    if len(values) > 1:
        raise InvalidField(f"The field {name.decode('latin-1')} was sent more than once.")
    return values[0] if values else None


_MAX_ELEMENTS = 64


def elements(headers: Headers, name: bytes) -> list[bytes]:
    """The elements of a list of tokens, in lower case, from all fields of that name (RFC 9110,
    section 5.6.1). What comes after the 64th is one element with it, and so no token.
    """
    return b",".join(every(headers, name)).lower().split(b",", _MAX_ELEMENTS)


_DIGITS = re.compile(rb"[0-9]{1,19}")


def content_length(headers: Headers) -> int | None:
    """The Content-Length, in bytes (RFC 9110, section 8.6).

    A repeated one is refused even when both agree: the section allows that, and parsers that
    disagree about it are how requests are smuggled. Raises `InvalidField`.
    """
    value = single(headers, b"content-length")
    if value is None:
        return None
    if _DIGITS.fullmatch(value) is None or (length := int(value)) > MAX_LENGTH:
        raise InvalidField("Content-Length is not a number of bytes.")
    return length


# --- parameters ----------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
# A possessive repeat never gives back what it took, so no value makes this more than linear.
_PARAMETER = re.compile(
    rf'[ \t]*({_TOKEN})[ \t]*=[ \t]*(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^;]*+))[^;]*+', re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)  # quoted-pair: RFC 9110, section 5.6.4

MAX_LENGTH_OF_VALUE = 8192
"""Characters of a value that has parameters; a file name of 255 bytes, escaped, is 0.8 KiB."""
MAX_PARAMETERS = 64
"""Semicolons that are looked behind: what a head of 64 KiB can hold would take the event loop
tens of milliseconds."""


def _parameters(text: str) -> list[tuple[str, str]] | None:
    """The `;name=value` pairs of what follows a field's main value; junk is skipped. None when
    there is more of it than anybody means.
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


def media_type(value: bytes | str) -> tuple[str, dict[str, str]]:
    """`type/subtype` in lower case and its parameters (RFC 9110, section 8.3.1).

    The first parameter of a name wins. What is no media type gives `("", {})`, and so does one
    with more parameters, or longer, than anybody means.
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
    kind = media_type(value)[0]
    if not kind:
        return False
    accepted = (kind, kind.partition("/")[0] + "/*", "*/*")
    return any(pattern.strip().lower() in accepted for pattern in patterns)


# --- Content-Disposition -------------------------------------------------------------------


class Disposition(NamedTuple):
    """RFC 6266 and RFC 7578: `kind` in lower case; names exactly as sent, not judged."""

    kind: str
    name: str | None
    filename: str | None


_KIND = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(?=;|\Z)")
# RFC 8187, section 3.2.1. Of the value, only that every percent sign begins an octet matters.
_EXT_VALUE = re.compile(r"([\w-]{1,40})'[^']*'((?:[!-$&-~]|%[0-9A-Fa-f]{2})*+)", re.ASCII)
_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")


def content_disposition(value: bytes) -> Disposition | None:
    """What a Content-Disposition field says (RFC 6266; RFC 8187; RFC 7578, section 4.2).

    None when it cannot be told: no disposition type, or a parameter given twice (RFC 6266,
    section 4.1, calls that invalid, and two readers would pick different ones), or more of them
    than anybody means.
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
    if filename is None:  # RFC 6266, section 4.3: what cannot be decoded is as if absent
        filename = _raw_text(parameters.get("filename"))
    return Disposition(match[1].lower(), _raw_text(parameters.get("name")), filename)


def _raw_text(value: str | None) -> str | None:
    """Text that was read as ISO-8859-1 but which browsers send as UTF-8."""
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
    """A Content-Disposition that names the last component of `filename`.

    What a quoted string cannot carry safely is `_` in `filename` and whole in `filename*`
    (RFC 6266, section 4.3 and appendix D), so nothing in a name can end the field.
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


# --- structured fields ---------------------------------------------------------------------


def structured_dictionary(values: Iterable[bytes]) -> dict[str, tuple[Any, dict[str, Any]]] | None:
    """A dictionary (RFC 9651, section 3.2) from all lines of a field, None if it is not one.

    Each member is `(value, parameters)`; no line at all is an empty dictionary.
    """
    members: dict[str, tuple[Any, dict[str, Any]]] | None
    members = _structured(b", ".join(values), "dictionary")
    return members


def structured_item(value: bytes) -> tuple[Any, dict[str, Any]] | None:
    """An item (RFC 9651, section 3.3) as `(value, parameters)`, None if it is not one."""
    item: tuple[Any, dict[str, Any]] | None = _structured(value, "item")
    return item


_MAX_STRUCTURED = 4096
_MAX_MEMBERS = 128
"""Members, parameters and items of one field together. RFC 9651 wants more from a general parser;
no field that is read here has a use for more."""


def _structured(value: bytes, kind: str) -> Any:
    if len(value) > _MAX_STRUCTURED:
        return None
    if len(value) > _MAX_MEMBERS and sum(map(value.count, (b",", b";", b" "))) > _MAX_MEMBERS:
        return None
    import http_sf  # 29 ms: not paid by a server that no structured field reaches

    try:
        return http_sf.parse(value, tltype=kind)
    except (ValueError, ArithmeticError, OSError):  # the latter two: dates out of range
        return None


# --- dates ---------------------------------------------------------------------------------

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_LAST_SECOND = 253402300799  # of the year 9999

_TIME = r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, "
        rf"(?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def http_date(seconds: float) -> bytes:
    """An IMF-fixdate (RFC 9110, section 5.6.7). Times outside 1970 to 9999 are clamped."""
    return _http_date(max(0, min(int(seconds), _LAST_SECOND)))


@functools.lru_cache(maxsize=64)  # many answers of one second tell the same time
def _http_date(seconds: int) -> bytes:
    days, second = divmod(seconds, 86400)
    date = datetime.date.fromordinal(_EPOCH + days)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return (
        f"{_DAYS[date.weekday()]}, {date.day:02} {_MONTHS[date.month - 1]} {date.year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    ).encode("ascii")


def parse_http_date(value: bytes) -> int | None:
    """Seconds since the epoch of an HTTP-date, None if it is not one (section 5.6.7).

    The obsolete forms of RFC 850 and asctime are read too. A two-digit year should be taken
    as near to now; without a clock here, 70 to 99 are of the 20th century.
    """
    text = value.decode("latin-1")
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = map(int, match["time"].split(":"))
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        date = datetime.date(year, _MONTHS.index(match["month"]) + 1, int(match["day"]))
    except ValueError:
        return None
    # A leap second (60) is the last one that POSIX time can tell.
    days = date.toordinal() - _EPOCH
    return days * 86400 + hour * 3600 + minute * 60 + min(second, 59)
