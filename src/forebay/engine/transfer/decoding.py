"""Decoding the content codings of request bodies.

    BodyWriter  ── as it came: counted, limited, hashed ──▶  Decoding  ── decoded ──▶  sink

`Decoding` is a sink in front of another one: a staged file, a spool, the parser of a form. It works
in the worker thread that feeds the writer, in pieces of a bounded size: a megabyte that would
become a gigabyte is never decoded at once.

Each decoder holds the window of its format in memory: `MEMORY` says how much.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from forebay.engine.transfer.pump import Sink
from forebay.errors import OffsetMismatch, TooLarge, TooManyUploads, UndecodableBody
from forebay.model import KiB, MiB

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.transfer.spool import Budget

__all__ = ["JUDGED_FROM", "MEMORY", "Decoding", "decoding", "offered", "room"]

PIECE = 256 * KiB
"""Most decoded bytes in memory at a time; less where the buffers of the workers are smaller."""
_SLICE = 16 * KiB
"""Encoded bytes that a decoder is given at a time: what it leaves is copied."""
JUDGED_FROM = 16 * MiB
"""Decoded bytes from which on the ratio is checked: a short run of zeros does no harm."""

MEMORY: Mapping[str, int] = MappingProxyType({"gzip": 64 * KiB, "zstd": 9 * MiB, "br": 17 * MiB})
"""The codings that may be offered, in order of preference, and the bytes of memory that decoding
takes: its window (RFC 1952; RFC 9659, section 3; RFC 7932, section 9.1).
"""
_ZSTD_WINDOW_LOG = 23
_MEMBERS = 1000
_MEMBER = 128
"""Members that a body may have in any case, and the bytes that allow one more: to begin one costs
far more time than to send it.
"""


class _Decoder(Protocol):
    """One content coding."""

    members: int
    """Members or frames begun so far."""

    def decode(self, data: memoryview, most: int) -> Iterator[bytes]:
        """All of `data`, in pieces of about `most` bytes at most. Raises UndecodableBody."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the data may end here."""
        ...


class _Gzip:
    """RFC 1952: one member after another."""

    def __init__(self) -> None:
        self.members = 1
        self._inflate = zlib.decompressobj(31)

    def decode(self, data: memoryview, most: int) -> Iterator[bytes]:
        rest: memoryview | bytes = data
        while rest:
            if self._inflate.eof:
                self.members += 1
                self._inflate = zlib.decompressobj(31)
            try:
                piece = self._inflate.decompress(rest, most)
                while len(piece) == most and not self._inflate.eof:
                    yield piece
                    piece = self._inflate.decompress(self._inflate.unconsumed_tail, most)
            except zlib.error as error:
                raise UndecodableBody(f"The body is not gzip data ({error}).") from error
            rest = self._inflate.unused_data
            yield piece

    @property
    def ended(self) -> bool:
        return self._inflate.eof


class _Zstd:
    """RFC 8878: one frame after another."""

    def __init__(self) -> None:
        self.members = 1
        self._module = _zstd_module()
        self._inflate = self._fresh()

    def _fresh(self) -> Any:
        parameter = self._module.DecompressionParameter.window_log_max
        return self._module.ZstdDecompressor(options={parameter: _ZSTD_WINDOW_LOG})

    def decode(self, data: memoryview, most: int) -> Iterator[bytes]:
        rest: memoryview | bytes = data
        while rest:
            if self._inflate.eof:
                self.members += 1
                self._inflate = self._fresh()
            try:
                piece = self._inflate.decompress(rest, most)
                while not self._inflate.eof and not self._inflate.needs_input:
                    yield piece
                    piece = self._inflate.decompress(b"", most)
            except self._module.ZstdError as error:
                raise UndecodableBody(f"The body is not zstd data ({error}).") from error
            rest = self._inflate.unused_data if self._inflate.eof else b""
            yield piece

    @property
    def ended(self) -> bool:
        ended: bool = self._inflate.eof
        return ended


class _Brotli:
    """RFC 7932: one stream."""

    def __init__(self) -> None:
        self.members = 1
        self._module = importlib.import_module("brotli")
        self._inflate = self._module.Decompressor()

    def decode(self, data: memoryview, most: int) -> Iterator[bytes]:
        most //= 2  # what comes in one go may be nearly twice as much
        try:
            piece = self._inflate.process(data, output_buffer_limit=most)
            # It may have taken all of the data and still have more to give.
            while piece or not self._inflate.can_accept_more_data():
                yield piece
                piece = self._inflate.process(b"", output_buffer_limit=most)
        except self._module.error as error:
            raise UndecodableBody(f"The body is not brotli data ({error}).") from error

    @property
    def ended(self) -> bool:
        ended: bool = self._inflate.is_finished()
        return ended


def _zstd_module() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


_DECODERS: dict[str, tuple[Callable[[], _Decoder], Callable[[], Any]]] = {
    "gzip": (_Gzip, lambda: zlib),
    "zstd": (_Zstd, _zstd_module),
    "br": (_Brotli, lambda: importlib.import_module("brotli")),
}


@functools.cache
def _installed() -> tuple[str, ...]:
    found = []
    for coding in MEMORY:
        with contextlib.suppress(ImportError):
            _DECODERS[coding][1]()
            found.append(coding)
    return tuple(found)


def offered(settings: Settings) -> tuple[str, ...]:
    """The codings that bodies may come in now, best first; none unless `decode_request` is on."""
    if not settings.decode_request:
        return ()
    return tuple(c for c in _installed() if MEMORY[c] <= settings.memory_budget)


class Decoding:
    """A sink that decodes what is written, and writes it to another sink.

    Used by one thread at a time. `finish` must be called after the last write: it checks that the
    data is complete.

    Args:
        inner: where the decoded bytes go, from offset 0 on.
        coding: `gzip`, `zstd` or `br`.
        limit: most decoded bytes; None for no limit.
        ratio: most decoded bytes for each encoded one, checked from `JUDGED_FROM` on; 0 for any.
        piece: most decoded bytes in memory at a time.
    """

    def __init__(
        self,
        inner: Sink,
        coding: str,
        *,
        limit: int | None = None,
        ratio: int = 0,
        piece: int = PIECE,
    ) -> None:
        self._inner = inner
        self._decoder: _Decoder = _DECODERS[coding][0]()
        self._limit = limit
        self._ratio = ratio
        self._piece = piece
        self.coding = coding
        self.received = 0
        """Encoded bytes so far."""
        self.size = 0
        """Decoded bytes so far."""

    def write(self, data: memoryview, offset: int) -> None:
        """Decodes all of `data`, the encoded bytes from `offset` on.

        Raises OffsetMismatch, UndecodableBody, TooLarge (by size or by ratio), and what the inner
        sink raises. Nothing may be written after that.
        """
        if offset != self.received:
            raise OffsetMismatch(expected=self.received, provided=offset)
        held = bytearray()
        for start in range(0, len(data), _SLICE):
            part = data[start : start + _SLICE]
            self.received += len(part)
            if self._decoder.members > _MEMBERS + self.received // _MEMBER:
                raise UndecodableBody("The body is made of too many members of too few bytes.")
            for piece in self._decoder.decode(part, self._piece):
                self._judge(len(held) + len(piece))
                if held and len(held) + len(piece) > self._piece:
                    self._pass_on(held)
                    held = bytearray()
                # Small pieces go on together: a write costs the same for a byte.
                held += piece
        if held:
            self._pass_on(held)

    def _judge(self, fresh: int) -> None:
        size = self.size + fresh
        if self._limit is not None and size > self._limit:
            raise TooLarge(
                f"The decoded body is larger than the {self._limit} bytes that may come here.",
                limit=self._limit,
            )
        if self._ratio and size > JUDGED_FROM and size > self._ratio * self.received:
            raise TooLarge(
                f"Decoding makes more than {self._ratio} bytes of each one of the body "
                "(--max-decode-ratio)."
            )

    def _pass_on(self, held: bytearray) -> None:
        with memoryview(held) as view:
            self._inner.write(view, self.size)
        self.size += len(held)

    def reserve(self, size: int) -> None:
        """Does nothing: the decoded size is not known."""

    def finish(self) -> None:
        """Raises UndecodableBody when the data ended too soon. Idempotent."""
        if not self._decoder.ended:
            raise UndecodableBody(f"The {self.coding} data of the body ends too soon.")


def decoding(sink: Sink, coding: str, settings: Settings, limit: int | None) -> Decoding:
    """A decoder with the limits of the settings. `limit`: most decoded bytes."""
    return Decoding(
        sink,
        coding,
        limit=limit,
        ratio=settings.max_decode_ratio,
        piece=min(PIECE, settings.buffer_size),
    )


@contextlib.contextmanager
def room(budget: Budget, coding: str | None) -> Iterator[None]:
    """Takes memory for a decoder while the block runs. Raises TooManyUploads when there is none."""
    size = MEMORY[coding] if coding is not None else 0
    if size and not budget.take(size):
        raise TooManyUploads(
            "Too many encoded bodies are being decoded (--memory-budget); try again soon.",
            retry_after=5,
        )
    try:
        yield
    finally:
        if size:
            budget.give_back(size)
