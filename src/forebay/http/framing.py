"""Where a request body ends (RFC 9112, section 6), decided once from its head.

The same object is advanced by the event loop (an application calls `receive()`) or by a
worker thread (the drain), never by both at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from forebay.errors import InvalidRequest, MalformedBody, UnknownTransferCoding
from forebay.protocol import fields
from forebay.protocol.chunked import ChunkedDecoder

_LARGE_CHUNK = 16 << 10
_TOGETHER = 64 << 10
_SMALL_READ = 128 << 10
_SMALLEST_READ = 16 << 10
_PROVEN = 256 << 10
"""Bytes of a chunked body after which larger reads of it are no risk."""
_FREE_WORK = 256
_COSTLY = 128
"""A body is costly when it takes more than a unit of work for so many bytes, as with chunks of less
than about 500 bytes.
"""

Feed = Callable[[memoryview], object]


class Framing(Protocol):
    @property
    def length(self) -> int | None:
        """Bytes announced by Content-Length; None when chunked."""
        ...

    @property
    def done(self) -> bool:
        """The whole body has been decoded."""
        ...

    @property
    def remaining(self) -> int | None:
        """Bytes of content still to come; None when that is not known."""
        ...

    @property
    def costly(self) -> bool:
        """Decoding takes more time than receiving, so others are served first. It stays so."""
        ...

    @property
    def work(self) -> int:
        """The work of decoding so far, in units of about 0.3 microseconds."""
        ...

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The trailer fields, once the body is done."""
        ...

    def room(self, size: int) -> int:
        """How many of `size` bytes to read at a time: as many as may be decoded at a time, and
        nothing of the next request if that is known.
        """
        ...

    def slice(self, size: int) -> int:
        """How many of `size` bytes to decode at once on the event loop."""
        ...

    def take_all(self, size: int) -> bool:
        """Whether the next `size` bytes are all content; they count as decoded then."""
        ...

    def decode(self, data: memoryview, feed: Feed) -> int:
        """Gives content to `feed`; returns how much of `data` belongs to this body."""
        ...


class LengthFraming:
    """Content-Length; a request without a body is one of length 0."""

    __slots__ = ("length", "remaining")

    trailers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 (there never are any)
    costly = False
    work = 0

    def __init__(self, length: int) -> None:
        self.length = length
        self.remaining = length

    @property
    def done(self) -> bool:
        return not self.remaining

    def room(self, size: int) -> int:
        return min(size, self.remaining)

    def slice(self, size: int) -> int:
        return size

    def take_all(self, size: int) -> bool:
        if size > self.remaining:
            return False
        self.remaining -= size
        return True

    def decode(self, data: memoryview, feed: Feed) -> int:
        size = min(len(data), self.remaining)
        if size:
            feed(data[:size])
            self.remaining -= size
        return size


class ChunkedFraming:
    """Transfer-Encoding: chunked."""

    __slots__ = ("_decoder", "_taken", "costly")

    length = None
    remaining = None

    def __init__(self) -> None:
        self._decoder = ChunkedDecoder()
        self._taken = 0
        self.costly = False

    @property
    def work(self) -> int:
        return self._decoder.work

    @property
    def done(self) -> bool:
        return self._decoder.done

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        return self._decoder.trailers

    def room(self, size: int) -> int:
        large = not self.costly and self._taken >= _PROVEN
        return size if large else min(size, _SMALL_READ)

    def slice(self, size: int) -> int:
        large = not self.costly and self._taken >= _PROVEN
        return size if large else min(size, _SMALLEST_READ)

    def take_all(self, size: int) -> bool:
        return False

    def decode(self, data: memoryview, feed: Feed) -> int:
        """Gives small chunks to `feed` together: one-byte chunks must not be a write each."""
        small = bytearray()

        def flush() -> None:
            nonlocal small
            if small:
                together, small = small, bytearray()
                feed(memoryview(together))

        def take(piece: memoryview) -> None:
            nonlocal small
            if len(piece) >= _LARGE_CHUNK:
                flush()
                feed(piece)
                return
            small += piece
            if len(small) >= _TOGETHER:
                flush()

        before = self._decoder.work
        try:
            used = self._decoder.decode(data, take)
        except MalformedBody:
            flush()  # what came before is content: part of a resumable upload
            raise
        flush()
        self._taken += used
        worked = self._decoder.work - before
        if worked > _FREE_WORK and worked * _COSTLY > used:
            self.costly = True
        return used


def framing_of(headers: Sequence[tuple[bytes, bytes]], http_version: str) -> Framing:
    """The framing that a head announces.

    Raises InvalidRequest for what two parsers might read differently (RFC 9112, section 6.3): two
    lengths, a length with a transfer coding, a coding in HTTP/1.0; UnknownTransferCoding.
    """
    codings = fields.every(headers, b"transfer-encoding")
    if not codings:
        length = fields.content_length(headers)
        return LengthFraming(length or 0)
    if http_version == "1.0":
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding.")
    if fields.every(headers, b"content-length"):
        raise InvalidRequest("Content-Length and Transfer-Encoding exclude each other.")
    if len(codings) > 1:
        raise InvalidRequest("Transfer-Encoding was given twice.")
    if codings[0].strip().lower() != b"chunked":
        raise UnknownTransferCoding
    return ChunkedFraming()
