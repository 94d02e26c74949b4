"""The kinds of stores that suites run on: files, memory, and an object service.

A test of the engine gets its `tmp_path` from here: a real folder for files, a `StoredFolder` for
the others, which answers what tests ask of a folder (`(folder / "a").read_bytes()`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.errors import NotAFolder, NotFound
from forebay.model import Conflict
from forebay.protocol.names import numbered
from forebay.sessions.base import Sessions
from forebay.sessions.memory import MemorySessions
from forebay.stores.base import Publication, Store
from forebay.stores.files.staged import StagedFile
from forebay.stores.memory import MemoryStore, StagedMemory
from objects.service import ObjectService
from objects.sessions import LeasedSessions, SharedState
from objects.staged import StagedObject
from objects.store import OWN, ObjectStore

KINDS = ("files", "memory", "objects")
STAGED = {"files": StagedFile, "memory": StagedMemory, "objects": StagedObject}


@dataclasses.dataclass
class Backing:
    """What outlives a server: where a restart finds everything again."""

    kind: str
    memory: MemoryStore | None = None
    sessions: MemorySessions | None = None
    service: ObjectService | None = None
    state: SharedState | None = None

    def __post_init__(self) -> None:
        if self.kind == "memory":
            self.memory = Lasting(numbered=numbered, capacity=1 << 34)
            self.sessions = MemorySessions()
        else:
            self.service = ObjectService(least_part=4096)
            self.state = SharedState()

    def store(self, min_free: int = 0) -> Store:
        if self.memory is not None:
            return self.memory
        assert self.service is not None
        made: Any = ObjectStore(
            self.service,
            numbered=numbered,
            min_free=min_free,
            inline=500,
            spool=256 << 10,
            orphan_age=0,
        )
        return made

    def shared(self, node: str = "node") -> Sessions:
        if self.sessions is not None:
            return self.sessions
        assert self.state is not None
        made: Any = LeasedSessions(self.state, node)
        return made


class Lasting(MemoryStore):
    """Does not forget what it has when one of its servers ends."""

    def close(self) -> None:
        """Nothing."""


class StoredPath:
    """A name in a store, asked as a path."""

    def __init__(self, folder: StoredFolder, name: str) -> None:
        self.folder = folder
        self._name = name

    def __truediv__(self, name: str) -> StoredPath:
        return StoredPath(self.folder, f"{self._name}/{name}")

    def __fspath__(self) -> str:
        """For notes of tests, which are real files beside the store."""
        path = os.path.join(self.folder.path, self._name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    __str__ = __fspath__

    @property
    def name(self) -> str:
        return self._name.rpartition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._name.split("/"))

    def read_bytes(self) -> bytes:
        with self.folder.opened() as store:
            reader = store.open(self._name)
            content, buffer = bytearray(), memoryview(bytearray(1 << 16))
            while size := reader.read_into(buffer, len(content)):
                content += buffer[:size]
            reader.close()
            return bytes(content)

    def read_text(self) -> str:
        if self._name.startswith(OWN):
            return Path(self).read_text()
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """As somebody else would who uses the same store."""
        with self.folder.opened() as store:
            how: Any = Publication(self._name, Conflict.REPLACE)
            staged = store.stage(how, len(content))
            view = memoryview(content)
            while view:
                size = min(len(view), staged.room())
                staged.write(view[:size], staged.offset)
                view = view[size:]
            staged.publish(how)

    def unlink(self) -> None:
        with self.folder.opened() as store:
            store.delete(self._name)

    def exists(self) -> bool:
        if self._name.startswith(OWN):
            return os.path.exists(self)
        with self.folder.opened() as store, contextlib.suppress(NotFound, NotAFolder):
            store.stat(self._name)
            return True
        return False

    def is_file(self) -> bool:
        with self.folder.opened() as store, contextlib.suppress(NotFound, NotAFolder):
            return not store.stat(self._name).is_folder
        return False

    def stat(self) -> os.stat_result:
        with self.folder.opened() as store:
            info = store.stat(self._name)
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, info.size, 0, info.mtime_ns // 10**9, 0))

    def relative_to(self, folder: StoredFolder) -> str:
        return self._name

    def iterdir(self) -> Iterator[StoredPath]:
        with self.folder.opened() as store:
            if self._name == f"{OWN}uploads":
                return iter([self / upload_id for upload_id in self.folder.unfinished(store)])
            if self._name == f"{OWN}tmp":
                return iter([self / key for key in self.folder.temporaries()])
            return iter([self / info.name for info in store.list_folder(self._name)])

    def chmod(self, mode: int) -> None:
        """There are no modes."""


class StoredFolder:
    """The root of a store that is no folder, asked as one. `path` is real, for notes."""

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.backing = Backing(kind)
        _folders[path] = self

    def __truediv__(self, name: str) -> StoredPath:
        return StoredPath(self, name)

    def __fspath__(self) -> str:
        return self.path

    __str__ = __fspath__

    def unfinished(self, store: Any) -> set[str]:
        """Ids of uploads that have data; small data is in the state alone."""
        found = set(store.remains())
        if self.backing.state is not None:
            records = self.backing.state.records._records.values()
            found |= {record.id for record in records if record.is_unfinished}
        return found

    def temporaries(self) -> list[str]:
        """What a request has left that has ended."""
        service = self.backing.service
        if service is None:
            return []
        return [
            key.rpartition("/")[2]
            for key in service.everything()
            if key.startswith(f"{OWN}t/") or "?" in key
        ]

    def glob(self, pattern: str) -> Iterator[StoredPath]:
        return iter([path for path in self.iterdir() if fnmatch.fnmatch(path.name, pattern)])

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        store = self.backing.store()
        try:
            yield store
        finally:
            store.close()

    def iterdir(self) -> Iterator[StoredPath]:
        with self.opened() as store:
            return iter([self / info.name for info in store.list_folder("")])

    def rglob(self, pattern: str) -> Iterator[StoredPath]:
        """All of them: the only pattern that is asked for."""
        assert pattern == "*"

        def below(name: str) -> Iterator[StoredPath]:
            with self.opened() as store:
                for info in store.list_folder(name):
                    path = f"{name}/{info.name}" if name else info.name
                    yield self / path
                    if info.is_folder:
                        yield from below(path)

        return below("")


_folders: weakref.WeakValueDictionary[str, StoredFolder] = weakref.WeakValueDictionary()


def folder_of(path: str) -> Any:
    """The folder that a setting names."""
    return _folders.get(path) or Path(path)


def backing_of(folder: Any) -> Backing | None:
    """None for a real folder."""
    return folder.backing if isinstance(folder, StoredFolder) else None


@contextlib.contextmanager
def made_folder(kind: str) -> Iterator[Any]:
    """A folder of that kind, which goes at the end."""
    path = tempfile.mkdtemp(prefix="forebay-")
    try:
        yield Path(path) if kind == "files" else StoredFolder(path, kind)
    finally:
        shutil.rmtree(path)
