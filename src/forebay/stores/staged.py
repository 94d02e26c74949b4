"""What several kinds of staged data do alike."""

from __future__ import annotations

from collections.abc import Callable

from forebay.errors import StorageFailed
from forebay.model import MiB
from forebay.stores.base import ALWAYS_ROOM, Reader, Staged
from forebay.stores.reading import read_bytes


class AlwaysRoom:
    """The part of `Staged` about room, for data whose `write` never waits for a shipment."""

    __slots__ = ()

    def room(self) -> int:
        return ALWAYS_ROOM

    def on_room(self, callback: Callable[[], None]) -> None:
        callback()


def append_read(staged: Staged, source: Reader, start: int, size: int) -> int:
    """`Staged.append_from` by reading and writing, at most 1 MiB at a time."""
    data = read_bytes(source, start, min(size, MiB))
    if not data:
        raise StorageFailed("A part of the upload ended too soon.")
    staged.write(memoryview(data), staged.offset)
    return len(data)
