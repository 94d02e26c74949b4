"""The parts of a form in their order: counted against the limits, and passed to a handler.

`multipart` splits the body into parts; `multipart_head` reads the header of a part.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from forebay.errors import UploadError
from forebay.protocol import charsets
from forebay.protocol.multipart_head import PartHead, made_name, parse_head
from forebay.protocol.multipart_limits import FormLimits, too_large

__all__ = ["FormHandler", "FormParts", "add_part_name"]

_MAX_CHARSET = 64
"""Bytes of the value of `_charset_` that are read."""


class FormHandler(Protocol):
    """Receives the parts: for each one `begin_part`, any number of `part_data`, `end_part`."""

    def begin_part(self, head: PartHead) -> None:
        """The header of a part was read."""
        ...

    def part_data(self, data: memoryview) -> None:
        """Some bytes of its content, never empty; valid until the call returns."""
        ...

    def end_part(self) -> None:
        """Its content is complete."""
        ...


def add_part_name(error: UploadError, field: str, filename: str | None) -> UploadError:
    """The same error; its message and detail now name the file and the field of the form."""
    if "field" not in error.detail:
        error.detail |= {"field": field, "filename": filename}
        what = "the text" if filename is None else f"the file {filename[:80]!r}"
        error.message = f"{error.message} ({what} in the field {field[:80]!r})"
        error.args = (error.message,)
    return error


_COUNTED = {
    "parts": "The form has more than {} parts",
    "fields": "The form has more than {} fields",
    "files": "The form has more than {} files",
    "fields_size": "The fields of the form are together larger than {} bytes",
    "total": "The form is larger than {} bytes",
}


class FormParts:
    """The parts of one form, in the order they arrive.

    Its methods raise `MalformedBody`, `TooLarge` and what the handler raises.
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
        """Adds `more` to what counts against a limit, named without its `max_`."""
        self._counts[what] += more
        limit = self._maxima[what]
        if limit is not None and self._counts[what] > limit:
            raise too_large(_COUNTED[what], what, limit)

    def begin(self, block: bytes) -> None:
        """`block` is the whole header of a part."""
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
        """Some content of the part. Before the first part it is the preamble, which is ignored."""
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
            error = too_large("A part of the form is larger than {} bytes", what, limit)
            raise add_part_name(error, part.name, part.filename)
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
