"""Compressing staged data before it is published, in bounded turns.

The compressed form is written beside the staged data and published in its place; until then
it has no name, and it vanishes when this process dies. What was staged stays as it is, so a
crash leaves either the upload, whole and not published, or the file, whole and compressed.
"""

from __future__ import annotations

import os
import threading

from forebay.errors import DiskFull, StorageFailed
from forebay.stores.base import AttributedStaged, AttributedStore, Reader
from forebay.stores.compressed.mark import format_mark
from forebay.stores.compressed.seekable import FRAME, Sizes, compress_frame

LEAST = 4096
"""Bytes of the smallest file worth it: less takes a block on the disk all the same."""
_TURN = 4 * FRAME
_POOR = 0.9
"""A first frame that shrinks to no less than this of itself: media, archives, noise."""
_SLOTS = threading.BoundedSemaphore(max(1, os.cpu_count() or 1))
"""Frames compressed at a time, which is what takes memory: some 8 MiB each."""


class Incompressible(Exception):
    """The file is better stored as it is."""


class CompressionJob:
    """The compressing of staged data that is whole.

    Args:
        store: where the compressed form goes.
        source: all of the staged data; closed with this.
    """

    def __init__(self, store: AttributedStore, source: Reader) -> None:
        self._source = source
        self._store = store
        self.target: AttributedStaged = store.stage()
        self.size = source.info.size
        self._done = 0
        self._sizes = Sizes()
        self._ended = False

    def turn(self) -> bool:
        """Compresses the next few MiB; True when all is done.

        Raises Incompressible, and StorageError of either file.
        """
        if self._ended:
            return True
        if self._store.space().free < self._store.min_free + 2 * _TURN:
            raise DiskFull
        until = min(self.size, self._done + _TURN)
        while self._done < until:
            with _SLOTS:
                self._add_frame()
        if self._done == self.size:
            self._finish()
        return self._ended

    def _add_frame(self) -> None:
        data = memoryview(bytearray(min(FRAME, self.size - self._done)))
        filled = 0
        while filled < len(data):
            got = self._source.read_into(data[filled:], self._done + filled)
            if not got:
                raise StorageFailed("The upload has lost data.")
            filled += got
        frame = compress_frame(data)
        if not self._done and len(frame) > _POOR * len(data):
            raise Incompressible
        self.target.write(memoryview(frame), self.target.offset)
        self._sizes.add(len(frame), len(data))
        self._done += len(data)

    def _finish(self) -> None:
        self.target.write(memoryview(self._sizes.table()), self.target.offset)
        if self.target.offset > self.size - LEAST:
            raise Incompressible
        self.target.set_attribute(format_mark(self.size, self.target.offset))
        self._ended = True

    def close(self) -> None:
        """Drops what was not published. Idempotent."""
        self._source.close()
        self.target.discard()
