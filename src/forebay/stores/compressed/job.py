"""Compressing a staged file before it is published, in bounded turns.

The compressed form is written beside the staged file and published in its place; until then
it has no name, and it vanishes when this process dies. What was staged stays as it is, so a
crash leaves either the upload, whole and not published, or the file, whole and compressed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

from forebay.errors import ConfigError, DiskFull, StorageError, StorageFailed
from forebay.stores.compressed.seekable import FRAME, Sizes, compress_frame, zstd
from forebay.stores.compressed.xattr import Mark, mark_in, write_mark

if TYPE_CHECKING:
    from forebay.stores.files.staged import StagedFile
    from forebay.stores.files.store import FileStore

LEAST = 4096
"""Bytes of the smallest file worth it: less takes a block on the disk all the same."""
_TURN = 4 * FRAME
_POOR = 0.9
"""A first frame that shrinks to no less than this of itself: media, archives, noise."""
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE}
_SLOTS = threading.BoundedSemaphore(max(1, os.cpu_count() or 1))
"""Frames compressed at a time, which is what takes memory: some 8 MiB each."""


class Incompressible(Exception):
    """The file is better stored as it is."""


class CompressionJob:
    """The compressing of one staged file that is whole.

    Args:
        target: where the compressed form goes; the caller closes it.
        source: descriptor of the staged file.
        size: its bytes.
    """

    def __init__(self, store: FileStore, target: StagedFile, source: int, size: int) -> None:
        self.target = target
        self.size = size
        self._store = store
        self._source = source
        self._done = 0
        self._sizes = Sizes()
        self._ended = False

    def turn(self) -> bool:
        """Compresses the next few MiB; True when all is done.

        Raises Incompressible, and StorageError or OSError of either file.
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
            got = os.preadv(self._source, [data[filled:]], self._done + filled)
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
        self.target.mark = Mark(self.size, "")
        write_mark(self.target.fd, self.target.mark, self.target.offset)
        self._ended = True

    def sign(self, origin: str) -> None:
        """Marks it as coming from that upload, which may have got its id since this began.

        Raises OSError.
        """
        if self.target.mark is None or self.target.mark.origin != origin:
            self.target.mark = Mark(self.size, origin)
            write_mark(self.target.fd, self.target.mark, self.target.offset)


def check_support(store: FileStore) -> None:
    """Proves that marked files can be made and told here. Raises ConfigError."""
    zstd()
    try:
        name = os.urandom(16).hex()
        with contextlib.ExitStack() as stack:
            # Named, so that the mark is read as it is in a listing; locked, so that no sweep
            # elsewhere removes it.
            fd = store.create_locked(name, store.tmp_fd)
            stack.callback(os.close, fd)
            stack.callback(os.unlink, name, dir_fd=store.tmp_fd)
            write_mark(fd, Mark(1, ""), 0)
            if mark_in(store.tmp_fd, name, 0) != Mark(1, ""):
                raise OSError
    except StorageError:
        return  # nothing can be written at all now, which is told elsewhere
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", 0) in _UNWRITABLE:
            return
        raise ConfigError(
            f"The filesystem of {store.root} keeps no extended attributes, which tell files "
            "that are compressed from others. Use another one, or --compress-at-rest none."
        ) from error
