"""The parts of a form: its boundary, their headers, and the limits on all of them.

RFC 7578 (multipart/form-data), RFC 2046, section 5.1, and for names the form encoding that
today's browsers use (WHATWG HTML, "multipart/form-data encoding algorithm").
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from forebay.errors import InvalidName, MalformedBody, TooLarge, UploadError
from forebay.media_types import extension_of
from forebay.model import KiB, MiB
from forebay.protocol import charsets
from forebay.protocol.form_type import boundary_of, read_parameters
from forebay.protocol.names import judge_name
from forebay.protocol.parameters import parse_content_disposition, parse_media_type

__all__ = [
    "FormHandler",
    "FormLimits",
    "FormParts",
    "PartHead",
    "boundary_of",
    "named",
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

    A part is a file when it has a file name, or anything that was to be one, or a type that no
    text field has. Where nothing usable is said its `filename` is made of the field's name and
    the type, and `made_name` is True.

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
    made_name: bool = False

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


# --- one part ------------------------------------------------------------------------------

_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_MAX_CHARSET = 64
_IDENTITY = ("7bit", "8bit", "binary")

LF_ONLY = "Lines of the form end with LF alone; they must end with CRLF (RFC 2046, section 4.1.1)."


def parse_head(block: bytes, limits: FormLimits, default_charset: str = "utf-8") -> PartHead:
    """The head in `block`: its lines, without the CRLF of the last one.

    `default_charset` is the codec of names, and of fields that do not name one (RFC 7578, section
    4.6). Raises `MalformedBody` and `TooLarge`.
    """
    headers = _read_fields(block, limits)
    coding = _only(headers, b"content-transfer-encoding")
    if coding is not None and coding.lower() not in _IDENTITY:
        raise MalformedBody(
            "A part has a Content-Transfer-Encoding; send it as it is, in binary "
            "(RFC 7578, section 4.7)."
        )
    parameters = _disposition(_only(headers, b"content-disposition"))
    sent_type = _only(headers, b"content-type") or ""
    kind, of_type = parse_media_type(sent_type)
    label = of_type.get("charset")

    def text(value: str) -> str:
        return _text(value, default_charset, charsets.codec_of(label))

    name, filename = text(parameters["name"]), _filename(parameters, text)
    if filename is None and kind.startswith("multipart/"):
        raise MalformedBody(
            f"A part is itself {kind}; send every file as a part of its own "
            "(RFC 7578, section 4.3)."
        )
    unnamed = filename is None and (_says_file(parameters) or not _is_text(kind, sent_type))
    is_file = unnamed or filename is not None
    if not kind:
        kind = "application/octet-stream" if is_file else "text/plain"
    return PartHead(
        name,
        made_name(name, kind) if unnamed else filename,
        kind,
        charsets.codec_of(label) if is_file else _charset(label, default_charset),
        headers,
        empty_file=filename == "",
        made_name=unnamed,
    )


_FOLD = re.compile(rb"\r\n[ \t]+")


def _read_fields(block: bytes, limits: FormLimits) -> tuple[tuple[bytes, bytes], ...]:
    block = _FOLD.sub(b" ", block)  # old mail libraries fold long lines: RFC 5322, section 2.2.3
    if block.count(b"\r\n") >= limits.max_headers:
        raise TooLarge(
            f"A part has more than {limits.max_headers} header fields (max_headers).",
            limit=limits.max_headers,
        )
    headers = []
    for line in block.split(b"\r\n") if block else ():
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise MalformedBody(
                LF_ONLY
                if b"\n" in line
                else "A header field of a part is malformed; it must read 'name: value'."
            )
        headers.append((match[1].lower(), match[2].strip(b" \t")))
    return tuple(headers)


def _only(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise MalformedBody(f"A part has the header field {name.decode()} more than once.")
    return values[0].decode("latin-1") if values else None


def _disposition(value: str | None) -> dict[str, str]:
    """The parameters of a Content-Disposition (RFC 7578, section 4.2); `name` is one of them."""
    found = read_parameters(value or "")
    if value is None or found is None:
        raise MalformedBody(
            "A part has no readable Content-Disposition; it must be: form-data; "
            'name="..." (RFC 7578, section 4.2).'
        )
    kind, parameters = found
    if kind != "form-data":
        raise MalformedBody("The Content-Disposition of a part must be form-data.")
    if "name" not in parameters:
        raise MalformedBody('A part has no name; add name="..." to its Content-Disposition.')
    return parameters


# --- names of files ------------------------------------------------------------------------


def _filename(parameters: Mapping[str, str], text: Callable[[str], str]) -> str | None:
    """What the client calls the file: "" for an input without one, None when nothing usable is
    said. `filename*` comes first (RFC 8187); RFC 7578 forbids it, yet clients that send it mean it.
    """
    extended = parameters.get("filename*")
    if extended is not None:
        sent = b"form-data; filename*=" + extended.encode("latin-1")
        found = parse_content_disposition(sent)
        if found is not None and found.filename:
            return found.filename
    plain = parameters.get("filename")
    if plain is None or (not plain and _says_more(parameters)):
        return None
    called = text(plain)
    # In a charset that nobody named: C1 controls, which stand for themselves only in UTF-8.
    return None if _C1.search(called) and not _is_utf8(plain) else called


_C1 = re.compile("[\x80-\x9f]")


def _is_utf8(value: str) -> bool:
    try:
        value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _says_more(parameters: Mapping[str, str]) -> bool:
    return any(key.startswith("filename*") for key in parameters)


def _says_file(parameters: Mapping[str, str]) -> bool:
    return "filename" in parameters or _says_more(parameters)


def _is_text(kind: str, sent_type: str) -> bool:
    """Whether a part without any file name is a field: by its type, if it has one."""
    if not kind:
        return not sent_type.strip(" \t")
    main, _, sub = kind.partition("/")
    return main == "text" or (
        main == "application" and (sub in _TEXTS or sub.endswith(("+json", "+xml")))
    )


_TEXTS = frozenset({"json", "xml", "x-www-form-urlencoded"})
_SUFFIX = re.compile(r"[^.]\.[A-Za-z0-9]{1,8}\Z")


def made_name(field: str, kind: str) -> str:
    """A name for a file without one that can be used: that of its field and its type's ending."""
    base = field.replace("\\", "/").rpartition("/")[2].removesuffix("[]").strip(" .")[:60]
    ending = "" if _SUFFIX.search(base) else f".{extension_of(kind)}"
    try:
        return judge_name(base + ending) if base else "file" + ending
    except InvalidName:
        return f"file.{extension_of(kind)}"


# --- text ----------------------------------------------------------------------------------

_BROWSER_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


def _text(value: str, default: str, other: str | None) -> str:
    """Text read as ISO-8859-1, in which browsers escape three characters."""
    if "%" in value:
        for escape, character in _BROWSER_ESCAPES.items():
            value = value.replace(escape, character)
    return value if value.isascii() else charsets.name_of(value.encode("latin-1"), default, other)


def _charset(label: str | None, default: str) -> str:
    """The codec of a field. One that is not known refuses nothing: the files beside it matter."""
    if label is None:
        return default
    return charsets.codec_of(label, wide=True) or "utf-8"


def oversized_head(head: bytearray, limit: int) -> UploadError:
    """What to say about a header that has not ended within `limit` bytes."""
    if b"\n" in head.replace(b"\r\n", b""):
        return MalformedBody(LF_ONLY)
    return _too_large("The header of a part is larger than {} bytes", "header_size", limit)


def named(error: UploadError, field: str, filename: str | None) -> UploadError:
    """The error, which says from now on what file of a form it is about, and in which field."""
    if "field" not in error.detail:
        error.detail |= {"field": field, "filename": filename}
        what = "the text" if filename is None else f"the file {filename[:80]!r}"
        error.message = f"{error.message} ({what} in the field {field[:80]!r})"
        error.args = (error.message,)
    return error


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

    def __init__(self, limits: FormLimits, handler: FormHandler, charset: str = "utf-8") -> None:
        self._limits, self._handler = limits, handler
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._maxima: dict[str, int | None]
        self._maxima = {what: getattr(limits, f"max_{what}") for what in _COUNTED}
        self._charset = charset
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
            name = made_name(part.name, part.media_type)
            self._part = part = dataclasses.replace(
                part, empty_file=False, filename=name, made_name=True
            )
            self._handler.begin_part(part)
        self._handler.part_data(piece)

    def _count_content(self, part: PartHead, size: int) -> None:
        self._size += size
        limit = self._limits.max_file_size if part.is_file else self._limits.max_field_size
        if limit is not None and self._size > limit:
            what = "file_size" if part.is_file else "field_size"
            error = _too_large("A part of the form is larger than {} bytes", what, limit)
            raise named(error, part.name, part.filename)
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
            codec = charsets.codec_of(self._charset_value.decode("latin-1"))
            self._charset = codec or self._charset
        self._handler.end_part()
