"""The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1), decoded in place.

    SIZE ──size>0──> DATA ──all of it──> AFTER_DATA ──CRLF──> SIZE
      └───size 0───> TRAILER ──empty line──> DONE          any error ──> BROKEN

Content is not stored: it is passed on as slices of the caller's buffer; runs of the smallest
chunks are joined first. Only the incomplete line at the end of a buffer is stored, and its size is
bounded.

The time that decoding takes depends on the number of chunks and lines, not of bytes. `work` counts
it, so that a reader can end its turn in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto

from forebay.errors import MalformedBody
from forebay.model import MAX_OFFSET

__all__ = ["ChunkedDecoder", "allowed_trailers"]

# `re` reads a memoryview where it is, so the usual head costs no copy and no search.
_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_NEXT_HEAD = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})\r\n")
# BWS may stand before the semicolon (section 7.1.1) but not after a bare size. The extension is
# skipped, but control characters in it are refused: another parser may take one for a line end.
_EXTENDED_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")

# Whole chunks of 1 to 15 bytes. In a run each begins where the one before ends, so `findall` finds
# exactly these.
_TINY = b"|".join(b"[%s]\r\n.{%d}\r\n" % (b"%x%X" % (size, size), size) for size in range(1, 16))
_TINY_CHUNK = re.compile(b"(?s:%s)" % _TINY)
_TINY_RUN = re.compile(b"(?s:(?:%s){8,2048}+)" % _TINY)
_LINE = re.compile(rb"[^\n]*\n")

_MAX_OVERHEAD = 16 * 1024
"""Bytes of extensions that a body may have beyond the size of its content."""
_EXTENSION_COST = 64
"""Bytes that every extension counts for, beside its own."""
_MAX_TRAILERS = 256
_CHUNK_WORK = 4
"""The work of a chunk. A unit is the work of a tiny chunk in a run: about 0.3 microseconds."""
_LINE_WORK = 16
"""The work of any other line: a head with an extension, a trailer."""


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    AFTER_DATA = auto()
    TRAILER = auto()
    DONE = auto()
    BROKEN = auto()


class ChunkedDecoder:
    """Decodes one body, in pieces of any size.

    `max_line`: most bytes of the head line of a chunk. `max_trailer`: most bytes of the trailer
    section. `trailers`: all trailer fields, names in lower case; use `allowed_trailers` to select
    those that may be read. `work`: grows with what was decoded, in units of 0.3 microseconds.
    """

    __slots__ = (
        "_max_line",
        "_max_trailer",
        "_overhead",
        "_partial",
        "_remaining",
        "_state",
        "_trailer_size",
        "trailers",
        "work",
    )

    def __init__(self, max_line: int = 4096, max_trailer: int = 8192) -> None:
        self.trailers: list[tuple[bytes, bytes]] = []
        self.work = 0
        self._max_line = max_line
        self._max_trailer = max_trailer
        self._state = _State.SIZE
        self._remaining = 0
        self._partial = bytearray()
        self._overhead = 0
        self._trailer_size = 0

    @property
    def done(self) -> bool:
        """Whether the last chunk and the whole trailer section have been read."""
        return self._state is _State.DONE

    def decode(self, data: memoryview, sink: Callable[[memoryview], object]) -> int:
        """Passes the content in `data` to `sink`, slice by slice; returns the bytes consumed.

        These are all of `data`, unless the body ends in it: the rest is the next request. A slice
        is valid as long as `data` is. Raises `MalformedBody`. After that, and after an error of
        `sink`, the decoder cannot be used any more.
        """
        position, end = 0, len(data)
        while position < end:
            state = self._state
            if state is _State.DATA:
                position = self._read_data(data, position, sink)
            elif state is _State.SIZE:
                position = self._read_size(data, position, sink)
            elif state is _State.AFTER_DATA:
                position = self._read_data_end(data, position)
            elif state is _State.TRAILER:
                position = self._read_trailer(data, position)
            elif state is _State.DONE:
                break
            else:
                raise self._broken("The body was malformed before.")
        return position

    def _read_data(
        self, data: memoryview, position: int, sink: Callable[[memoryview], object]
    ) -> int:
        """Content, and the chunks after it as long as each is whole and has no extension."""
        end, next_head = len(data), _NEXT_HEAD.match
        while True:
            stop = position + self._remaining
            if stop > end:
                sink(data[position:end])
                self._remaining = stop - end
                return end
            sink(data[position:stop])
            self._remaining = 0
            self._state = _State.AFTER_DATA
            self.work += _CHUNK_WORK
            # CRLF, size and CRLF are nearly always there: match them at once.
            match = next_head(data, stop)
            if match is None:
                return stop
            size = self._begin_chunk(match[1])
            if 0 < size < 16:  # perhaps one of many: see `_read_size`
                self._state = _State.SIZE
                return stop + 2
            position = match.end()
            if not size or position == end:
                return position

    def _read_size(
        self, data: memoryview, position: int, sink: Callable[[memoryview], object]
    ) -> int:
        """The head of a chunk; or a run of tiny chunks at once."""
        if not self._partial and (run := _TINY_RUN.match(data, position)):
            chunks = _TINY_CHUNK.findall(data[position : run.end()])
            self.work += len(chunks)
            sink(memoryview(b"".join([chunk[3:-2] for chunk in chunks])))
            return run.end()
        return self._read_head(data, position)

    def _broken(self, message: str) -> MalformedBody:
        self._state = _State.BROKEN
        return MalformedBody(message)

    def _begin_chunk(self, digits: bytes) -> int:
        size = int(digits, 16)
        if size > MAX_OFFSET:
            raise self._broken("A chunk is larger than any file can be.")
        self._remaining = size
        self._state = _State.DATA if size else _State.TRAILER
        return size

    def _read_head(self, data: memoryview, position: int) -> int:
        if not self._partial and (match := _HEAD.match(data, position)):
            self._begin_chunk(match[1])
            return match.end()
        line, position = self._read_line(data, position, self._max_line)
        if line is None:
            return position
        self.work += _LINE_WORK
        match = _EXTENDED_HEAD.fullmatch(line)
        if match is None:
            raise self._broken("A chunk does not begin with its size in hexadecimal digits.")
        size = self._begin_chunk(match[1])
        if match[2]:
            self._overhead += _EXTENSION_COST + len(match[2])
        self._overhead = max(0, self._overhead - size)
        if self._overhead > _MAX_OVERHEAD:
            raise self._broken("The chunk extensions are larger than the content.")
        return position

    def _read_data_end(self, data: memoryview, position: int) -> int:
        """One byte of the CRLF that ends the data of a chunk."""
        if data[position] != (0x0A if self._partial else 0x0D):
            raise self._broken("The data of a chunk is not followed by CRLF.")
        if self._partial:
            self._partial.clear()
            self._state = _State.SIZE
        else:
            self._partial += b"\r"
        return position + 1

    def _read_trailer(self, data: memoryview, position: int) -> int:
        limit = max(0, self._max_trailer - self._trailer_size)
        line, position = self._read_line(data, position, limit)
        if line is None:
            return position
        if not line:
            self._state = _State.DONE
            return position
        self.work += _LINE_WORK
        self._trailer_size += len(line) + 2
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            # This refuses a folded line too, as RFC 9112, section 5.2, allows.
            raise self._broken("A trailer field is malformed.")
        if len(self.trailers) == _MAX_TRAILERS:
            raise self._broken("There are too many trailer fields.")
        self.trailers.append((match[1].lower(), match[2].strip(b" \t")))
        return position

    def _read_line(self, data: memoryview, position: int, limit: int) -> tuple[bytes | None, int]:
        """The next line without its CRLF, None when it is not complete; and where it ends."""
        room = limit + 2 - len(self._partial)
        stop = min(position + room, len(data))
        match = _LINE.match(data, position, stop)
        if match is None:
            if stop == position + room:
                raise self._broken("A line of the chunked coding is too long.")
            self._partial += data[position:stop]
            return None, stop
        line = bytes(self._partial) + match[0]
        self._partial.clear()
        # RFC 9112, section 2.2, lets a recipient accept a bare LF in a head. Not here: parsers that
        # disagree about it can be used to smuggle a request.
        if not line.endswith(b"\r\n"):
            raise self._broken("A line of the chunked coding does not end with CRLF.")
        return line[:-2], match.end()


def allowed_trailers(
    trailers: Sequence[tuple[bytes, bytes]], names: Collection[bytes]
) -> list[tuple[bytes, bytes]]:
    """The trailers whose names, in lower case, are in `names` (RFC 9110, section 6.5.1).

    A trailer must not change what the head said, so a caller lists those it expects.
    """
    return [(name, value) for name, value in trailers if name in names]
