"""The files that are sent: random bytes on a tmpfs, so that reading them costs nothing."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from bench.job import CHUNK, Framing

BLOCK = 8 << 20
MEMORY = Path("/dev/shm")


class Sources:
    """Makes each file once and removes them all at the end."""

    def __init__(self) -> None:
        parent = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
        self.folder = Path(tempfile.mkdtemp(prefix="forebay-bench-", dir=parent))
        self.digests: dict[int, str] = {}

    def path(self, size: int, framing: Framing = "length") -> str:
        """A file of `size` random bytes; framed as 64 KiB chunks when that is asked for."""
        plain = self.folder / f"{size}.bin"
        if not plain.exists():
            self._make(plain, size)
        if framing != "chunks":
            return str(plain)
        framed = self.folder / f"{size}.chunks"
        if not framed.exists():
            with plain.open("rb") as source, framed.open("wb") as target:
                frame(source, target)
        return str(framed)

    def digest(self, size: int) -> str:
        self.path(size)
        return self.digests[size]

    def _make(self, path: Path, size: int) -> None:
        digest = hashlib.sha256()
        with path.open("wb") as file:
            left = size
            while left > 0:
                block = os.urandom(min(left, BLOCK))
                digest.update(block)
                file.write(block)
                left -= len(block)
        self.digests[size] = digest.hexdigest()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def frame(source: BinaryIO, target: BinaryIO) -> None:
    """Writes a chunked body: what would otherwise be three calls per chunk while the clock runs."""
    while chunk := source.read(CHUNK):
        target.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    target.write(b"0\r\n\r\n")
