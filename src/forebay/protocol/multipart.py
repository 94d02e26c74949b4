"""A parser of multipart/form-data (RFC 7578; RFC 2046, section 5.1) for pieces of any size.

    PREAMBLE ──delimiter──> HEAD ──empty line──> CONTENT ──delimiter──> HEAD ...
    a delimiter may be followed by blanks: ──> PADDING ──CRLF──> HEAD
    the closing delimiter has two hyphens: ──> CLOSED ──> EPILOGUE        any error ──> BROKEN

Content is neither copied nor stored: it is passed on as slices of the caller's buffer. Stored
from one piece to the next are the incomplete header of a part, and the last bytes of content
that may begin a delimiter (fewer than the length of the boundary plus 6).
"""

from __future__ import annotations

import re
from enum import Enum, auto

from forebay.errors import IncompleteBody, InvalidField, MalformedBody
from forebay.protocol.form_type import MAX_BOUNDARY
from forebay.protocol.multipart_delimiter import DelimiterFinder
from forebay.protocol.multipart_head import LF_ONLY, oversized_head
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.multipart_parts import FormHandler, FormParts

__all__ = ["MultipartParser"]

_MAX_PADDING = 256
"""Blanks after a delimiter. RFC 2046 lets gateways add them, without a limit."""

_MAX_LOOKALIKES = 1000
"""Content lines that begin with the delimiter. RFC 2046, section 5.1.1, allows none."""

_COPIED = 64 << 10
_BLANKS = re.compile(rb"[ \t]++")
_PART_WORK = 100
_HEAD_BYTES = 8
"""Bytes of the header of a part that count as one more unit of work."""
_LOOKALIKE_WORK = 10


class _State(Enum):
    PREAMBLE = auto()
    PADDING = auto()
    HEAD = auto()
    CONTENT = auto()
    CLOSED = auto()
    EPILOGUE = auto()
    BROKEN = auto()


class _Follow(Enum):
    """What follows `CRLF "--" boundary`, and so whether that is a delimiter."""

    NEXT = b"\r\n"
    CLOSE = b"--"
    PADDED = b" "
    CONTENT = b"?"
    UNKNOWN = b""


class MultipartParser:
    """Parses one form, in pieces of any size, and passes its parts to `handler`.

    `charset`: the codec of names, and of fields that name none. Methods raise `MalformedBody` and
    `TooLarge` (the message names the limit). After that, and after an error of the handler, the
    parser cannot be used any more.
    """

    __slots__ = (
        "_finder",
        "_head",
        "_held",
        "_lookalikes",
        "_max_header_size",
        "_padding",
        "_parts",
        "_state",
        "_unsent",
        "work",
    )

    def __init__(
        self, boundary: bytes, limits: FormLimits, handler: FormHandler, charset: str = "utf-8"
    ) -> None:
        if not 1 <= len(boundary) <= MAX_BOUNDARY or b"\r" in boundary or b"\n" in boundary:
            raise InvalidField(f"The boundary must be 1 to {MAX_BOUNDARY} characters of one line.")
        self._finder = DelimiterFinder(b"\r\n--" + boundary)
        self._parts = FormParts(limits, handler, charset)
        self._max_header_size = limits.max_header_size
        self._state = _State.PREAMBLE
        # A delimiter begins with CRLF. The first one may be the first line of the body, and that
        # of an empty part may share the CRLF of the empty line before: as if a CRLF stood there.
        self._held = b"\r\n"
        self._unsent = 2
        self._head = bytearray()
        self._padding = b""
        self._lookalikes = 0
        self.work = 0
        """The work of parsing everything but content, in units of 0.3 microseconds."""

    @property
    def done(self) -> bool:
        """Whether the closing delimiter was read; only an epilogue may follow."""
        return self._state in (_State.CLOSED, _State.EPILOGUE)

    def finish(self) -> None:
        """To call at the end of the body. Raises `IncompleteBody` unless the form has ended."""
        if self.done:
            return
        if self._state is _State.PREAMBLE:
            raise IncompleteBody(
                "No part was found: the boundary is not the one that Content-Type names, or "
                "lines do not end with CRLF."
            )
        raise IncompleteBody("The form ended before its closing delimiter.")

    def decode(
        self, data: bytes | bytearray | memoryview, start: int = 0, end: int | None = None
    ) -> None:
        """Parses `data[start:end]`. The buffer may be reused afterwards.

        Bytes, a bytearray and a memoryview of a whole one are searched in place. Of other views
        a copy is searched, 64 KiB at a time, since views have no search.
        """
        if self._state is _State.BROKEN:
            raise MalformedBody("The form was malformed before.")
        try:
            view = memoryview(data)
            end = len(view) if end is None else min(end, len(view))
            self._parts.count("total", max(0, end - start))
            searchable = _searchable(view)
            if searchable is not None:
                self._decode(searchable, view, start, end)
                return
            for position in range(start, end, _COPIED):
                piece = view[position : min(position + _COPIED, end)]
                self._decode(bytes(piece), piece, 0, len(piece))
        except BaseException:
            self._state = _State.BROKEN
            raise

    def _decode(self, data: bytes | bytearray, view: memoryview, position: int, end: int) -> None:
        while position < end:
            state = self._state
            if state is _State.CONTENT or state is _State.PREAMBLE:
                if self._held:
                    position = self._read_held(data, position, end)
                else:
                    position = self._read_content(data, view, position, end)
            elif state is _State.HEAD:
                position = self._read_head(data, position, end)
            elif state is _State.PADDING:
                position = self._read_padding(data, position, end)
            elif state is _State.CLOSED:
                # A line that only looks like the closing delimiter: what follows would be lost.
                if data[position] not in b"\r\n \t":
                    raise MalformedBody("The closing delimiter is not at the end of its line.")
                self._state = _State.EPILOGUE
            else:
                return

    # --- content and delimiters ------------------------------------------------------------

    def _read_content(
        self, data: bytes | bytearray, view: memoryview, position: int, end: int
    ) -> int:
        finder = self._finder
        hit = finder.find(data, position, end)
        if hit < 0:
            hit = finder.partial(data, position, end)
            self._parts.send(view[position:hit])
            self._held = bytes(data[hit:end])
            return end
        after = hit + finder.size
        follow = self._follow(data[after : min(after + 2, end)])
        if follow is _Follow.CONTENT:
            self._parts.send(view[position:after])
            return after
        self._parts.send(view[position:hit])
        if follow is _Follow.UNKNOWN:
            self._held = bytes(data[hit:end])
            return end
        self._end_content(follow)
        return after + len(follow.value)

    def _read_held(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Decides whether the bytes held back begin a delimiter, with as few more as possible."""
        held, delimiter = self._held, self._finder.delimiter
        stop = min(position + len(delimiter) + 2 - len(held), end)
        window = held + data[position:stop]
        follow = _Follow.CONTENT
        if window.startswith(delimiter):
            follow = self._follow(window[len(delimiter) :])
        elif delimiter.startswith(window):
            follow = _Follow.UNKNOWN
        if follow is _Follow.UNKNOWN:
            self._held = window
            return stop
        if follow is not _Follow.CONTENT:
            self._end_content(follow)
            return position + len(delimiter) + len(follow.value) - len(held)
        # A delimiter begins with CR: hold back the bytes from the next CR on.
        cut = held.find(b"\r", 1)
        self._held = b"" if cut < 0 else held[cut:]
        unsent, self._unsent = self._unsent, 0
        self._parts.send(memoryview(held)[unsent : len(held) if cut < 0 else cut])
        return position

    def _follow(self, two: bytes | bytearray) -> _Follow:
        if two == b"\r\n":
            return _Follow.NEXT
        if two == b"--":
            return _Follow.CLOSE
        if two in (b"", b"\r", b"-"):
            return _Follow.UNKNOWN
        if two[:1] in (b" ", b"\t"):
            return _Follow.PADDED
        if two[:1] == b"\n":
            raise MalformedBody(LF_ONLY)
        self._lookalikes += 1
        self.work += _LOOKALIKE_WORK
        if self._lookalikes > _MAX_LOOKALIKES:
            raise MalformedBody("The content is full of the boundary; choose a longer one.")
        return _Follow.CONTENT

    def _end_content(self, follow: _Follow) -> None:
        """A delimiter ended the part, or the preamble, before it."""
        self._parts.end()
        self._held = b""
        if follow is _Follow.NEXT:
            self._begin_head()
        elif follow is _Follow.PADDED:
            self._padding = b" "
            self._state = _State.PADDING
        else:
            self._state = _State.CLOSED

    def _read_padding(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Transport padding (RFC 2046, section 5.1.1), or a byte of the CRLF after it."""
        room = max(0, _MAX_PADDING - len(self._padding))
        blanks = _BLANKS.match(data, position, min(position + room, end))
        if blanks is not None and not self._padding.endswith(b"\r"):
            self._padding += blanks[0]
            return blanks.end()
        byte = data[position : position + 1]
        if self._padding.endswith(b"\r"):
            if byte != b"\n":
                raise MalformedBody("A delimiter is not at the end of its line.")
            self._begin_head()
        elif byte not in (b" ", b"\t", b"\r"):
            raise MalformedBody(
                LF_ONLY if byte == b"\n" else "A delimiter is not at the end of its line."
            )
        elif len(self._padding) > _MAX_PADDING:
            raise MalformedBody(f"More than {_MAX_PADDING} blanks follow a delimiter.")
        else:
            self._padding += byte
        return position + 1

    # --- the header of a part --------------------------------------------------------------

    def _begin_head(self) -> None:
        self._parts.count("parts", 1)
        self._head = bytearray(b"\r\n")  # of the delimiter: so an empty header ends as any other
        self._state = _State.HEAD

    def _read_head(self, data: bytes | bytearray, position: int, end: int) -> int:
        head, limit = self._head, self._max_header_size
        before = len(head)
        stop = min(position + limit + 4 - before, end)
        head += data[position:stop]
        cut = head.find(b"\r\n\r\n", max(0, before - 3))
        if cut < 0:
            if len(head) == limit + 4:
                raise oversized_head(head, limit)
            return stop
        self._head = bytearray()
        self.work += _PART_WORK + cut // _HEAD_BYTES
        self._parts.begin(bytes(head[2:cut]))
        self._held, self._unsent = b"\r\n", 2
        self._state = _State.CONTENT
        return position + cut + 4 - before


def _searchable(view: memoryview) -> bytes | bytearray | None:
    """The object behind a view, when the view covers all of it."""
    behind = view.obj
    if not isinstance(behind, (bytes, bytearray)):
        return None
    return behind if view.c_contiguous and len(view) == len(behind) else None
