"""The parts of a form: its boundary, their headers, and the limits on all of them.

RFC 7578 (multipart/form-data), RFC 2046, section 5.1, and for names the form encoding that
today's browsers use (WHATWG HTML, "multipart/form-data encoding algorithm").
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Protocol

from forebay.errors import InvalidField, InvalidRequest, MalformedBody, TooLarge, UploadError
from forebay.model import KiB, MiB
from forebay.protocol.fields import content_disposition, media_type

__all__ = [
    "FormHandler",
    "FormLimits",
    "FormParts",
    "PartHead",
    "boundary_of",
    "oversized_head",
    "parse_head",
]


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Bounds of one form. Sizes are bytes; None is no limit of its own.

    A part with a file name is a file, any other a field. `max_fields_size` is for all fields
    together, as those are what a caller keeps in memory; `max_total` counts every byte of the
    body, framing included.
    """

    max_parts: int = 1000
    max_fields: int = 1000
    max_files: int = 1000
    max_field_size: int = 1 * MiB
    max_fields_size: int = 8 * MiB
    max_file_size: int | None = None
    max_total: int | None = None
    max_headers: int = 32
    max_header_size: int = 16 * KiB


@dataclass(frozen=True, slots=True)
class PartHead:
    """The header of one part. Names are as the client meant them, and not judged.

    `charset` is a Python codec: for a field always one to decode it with, for a file what its
    Content-Type says, None when that is nothing usable. `headers` are the fields as sent, the
    names in lower case. `empty_file` is a file input in which no file was chosen: an empty
    file name and no content.
    """

    name: str
    filename: str | None
    media_type: str
    charset: str | None
    headers: tuple[tuple[bytes, bytes], ...]
    empty_file: bool = False

    @property
    def is_file(self) -> bool:
        return self.filename is not None


class FormHandler(Protocol):
    """What a parser calls, in this order for every part: one begin, any data, one end."""

    def begin_part(self, head: PartHead) -> None: ...

    def part_data(self, data: memoryview) -> None:
        """Some content of the part, never empty; valid until the call returns."""
        ...

    def end_part(self) -> None: ...


# --- parameters ----------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, section 5.6.2
_KIND = re.compile(rf"[ \t]*({_TOKEN}(?:/{_TOKEN})?)[ \t]*")
# Possessive, so linear. Bare values go beyond tokens: boundaries with ":" or "/" are common.
_BARE = r'([^;" \t]++)'
_BEFORE = rf"[ \t]*({_TOKEN})[ \t]*=[ \t]*"
_ESCAPING = re.compile(rf';(?:{_BEFORE}(?:"((?:\\"|[^"])*+)"|{_BARE}))?[ \t]*')
_LITERAL = re.compile(rf';(?:{_BEFORE}(?:"([^"]*+)"|{_BARE}))?[ \t]*')

_BROWSER_ESCAPE = re.compile("%(?:22|0D|0A)")
_BROWSER_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


def _parameters(text: str) -> tuple[str, dict[str, str]] | None:
    """The main value in lower case and its parameters, None when that cannot be told.

    Browsers do not escape a backslash, so a name may end with one right before its closing
    quote: when it makes no sense that a quote is escaped, none is.
    """
    found = _read_parameters(text, _ESCAPING)
    return _read_parameters(text, _LITERAL) if found is None and '\\"' in text else found


def _read_parameters(text: str, grammar: re.Pattern[str]) -> tuple[str, dict[str, str]] | None:
    match = _KIND.match(text)
    if match is None:
        return None
    kind = match[1].lower()
    parameters: dict[str, str] = {}
    position = match.end()
    while position < len(text):
        match = grammar.match(text, position)
        if match is None:
            return None
        position = match.end()
        name, quoted, bare = match.groups()
        if name is None:
            continue  # a stray semicolon
        if name.lower() in parameters:
            return None  # two readers would pick different ones
        if bare is None and grammar is _ESCAPING:
            bare = quoted.replace('\\"', '"')
        parameters[name.lower()] = quoted if bare is None else bare
    return kind, parameters


# --- the boundary --------------------------------------------------------------------------

# RFC 2046, section 5.1.1: bchars, 1 to 70, the last one not a space
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type names (RFC 2046, section 5.1.1).

    Raises `InvalidRequest` when it is not multipart/form-data, `InvalidField` when it has no
    boundary, two of them, or one that breaks the rules.
    """
    found = _parameters(content_type.decode("latin-1"))
    if media_type(content_type)[0] != "multipart/form-data":
        raise InvalidRequest("This is not a form: send it as multipart/form-data.")
    if found is None:
        raise InvalidField("The parameters of Content-Type are malformed or sent twice.")
    boundary = found[1].get("boundary")
    if boundary is None:
        raise InvalidField(
            "Content-Type names no boundary; let the client library set this field by itself."
        )
    if _BOUNDARY.fullmatch(boundary) is None:
        raise InvalidField(
            "The boundary must be 1 to 70 letters, digits or '()+_,-./:=? and must not end "
            "with a space."
        )
    return boundary.encode("ascii")


# --- charsets ------------------------------------------------------------------------------

# An allow-list: Python knows codecs that are not charsets, and some (UTF-7) that hide markup.
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "latin-1": "iso8859-1",
    "latin1": "iso8859-1",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    **{f"cp{n}": f"cp{n}" for n in range(1250, 1259)},
}


def _codec_of(charset: str) -> str:
    """The Python codec of a charset that fields may use. Raises `MalformedBody` for others."""
    codec = _CHARSETS.get(charset.strip(" \t").lower())
    if codec is None:
        raise MalformedBody(
            f"The charset {charset[:40]!r} is not understood; send fields as UTF-8."
        )
    return codec


# --- one part ------------------------------------------------------------------------------

_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_MAX_CHARSET = 64
_IDENTITY = ("7bit", "8bit", "binary")

LF_ONLY = "Lines of the form end with LF alone; they must end with CRLF (RFC 2046, section 4.1.1)."


def parse_head(block: bytes, limits: FormLimits, default_charset: str = "utf-8") -> PartHead:
    """The head in `block`: its lines, without the CRLF of the last one.

    `default_charset` is the codec of fields that do not name one (RFC 7578, section 4.6).
    Raises `MalformedBody` and `TooLarge`.
    """
    headers = _read_fields(block, limits)
    coding = _only(headers, b"content-transfer-encoding")
    if coding is not None and coding.lower() not in _IDENTITY:
        raise MalformedBody(
            "A part has a Content-Transfer-Encoding; send it as it is, in binary "
            "(RFC 7578, section 4.7)."
        )
    name, filename = _names(_only(headers, b"content-disposition"))
    kind, parameters = media_type(_only(headers, b"content-type") or "")
    charset = _charset(parameters.get("charset"), default_charset, filename is not None)
    if filename is None and kind.startswith("multipart/"):
        raise MalformedBody(
            f"A part is itself {kind}; send every file as a part of its own "
            "(RFC 7578, section 4.3)."
        )
    if not kind:
        kind = "text/plain" if filename is None else "application/octet-stream"
    return PartHead(name, filename, kind, charset, headers, filename == "")


def _read_fields(block: bytes, limits: FormLimits) -> tuple[tuple[bytes, bytes], ...]:
    if block.count(b"\r\n") >= limits.max_headers:
        raise TooLarge(
            f"A part has more than {limits.max_headers} header fields (max_headers).",
            limit=limits.max_headers,
        )
    headers = []
    for line in block.split(b"\r\n") if block else ():
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise _malformed_line(line)
        headers.append((match[1].lower(), match[2].strip(b" \t")))
    return tuple(headers)


def _malformed_line(line: bytes) -> MalformedBody:
    if b"\n" in line:
        return MalformedBody(LF_ONLY)
    if line.startswith((b" ", b"\t")):
        return MalformedBody("A header field of a part is folded; send each on one line.")
    return MalformedBody("A header field of a part is malformed; it must read 'name: value'.")


def _only(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise MalformedBody(f"A part has the header field {name.decode()} more than once.")
    return values[0].decode("latin-1") if values else None


def _names(disposition: str | None) -> tuple[str, str | None]:
    """The name of a field and that of its file (RFC 7578, section 4.2)."""
    found = _parameters(disposition or "")
    if disposition is None or found is None:
        raise MalformedBody(
            "A part has no readable Content-Disposition; it must be: form-data; "
            'name="..." (RFC 7578, section 4.2).'
        )
    kind, parameters = found
    if kind != "form-data":
        raise MalformedBody("The Content-Disposition of a part must be form-data.")
    name = parameters.get("name")
    if name is None:
        raise MalformedBody('A part has no name; add name="..." to its Content-Disposition.')
    filename = parameters.get("filename")
    return _text(name), _extended(parameters.get("filename*")) or (
        None if filename is None else _text(filename)
    )


def _text(value: str) -> str:
    """Text read as ISO-8859-1 that browsers send as UTF-8, with three characters escaped."""
    if "%" in value:
        value = _BROWSER_ESCAPE.sub(lambda match: _BROWSER_ESCAPES[match[0]], value)
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


def _extended(value: str | None) -> str | None:
    """`filename*` (RFC 8187). RFC 7578 forbids sending it, yet clients that do mean it."""
    if value is None:
        return None
    found = content_disposition(b"form-data; filename*=" + value.encode("latin-1"))
    return None if found is None else found.filename


def _charset(label: str | None, default: str, is_file: bool) -> str | None:
    if is_file:  # its content is not ours to read, so nothing is refused
        return None if label is None else _CHARSETS.get(label.lower())
    return default if label is None else _codec_of(label)


def oversized_head(head: bytearray, limit: int) -> UploadError:
    """What to say about a header that has not ended within `limit` bytes."""
    if b"\n" in head.replace(b"\r\n", b""):
        return MalformedBody(LF_ONLY)
    return _too_large("The header of a part is larger than {} bytes", "header_size", limit)


# --- all parts -----------------------------------------------------------------------------

_COUNTED = {
    "parts": "The form has more than {} parts",
    "fields": "The form has more than {} fields",
    "files": "The form has more than {} files",
    "fields_size": "The fields of the form are together larger than {} bytes",
    "total": "The form is larger than {} bytes",
}


_FLAGS = {
    "parts": "--form-max-parts",
    "fields": "--form-max-fields",
    "files": "--form-max-files",
    "field_size": "--form-max-field-size",
    "fields_size": "--form-max-fields-size",
    "file_size": "--max-size",
    "total": "--form-max-size",
    "header_size": "--form-max-part-head",
}


def _too_large(message: str, what: str, limit: int) -> TooLarge:
    return TooLarge(f"{message.format(limit)} (max_{what}, {_FLAGS[what]}).", limit=limit)


class FormParts:
    """The parts of one form as they come: limits, defaults, and telling the handler.

    Knows no framing. Raises `MalformedBody`, `TooLarge` and what the handler raises.
    """

    __slots__ = (
        "_charset",
        "_charset_value",
        "_counts",
        "_handler",
        "_limits",
        "_maxima",
        "_part",
        "_pending",
        "_size",
    )

    def __init__(self, limits: FormLimits, handler: FormHandler) -> None:
        self._limits, self._handler = limits, handler
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._maxima: dict[str, int | None]
        self._maxima = {what: getattr(limits, f"max_{what}") for what in _COUNTED}
        self._charset = "utf-8"
        self._charset_value: bytearray | None = None
        self._part: PartHead | None = None
        self._pending = False
        self._size = 0

    def count(self, what: str, more: int) -> None:
        """Count against the limit of that name, without its `max_`."""
        self._counts[what] += more
        limit = self._maxima[what]
        if limit is not None and self._counts[what] > limit:
            raise _too_large(_COUNTED[what], what, limit)

    def begin(self, block: bytes) -> None:
        """The whole header of a part is there."""
        part = parse_head(block, self._limits, self._charset)
        self.count("files" if part.is_file else "fields", 1)
        is_charset = part.name == "_charset_" and not part.is_file
        self._charset_value = bytearray() if is_charset else None
        self._part = part
        self._size = 0
        self._pending = part.empty_file  # until it is known whether there is content
        if not self._pending:
            self._handler.begin_part(part)

    def send(self, piece: memoryview) -> None:
        """Some content of the part; before the first part this is the preamble, for no one."""
        part, size = self._part, len(piece)
        if part is None or not size:
            return
        self._count_content(part, size)
        if self._charset_value is not None:
            self._charset_value += piece[: _MAX_CHARSET - len(self._charset_value)]
        if self._pending:
            self._pending = False
            self._part = part = dataclasses.replace(part, empty_file=False)
            self._handler.begin_part(part)
        self._handler.part_data(piece)

    def _count_content(self, part: PartHead, size: int) -> None:
        self._size += size
        limit = self._limits.max_file_size if part.is_file else self._limits.max_field_size
        if limit is not None and self._size > limit:
            what = "file_size" if part.is_file else "field_size"
            raise _too_large("A part of the form is larger than {} bytes", what, limit)
        if not part.is_file:
            self.count("fields_size", size)

    def end(self) -> None:
        """A delimiter ended the part, or the preamble."""
        part, self._part = self._part, None
        if part is None:
            return
        if self._pending:
            self._handler.begin_part(part)
        if self._charset_value is not None:
            # RFC 7578, section 4.6: a field named _charset_ is the default of those after it.
            self._charset = _codec_of(self._charset_value.decode("latin-1"))
        self._handler.end_part()
