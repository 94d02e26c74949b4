"""Files in the memory of this process: for tests, and for servers that may forget."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.errors import (
    AlreadyExists,
    DiskFull,
    NotAFolder,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    StorageFailed,
    UploadBusy,
    from_os_error,
)
from forebay.model import Commit, Conflict, Durability, FileInfo, Lease, Piece, UploadRecord
from forebay.stores.base import (
    Publication,
    Published,
    Reader,
    Space,
    Staged,
)
from forebay.stores.naming import Numbers, check_path, judge, replaces, split
from forebay.stores.reading import DescriptorReader
from forebay.stores.staged import AlwaysRoom, append_read

_UNLIMITED = 2**63 - 1


class _Data:
    """Bytes, and what they count for. Freed when they have no name and no writer."""

    __slots__ = ("charged", "content", "held", "identity", "names")

    def __init__(self) -> None:
        self.content = bytearray()
        self.identity = secrets.token_hex(8)
        self.charged = 0
        self.names = 0
        self.held = True
        """A `Staged` has it; for resumable data that is its lock."""


class StagedMemory(AlwaysRoom):
    """See `forebay.stores.base.Staged`. `upload_id` is None for what is not resumable."""

    dead = False
    commit_waits = False
    prepare_waits = False

    def __init__(
        self,
        store: MemoryStore,
        data: _Data,
        upload_id: str | None = None,
    ) -> None:
        self._store = store
        self._data = data
        self._upload_id = upload_id
        self._sealed = False
        self._open = True
        self.offset = len(data.content)

    def write(self, data: memoryview, offset: int) -> None:
        if offset != self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        end = offset + len(data)
        self._store._charge(self._data, end, self._store.min_free)
        self._data.content += data
        self.offset = end

    def append_from(self, source: Reader, start: int, size: int) -> int:
        return append_read(self, source, start, size)

    def _check_writable(self) -> None:
        if self._sealed or not self._open:
            raise StorageFailed("The data of this upload cannot be changed any more.")

    def reserve(self, size: int) -> None:
        self._check_writable()
        self._store._check_room(size - self.offset)

    def rollback(self, offset: int) -> None:
        if not 0 <= offset <= self.offset:
            raise OffsetMismatch(expected=self.offset, provided=offset)
        self._check_writable()
        del self._data.content[offset:]
        self._store._charge(self._data, offset)
        self.offset = offset

    def commit(self, *, flush: bool) -> Commit:
        return Commit(self.offset)

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        """Nothing waits for it."""

    def seal(self) -> Reader:
        return _reader(self._data.content)

    @property
    def identity(self) -> str:
        return self._data.identity

    def prepare(self, name: str) -> bool:
        return True

    def publish(self, how: Publication) -> Published:
        if not self._open:
            raise StorageFailed("This upload is closed.")
        published = self._store._publish(self._data, how)
        self._sealed = True
        if self._upload_id is None:
            self.close()
        return published

    def end_writing(self) -> None:
        self._sealed = True

    def discard(self) -> None:
        with self._store._lock:
            if self._open and self._upload_id is not None:
                self._store._uploads.pop(self._upload_id, None)
                self._data.names -= 1
            self.close()

    def close(self) -> None:
        with self._store._lock:
            if self._open:
                self._open = self._data.held = False
                self._store._charge(self._data, self.offset)
                self._store._free(self._data)


class MemoryStore:
    """See `forebay.stores.base.Store`. Nothing outlives the process; there are no others.

    Args:
        capacity: bytes that all files may take together; None for no limit.
        min_free: bytes of it that a reservation must leave; may be assigned at any time.
        numbered: makes `name (n).ext` of a name and a number.
    """

    binds_names = False
    durability = Durability.RELAXED

    def __init__(
        self,
        *,
        capacity: int | None = None,
        min_free: int = 0,
        numbered: Callable[[str, int], str],
    ) -> None:
        self.min_free = min_free
        self._capacity = capacity
        self._used = 0
        self._lock = threading.RLock()
        self._numbers = Numbers(numbered)
        self._files: dict[str, tuple[FileInfo, _Data]] = {}
        self._folders: dict[str, FileInfo] = {}
        self._uploads: dict[str, _Data] = {}
        # Tags differ between processes, too: a client may remember one.
        self._tag = secrets.token_hex(8)
        self._changes = 0
        self._add_folder("")

    def _charge(self, data: _Data, size: int, min_free: int = 0) -> None:
        """From now on `data` counts for `size` bytes. Raises DiskFull."""
        with self._lock:
            used = self._used - data.charged + size
            grows = size > data.charged or min_free > 0
            if self._capacity is not None and grows and used + min_free > self._capacity:
                raise DiskFull(free=self._capacity - self._used)
            self._used = used
            data.charged = size

    def _check_room(self, size: int) -> None:
        """Raises DiskFull when `size` bytes more would not fit now."""
        with self._lock:
            if self._capacity is not None and self._used + size + self.min_free > self._capacity:
                raise DiskFull(free=self._capacity - self._used)

    def _free(self, data: _Data) -> None:
        if not data.names and not data.held:
            self._charge(data, 0)

    def _publish(self, data: _Data, how: Publication) -> Published:
        folder, _ = split(how.name)
        with self._lock:
            with contextlib.suppress(NotFound):
                self._check_folder(folder)
            there = self._lookup(how.name)
            judge(how, there)
            replaced = there is not None and replaces(how)
            name = how.name
            if there is not None and not replaced:
                name = self._free_name(folder, how.name, taken_now=True)
            self._make_folders(folder)
            tag = self._new_tag()
            info = FileInfo(name, len(data.content), time.time_ns(), tag, identity=data.identity)
            if replaced:
                self._drop_file(name)
            self._files[name] = info, data
            data.names += 1
        return Published(info, name != how.name, replaced)

    def free_name(self, how: Publication) -> str:
        folder, _ = split(how.name)
        with self._lock:
            if how.conflict is not Conflict.RENAME or self._lookup(how.name) is None:
                return how.name
            return self._free_name(folder, how.name, taken_now=False)

    def _free_name(self, folder: str, name: str, *, taken_now: bool) -> str:
        prefix = f"{folder}/" if folder else ""

        def taken(base: str) -> bool:
            return self._lookup(prefix + base) is not None

        for number, base in self._numbers.candidates(name, taken):
            if not taken(base):
                if taken_now:
                    self._numbers.remember(name, number)
                return prefix + base
        raise AssertionError("candidates do not end")

    def _drop_file(self, name: str) -> None:
        _, data = self._files.pop(name)
        data.names -= 1
        self._free(data)

    def _lookup(self, name: str) -> FileInfo | None:
        file = self._files.get(name)
        return file[0] if file else self._folders.get(name)

    def _check_folder(self, path: str) -> None:
        """Raises NotAFolder, NotFound."""
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            if "/".join(parts[:depth]) in self._files:
                raise NotAFolder(f"{parts[depth - 1]!r} is not a folder and cannot hold files.")
        if path not in self._folders:
            raise NotFound

    def _make_folders(self, path: str) -> None:
        while path not in self._folders:
            self._add_folder(path)
            path = path.rpartition("/")[0]

    def _add_folder(self, path: str) -> None:
        self._folders[path] = FileInfo(path, 0, time.time_ns(), self._new_tag(), is_folder=True)

    def _new_tag(self) -> str:
        self._changes += 1
        return f"{self._tag}-{self._changes:x}"

    # --- staging ------------------------------------------------------------------------------

    def stage(self, how: Publication | None = None, size: int | None = None) -> Staged:
        return StagedMemory(self, _Data())

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> Staged:
        data = _Data()
        data.names = 1
        with self._lock:
            if record.id in self._uploads:
                raise AlreadyExists
            self._uploads[record.id] = data
        return StagedMemory(self, data, record.id)

    def resume(self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None) -> Staged:
        upload_id, offset = record.id, record.offset
        with self._lock:
            data = self._unheld(upload_id)
            size = len(data.content)
            if size < offset:
                raise StorageFailed(
                    f"The upload has lost data: {size} of {offset} bytes are there."
                )
            if size > offset:
                del data.content[offset:]
                self._charge(data, offset)
            data.held = True
            return StagedMemory(self, data, upload_id)

    def _unheld(self, upload_id: str) -> _Data:
        data = self._uploads.get(upload_id)
        if data is None:
            raise NotFound
        if data.held:
            raise UploadBusy(retry_after=1)
        return data

    def remove(self, upload_id: str) -> None:
        with self._lock, contextlib.suppress(NotFound):
            data = self._unheld(upload_id)
            del self._uploads[upload_id]
            data.names -= 1
            self._free(data)

    def open_staged(self, record: UploadRecord, pieces: Sequence[Piece]) -> Reader:
        with self._lock:
            data = self._uploads.get(record.id)
            if data is None:
                raise NotFound
            return _reader(data.content)

    def remains(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._uploads))

    def claim(self, upload_id: str) -> Staged:
        with self._lock:
            data = self._unheld(upload_id)
            data.held = True
            return StagedMemory(self, data, upload_id)

    def sweep_temporaries(self) -> int:
        return 0

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        check_path(name)
        with self._lock:
            file = self._files.get(name)
            if file and identity:
                return file[0] if file[1].identity == identity else None
            data = self._uploads.get(upload_id)
            return file[0] if file and file[1] is data else None

    # --- published files ----------------------------------------------------------------------

    def check_target(self, how: Publication) -> None:
        folder, _ = split(how.name)
        with self._lock:
            with contextlib.suppress(NotFound):
                self._check_folder(folder)
            judge(how, self._lookup(how.name))

    def stat(self, name: str) -> FileInfo:
        folder, _ = split(name) if name else ("", "")
        with self._lock:
            self._check_folder(folder)
            info = self._lookup(name)
        if info is None:
            raise NotFound
        return info

    def open(self, name: str) -> Reader:
        folder, _ = split(name)
        with self._lock:
            self._check_folder(folder)
            file = self._files.get(name)
        if file is None:
            raise NotFound
        info, data = file
        return _reader(data.content, info)

    def identity(self, name: str) -> str:
        with self._lock:
            if name not in self._files:
                raise NotFound
            return self._files[name][0].identity

    def delete(
        self,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        identity: str = "",
    ) -> None:
        folder, _ = split(name)
        with self._lock:
            self._check_folder(folder)
            if name not in self._files:
                raise NotFound
            info, _ = self._files[name]
            if not preconditions.permit_write(info.tag, info.mtime_ns):
                raise PreconditionFailed
            if identity and identity != info.identity:
                raise PreconditionFailed
            self._drop_file(name)

    def list_folder(
        self, name: str, *, after: str = "", limit: int = 1000, since: float | None = None
    ) -> list[FileInfo]:
        if name:
            check_path(name)
        with self._lock:
            self._check_folder(name)
            inside = {
                base: path
                for known in (self._files, self._folders)
                for path in known
                for folder, _, base in (path.rpartition("/"),)
                if base and folder == name and base > after
            }
            return [
                dataclasses.replace(info, name=base)
                for base in heapq.nsmallest(max(limit, 0), inside)
                if (info := self._lookup(inside[base])) is not None
            ]

    def space(self) -> Space:
        if self._capacity is None:
            return Space(_UNLIMITED, 0)
        return Space(self._capacity - self._used, self._capacity)

    def probe(self) -> None:
        """Always passes."""

    def close(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._files.clear()
            self._folders.clear()
            self._uploads.clear()


def _reader(content: bytearray, info: FileInfo | None = None) -> Reader:
    """Of a copy of its own, which lasts as long as the reader."""
    try:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("forebay")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        try:
            with memoryview(content) as view:
                done = 0
                while done < len(view):
                    done += os.pwrite(fd, view[done:], done)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        raise from_os_error(error) from error
    return DescriptorReader(fd, info or FileInfo("", len(content), 0, ""))
