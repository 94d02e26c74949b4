"""Readers of objects, and of the pieces that an unpublished upload is made of."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence

from forebay.errors import NotFound, StorageFailed
from forebay.model import FileInfo, Piece
from objects.client import ask
from objects.service import ObjectService, ServiceError

_AHEAD = 64 << 10
"""Bytes fetched at once for whoever reads in small steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """`data`, or the whole of the object `key` (while it has the tag `tag`)."""

    start: int
    size: int
    key: str = ""
    tag: str | None = None
    data: bytes = b""


class ObjectReader:
    """See `forebay.stores.base.Reader`."""

    def __init__(self, service: ObjectService, info: FileInfo, segments: Sequence[Segment]) -> None:
        self.info = info
        self.service = service
        self.segments = segments
        self._starts = [segment.start for segment in segments]
        self._open = True
        self._ahead = (0, b"")

    def fileno(self) -> None:
        return None

    def read_into(self, buffer: memoryview, offset: int) -> int:
        if not self._open:
            raise StorageFailed("This reader is closed.")
        end = self.segments[-1].start + self.segments[-1].size if self.segments else 0
        if offset >= end or not len(buffer):
            return 0
        content = self._read(offset, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _read(self, offset: int, size: int) -> bytes:
        start, ahead = self._ahead
        if start <= offset < start + len(ahead):
            return ahead[offset - start : offset - start + size]
        segment = self.segments[bisect.bisect_right(self._starts, offset) - 1]
        within = offset - segment.start
        if segment.key:
            content = self._get(segment, within, max(size, _AHEAD))
        else:
            content = segment.data[within:]
        self._ahead = offset, content
        return content[:size]

    def _get(self, segment: Segment, start: int, size: int) -> bytes:
        try:
            content = ask(self.service.get, segment.key, start, size, if_match=segment.tag)
        except ServiceError as error:
            raise StorageFailed(f"The file was replaced or removed ({error.code}).") from error
        if not content:
            raise StorageFailed("An object is shorter than it was said to be.")
        assert isinstance(content, bytes)
        return content

    def close(self) -> None:
        self._open = False
        self._ahead = (0, b"")


def segments_of(folder: str, pieces: Sequence[Piece]) -> list[Segment]:
    """Of pieces that lie below `folder`. Raises NotFound for one that nobody can read."""
    made = []
    for piece in pieces:
        if not piece.size:
            continue
        if piece.kind == "part":
            raise NotFound("Parts of an unfinished upload cannot be read.")
        key = folder + piece.ref if piece.kind == "object" else ""
        made.append(Segment(piece.start, piece.size, key, data=piece.data))
    return made
