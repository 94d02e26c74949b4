"""Request heads from the bytes of a connection, one after the other."""

from __future__ import annotations

from typing import NamedTuple

from forebay.errors import HeadTimeout, HeadTooLarge, InvalidRequest, UploadError
from forebay.http.answers import Headers
from forebay.http.cors import origins_of_process
from forebay.http.framing import Framing, framing_of
from forebay.http.head import EMPTY_LINES, END, Head, cannot_become_one
from forebay.http.long_head import LongHead
from forebay.protocol.origin import origins_in

_MAX_EMPTY_LINES = 1000
"""Before a request. Some clients send one after a body; none sends many."""


class HeadRefused(Exception):
    """What arrived is not a request. `error` says why; `fields` are those known of its head."""

    def __init__(self, error: UploadError, fields: Headers) -> None:
        super().__init__(error)
        self.error = error
        self.fields = fields


class Request(NamedTuple):
    """A request without its body."""

    raw: bytes
    """The head as it was sent."""
    head: Head
    framing: Framing
    path: bytes
    """Still percent-encoded."""
    query: bytes


class HeadReader:
    """Takes whole heads off the front of `buffer`, to which the connection adds what it reads."""

    __slots__ = ("_buffer", "_empty_lines", "_long", "_scanned")

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._scanned = 0
        self._empty_lines = 0
        self._long: LongHead | None = None

    def read(self, max_head: int) -> Request | None:
        """The next request; None while its head is not whole.

        Raises HeadRefused, also for a head of more than `max_head` bytes.
        """
        buffer = self._buffer
        if self._long is not None:
            self._read_long(self._long)
            return None
        if buffer[:2] == b"\r\n":  # RFC 9112, section 2.2: at least one empty line is ignored
            self._skip_empty_lines()
        if not buffer:
            return None
        end = buffer.find(END, max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > max_head:
                self._long = LongHead()
                self._read_long(self._long)
            elif cannot_become_one(buffer):
                raise HeadRefused(InvalidRequest("That is not HTTP/1.1."), origins_in(buffer))
            return None
        self._scanned = self._empty_lines = 0
        end += len(END)
        data = bytes(buffer[:end])
        del buffer[:end]
        if end > max_head:
            raise HeadRefused(HeadTooLarge(), origins_in(data))
        return _parse(data)

    def _skip_empty_lines(self) -> None:
        empty = EMPTY_LINES.match(self._buffer)
        assert empty is not None
        size = empty.end()
        del empty  # it holds the buffer
        del self._buffer[:size]
        self._empty_lines += size // 2
        if self._empty_lines > _MAX_EMPTY_LINES:
            message = "There are too many empty lines before a request."
            raise HeadRefused(InvalidRequest(message), [])

    def _read_long(self, long_head: LongHead) -> None:
        """Drops what arrives of a head that is too long. It is read on only for its Origin, and
        only where pages of other origins may use the server.
        """
        data = bytes(self._buffer)
        self._buffer.clear()
        if long_head.feed(data) or not origins_of_process():
            raise HeadRefused(HeadTooLarge(), long_head.origins)

    @property
    def too_long(self) -> bool:
        """A head that is too long is being read to its end."""
        return self._long is not None

    def cut_off(self) -> HeadRefused | None:
        """The refusal of what has arrived when no more is waited for; None if that is nothing."""
        if self._long is not None:
            return HeadRefused(HeadTooLarge(), self._long.origins)
        return HeadRefused(HeadTimeout(), origins_in(self._buffer)) if self._buffer else None


def _parse(data: bytes) -> Request:
    head = None
    try:
        head = Head(data)
        framing = framing_of(head.headers, head.version)
        return Request(data, head, framing, *head.target())
    except UploadError as error:
        parsed = [] if head is None else head.headers
        accept = [field for field in parsed if field[0] == b"accept"]
        raise HeadRefused(error, [*origins_in(data), *accept]) from error
