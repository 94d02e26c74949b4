"""Small steps that many tests of stores take."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.model import Conflict, Durability, FileInfo, Lease, Piece, UploadRecord, UploadState
from forebay.protocol.names import numbered
from forebay.stores.base import Publication, Published, Reader, Staged, Store
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.store import CompressedStore
from forebay.stores.files.store import FileStore
from forebay.stores.reading import DescriptorReader

ID = "upload-0123456789abcdef"
OTHER_ID = "upload-fedcba9876543210"
RENAME, REFUSE, REPLACE = Conflict.RENAME, Conflict.REFUSE, Conflict.REPLACE

EVERY_KIND = {
    "strict": {"durability": Durability.STRICT},
    "relaxed": {"durability": Durability.RELAXED},
    "named": {"durability": Durability.RELAXED, "unnamed": False},
}
"""Options of `FileStore` for each of its ways to stage and to sync."""
STRICT_NAMED = {"durability": Durability.STRICT, "unnamed": False}


@contextlib.contextmanager
def file_store(folder: Path, kind: str = "relaxed", **options: Any) -> Iterator[FileStore]:
    known = {**EVERY_KIND, "strict-named": STRICT_NAMED}[kind]
    store = FileStore(str(folder), **{"numbered": numbered, **known, **options})
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def compressed_store(
    folder: Path, kind: str = "relaxed", choose: Callable[[str], bool] | None = None
) -> Iterator[CompressedStore]:
    with file_store(folder, kind, attribute=ATTRIBUTE) as files:
        yield CompressedStore(files, choose)


def record_of(upload_id: str, offset: int = 0) -> UploadRecord:
    return UploadRecord(
        upload_id, "", "tus", UploadState.OPEN, offset, None, "a", time.time(), None
    )


def begin(store: Store, upload_id: str) -> Staged:
    return store.begin(record_of(upload_id), None, sealable=True)


def resume(store: Store, upload_id: str, offset: int) -> Staged:
    return store.resume(record_of(upload_id, offset), (), None)


def fill(staged: Staged, content: bytes) -> Staged:
    """Writes all of it, as there is room."""
    view = memoryview(content)
    while True:
        size = min(len(view), staged.room())
        staged.write(view[:size], staged.offset)
        view = view[size:]
        if not view:
            return staged
        again = threading.Event()
        staged.on_room(again.set)
        assert again.wait(10)


def how(
    name: str, conflict: Conflict = REFUSE, preconditions: Preconditions = NO_PRECONDITIONS
) -> Publication:
    return Publication(name, conflict, preconditions)


def stage(store: Any, target: Publication | None = None, size: int | None = None) -> Staged:
    """Data of one request."""
    return store.stage(target or (how("a") if store.binds_names else None), size)


class Upload:
    """A resumable upload as an engine knows it: its record, its pieces, and who holds it."""

    def __init__(self, store: Any, upload_id: str = ID, name: str = "a") -> None:
        self.store = store
        self.record = UploadRecord(
            upload_id, "somebody", "tus", UploadState.OPEN, 0, None, name, 1.0, None
        )
        self.pieces: tuple[Piece, ...] = ()
        self.holders = 0

    def _lease(self) -> Lease:
        """The next holder's; each has a thousand part numbers."""
        self.holders += 1
        start = self.holders * 1000
        return Lease(self.record.id, self.holders, f"t{self.holders}", range(start, start + 1000))

    def begin(self) -> Staged:
        self.staged: Staged = self.store.begin(self.record, self._lease(), sealable=True)
        return self.staged

    def commit(self) -> int:
        """Commits and records all that was written; the offset."""
        commit = self.staged.commit(flush=True)
        stay = [piece for piece in self.pieces if piece not in commit.dropped]
        self.pieces = tuple(sorted((*stay, *commit.added), key=lambda piece: piece.start))
        place = commit.place or self.record.place
        self.record = dataclasses.replace(self.record, offset=commit.offset, place=place)
        self.staged.recorded(commit, None)
        return commit.offset

    def close(self) -> None:
        self.staged.close()

    def resume(self) -> Staged:
        self.staged = self.store.resume(self.record, self.pieces, self._lease())
        return self.staged

    def open(self) -> Reader:
        opened: Reader = self.store.open_staged(self.record, self.pieces)
        return opened

    def published_from(self, name: str, identity: str = "") -> FileInfo | None:
        found: FileInfo | None = self.store.published_from(self.record.id, name, identity)
        return found


def iter_remains(store: Any) -> Iterator[str]:
    found: Iterator[str] = store.remains()
    return found


def remains(store: Any) -> set[str]:
    """Ids of all resumable data of the store."""
    return set(iter_remains(store))


def publish(staged: Staged, name: str) -> Published:
    """Publishes, and lets go of data that keeps its lock."""
    published = staged.publish(how(name))
    staged.close()
    return published


def put(
    store: Store,
    name: str,
    content: bytes = b"content",
    conflict: Conflict = REFUSE,
    preconditions: Preconditions = NO_PRECONDITIONS,
) -> Published:
    """A whole upload; nothing of it stays when it is refused."""
    staged = stage(store, how(name, conflict, preconditions), len(content))
    try:
        fill(staged, content)
        return staged.publish(how(name, conflict, preconditions))
    finally:
        staged.discard()


def get(store: Store, name: str) -> bytes:
    """What a client gets."""
    reader = store.open(name)
    content = read(reader)
    assert len(content) == reader.info.size
    return content


def read(reader: Reader) -> bytes:
    """All that a reader gives; it is closed."""
    content, buffer = bytearray(), memoryview(bytearray(70_000))
    with contextlib.closing(reader):
        while got := reader.read_into(buffer, len(content)):
            content += buffer[:got]
    return bytes(content)


def reader_of(path: Path) -> Reader:
    """Of any file; the caller closes it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return DescriptorReader(fd, FileInfo(path.name, os.fstat(fd).st_size, 0, "tag"))


class WithoutDescriptor:
    """A reader of which nobody gets the descriptor. It is closed with this."""

    def __init__(self, inner: Reader) -> None:
        self.info = inner.info
        self.read_into = inner.read_into
        self.close = inner.close

    def fileno(self) -> None:
        return None


def staged_bytes(staged: Staged) -> bytes:
    return read(staged.seal())


def names_in(store: Store, folder: str = "") -> list[str]:
    return [info.name for info in store.list_folder(folder)]


def if_match(*tags: str, weak: bool = False) -> Preconditions:
    """Without tags: `If-Match: *`."""
    return Preconditions(if_match=tuple(EntityTag(tag, weak) for tag in tags))


def at_once(count: int, act: Callable[[int], object]) -> list[object]:
    """What `act` returned or raised in each of `count` threads that start together."""
    barrier = threading.Barrier(count)
    outcomes: list[object] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = act(number)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
