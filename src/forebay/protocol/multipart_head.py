"""The header of one part of a form (RFC 7578; RFC 2046, section 5.1).

Names are encoded as in browsers (WHATWG HTML, "multipart/form-data encoding algorithm").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forebay.errors import InvalidName, MalformedBody, TooLarge, UploadError
from forebay.media_types import extension_of
from forebay.protocol import charsets
from forebay.protocol.form_type import read_parameters
from forebay.protocol.multipart_limits import FormLimits, too_large
from forebay.protocol.names import validate_name
from forebay.protocol.parameters import parse_content_disposition, parse_media_type

__all__ = ["LF_ONLY", "PartHead", "made_name", "oversized_head", "parse_head"]


@dataclass(frozen=True, slots=True)
class PartHead:
    """The header of one part. Names are decoded and not validated.

    A part is a file when it has a file name, even a malformed one, or a media type that no text
    field has.
    """

    name: str
    """The field of the form."""
    filename: str | None
    """The name of the file; None for a text field."""
    media_type: str
    charset: str | None
    """A Python codec. A field always has one; a file has the one of its Content-Type, or None."""
    headers: tuple[tuple[bytes, bytes], ...]
    """The header fields as sent, their names in lower case."""
    empty_file: bool = False
    """A file input in which no file was chosen: an empty file name and no content."""
    made_name: bool = False
    """The client sent no usable file name; `filename` was made from the field and the type."""

    @property
    def is_file(self) -> bool:
        """Whether it is a file, not a text field."""
        return self.filename is not None


# --- one part ------------------------------------------------------------------------------

_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_IDENTITY = ("7bit", "8bit", "binary")

LF_ONLY = "Lines of the form end with LF alone; they must end with CRLF (RFC 2046, section 4.1.1)."


def parse_head(block: bytes, limits: FormLimits, default_charset: str = "utf-8") -> PartHead:
    """The head of a part. `block`: its lines, without the CRLF of the last one.

    `default_charset`: codec of names, and of fields that name none (RFC 7578, section 4.6). Raises
    `MalformedBody` and `TooLarge`.
    """
    headers = _read_fields(block, limits)
    coding = _single(headers, b"content-transfer-encoding")
    if coding is not None and coding.lower() not in _IDENTITY:
        raise MalformedBody(
            "A part has a Content-Transfer-Encoding; send it as it is, in binary "
            "(RFC 7578, section 4.7)."
        )
    parameters = _disposition(_single(headers, b"content-disposition"))
    sent_type = _single(headers, b"content-type") or ""
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
    unnamed = filename is None and (_has_filename(parameters) or not _is_text(kind, sent_type))
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


def _single(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise MalformedBody(f"A part has the header field {name.decode()} more than once.")
    return values[0].decode("latin-1") if values else None


def _disposition(value: str | None) -> dict[str, str]:
    """The parameters of a Content-Disposition, `name` among them (RFC 7578, section 4.2)."""
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
    """The client's name for the file: "" for an input without a file, None when there is no usable
    name. `filename*` goes first (RFC 8187): RFC 7578 forbids it, but some clients send it.
    """
    extended = parameters.get("filename*")
    if extended is not None:
        sent = b"form-data; filename*=" + extended.encode("latin-1")
        found = parse_content_disposition(sent)
        if found is not None and found.filename:
            return found.filename
    plain = parameters.get("filename")
    if plain is None or (not plain and _has_extended(parameters)):
        return None
    called = text(plain)
    # C1 controls are meant only in UTF-8; otherwise the name is in a charset that we do not know.
    return None if _C1.search(called) and not _is_utf8(plain) else called


_C1 = re.compile("[\x80-\x9f]")


def _is_utf8(value: str) -> bool:
    try:
        value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _has_extended(parameters: Mapping[str, str]) -> bool:
    return any(key.startswith("filename*") for key in parameters)


def _has_filename(parameters: Mapping[str, str]) -> bool:
    return "filename" in parameters or _has_extended(parameters)


def _is_text(kind: str, sent_type: str) -> bool:
    """Whether a part without a file name is a text field, judging by its media type."""
    if not kind:
        return not sent_type.strip(" \t")
    main, _, sub = kind.partition("/")
    return main == "text" or (
        main == "application" and (sub in _TEXTS or sub.endswith(("+json", "+xml")))
    )


_TEXTS = frozenset({"json", "xml", "x-www-form-urlencoded"})
_SUFFIX = re.compile(r"[^.]\.[A-Za-z0-9]{1,8}\Z")


def made_name(field: str, kind: str) -> str:
    """A file name made from the name of the field and the usual extension of the media type."""
    base = field.replace("\\", "/").rpartition("/")[2].removesuffix("[]").strip(" .")[:60]
    ending = "" if _SUFFIX.search(base) else f".{extension_of(kind)}"
    try:
        return validate_name(base + ending) if base else "file" + ending
    except InvalidName:
        return f"file.{extension_of(kind)}"


# --- text ----------------------------------------------------------------------------------

_BROWSER_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


def _text(value: str, default: str, other: str | None) -> str:
    """Decodes text that was read as ISO-8859-1, and the three characters that browsers escape."""
    if "%" in value:
        for escape, character in _BROWSER_ESCAPES.items():
            value = value.replace(escape, character)
    return value if value.isascii() else charsets.name_of(value.encode("latin-1"), default, other)


def _charset(label: str | None, default: str) -> str:
    """The codec of a field. An unknown charset does not refuse the form: its files matter more."""
    if label is None:
        return default
    return charsets.codec_of(label, wide=True) or "utf-8"


def oversized_head(head: bytearray, limit: int) -> UploadError:
    """The error for a header that does not end within `limit` bytes."""
    if b"\n" in head.replace(b"\r\n", b""):
        return MalformedBody(LF_ONLY)
    return too_large("The header of a part is larger than {} bytes", "header_size", limit)
