"""The port of a store: where bytes live until they are published, and after.

Everything here is synchronous and is called in worker threads, never on the event loop
(invariant 9). A backend raises errors of `forebay.errors` only: an OSError is turned into
one with `from_os_error`.

A `Staged` is used by one thread at a time (the engine sees to it); a `Store` by many.

What may be retried: `stat`, `open`, `list_folder` always; `Staged.commit` never after
SyncFailed (invariant 12: the upload is dead); `publish` once more after NameTaken or
PreconditionFailed, which changed nothing; `discard` and `close` always, they are idempotent.

All methods that take a name raise InvalidName for one that validation should have refused, and
NotAFolder when a part of its path is not a folder (a symbolic link is none).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from forebay.conditions import NO_PRECONDITIONS, Preconditions
from forebay.model import (
    Commit,
    Conflict,
    Digest,
    Durability,
    FileInfo,
    Lease,
    Piece,
    Stored,
    UploadRecord,
)

ALWAYS_ROOM = 2**62
"""Bytes: what `Staged.room` returns where the disk itself is what refuses."""


@dataclasses.dataclass(frozen=True, slots=True)
class Publication:
    """How a staged upload gets its final name; judged again at that moment (invariant 3)."""

    name: str
    conflict: Conflict
    preconditions: Preconditions = NO_PRECONDITIONS


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    file: FileInfo
    renamed: bool
    replaced: bool

    def stored(
        self,
        digests: tuple[Digest, ...] = (),
        duration: float = 0.0,
        received: int | None = None,
    ) -> Stored:
        """With what is known of the upload that it came by."""
        return Stored(self.file, self.renamed, self.replaced, digests, duration, received)


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """Room on the store, in bytes; `total` is 0 where it is not known."""

    free: int
    total: int


class Reader(Protocol):
    """The bytes of a whole file. Used by one thread at a time."""

    info: FileInfo

    def fileno(self) -> int | None:
        """A descriptor whose bytes are the content (sendfile, mmap); None when they only come
        through `read_into`. The reader closes it.
        """
        ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Reads from `offset` on into `buffer`; the bytes read, 0 at the end.

        Raises StorageFailed when the file is damaged, or was replaced meanwhile.
        """
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


@runtime_checkable
class Encoded(Protocol):
    """A `Reader` of a file that is stored in a content coding (RFC 9110, section 8.4.1)."""

    coding: str
    """The name of the coding, as clients know it."""

    def encoded(self) -> Reader:
        """The content in that coding; open for as long as this reader is.

        Raises StorageFailed when the file is damaged.
        """
        ...


class Staged(Protocol):
    """Bytes on their way. Not visible under any final name until `publish` (invariant 2)."""

    @property
    def offset(self) -> int:
        """Bytes written so far, committed or not; the only offset `write` accepts."""
        ...

    @property
    def dead(self) -> bool:
        """Whether a sync has failed: nothing written can be trusted any more (invariant 12)."""
        ...

    @property
    def identity(self) -> str:
        """What `published_from` will know the file by; "" where the id suffices. May wait.

        To be asked before publication, after `prepare` returned True.
        """
        ...

    def room(self) -> int:
        """Bytes that `write` takes now; 0 means to wait for `on_room`. Does not wait itself."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Calls back once, in any thread, when there is room or the data has failed."""
        ...

    def write(self, data: memoryview, offset: int) -> None:
        """Writes all of `data`, at most `room()` bytes, at `offset`.

        Raises OffsetMismatch when `offset` is not `self.offset` (invariant 4); a
        StorageError when the disk refuses, after which `offset` is unchanged and what was
        written beyond it does not count. Also StorageFailed for data that is published.
        """
        ...

    def append_from(self, source: Reader, start: int, size: int) -> int:
        """Writes at most `size` bytes of `source`, from its byte `start` on, at `offset`; the bytes
        taken, at least one.

        Without a copy where the store can share them. May be tried again.
        Raises what `write` does; StorageFailed when `source` ends at `start`.
        """
        ...

    def reserve(self, size: int) -> None:
        """Announces `size` bytes in all. Raises DiskFull or TooLarge when that cannot
        fit now.

        The room stays everybody's: a store takes it as bytes arrive, a bounded amount ahead, and
        `write` raises DiskFull or QuotaExceeded when others were quicker. What was taken and
        not used is given back in the end.
        """
        ...

    def rollback(self, offset: int) -> None:
        """Forgets what lies beyond `offset`, which becomes the offset. Room that was taken ahead is
        given back.

        Raises StorageError; OffsetMismatch when there are fewer bytes than that.
        """
        ...

    @property
    def commit_waits(self) -> bool:
        """False: `commit` and `recorded` return at once and may be called on the event loop."""
        ...

    def commit(self, *, flush: bool) -> Commit:
        """Makes bytes survive what the durability setting promises: with `flush` all up to
        `offset`, else as many as can be had at once. What is not `recorded` is in the next commit
        again.

        May run in one thread while `write` runs in another; it then covers what had been
        written when it began. Raises StorageUnavailable when the store did not answer in time (it
        may be tried again), SyncFailed, after which this upload is dead (invariant 12).
        """
        ...

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        """The commit is in the upload state: what it dropped may go. `lease` has the next
        numbers, where there are leases.
        """
        ...

    def seal(self) -> Reader:
        """A new reader of what has been written so far, before it is published; may be repeated.

        Nothing is written while what it reads is verified.
        """
        ...

    @property
    def prepare_waits(self) -> bool:
        """False: there is nothing to prepare."""
        ...

    def prepare(self, name: str) -> bool:
        """Does a bounded part of what publishing the whole data as `name` takes (compressing
        it); True when nothing is left to do.

        Never needed: `publish` does the rest, however long that takes. Whatever fails here
        leaves the data as it is, to be published so.
        """
        ...

    def publish(self, how: Publication) -> Published:
        """Gives the data its final name, atomically and whole; durable under strict.

        Raises NameTaken, NotAFolder, PreconditionFailed (nothing changed), SyncFailed (nothing
        has the name, or the file that had it before still has it).
        After it returned nothing can be written any more. Resumable data stays locked, and
        keeps its staging name as well, until `discard`, so that a restart can tell what
        happened (`published_from`); any other is closed.
        """
        ...

    def end_writing(self) -> None:
        """The data is published: from now on `write` raises StorageFailed."""
        ...

    def discard(self) -> None:
        """Removes the data. Idempotent, and never raises: what cannot go now is swept later.

        After `close` it does nothing: another may hold the data then.
        """
        ...

    def close(self) -> None:
        """Lets go of locks and descriptors; only resumable data stays. Idempotent."""
        ...


@runtime_checkable
class Files(Protocol):
    """Published files."""

    def stat(self, name: str) -> FileInfo:
        """A published file or folder ("" is the root). Raises NotFound."""
        ...

    def open(self, name: str) -> Reader:
        """A reader of a published file; it may be an `Encoded` as well.

        Raises NotFound, also for a folder (`detail["folder"]` may say so). A file that is
        replaced or deleted stays whole for its open readers.
        """
        ...

    def identity(self, name: str) -> str:
        """The identity of a published file (`FileInfo.identity`). Raises NotFound."""
        ...

    def delete(
        self,
        name: str,
        preconditions: Preconditions = NO_PRECONDITIONS,
        *,
        identity: str = "",
    ) -> None:
        """Removes a published file; with `identity` only that very one.

        Raises NotFound (a folder is no file), PreconditionFailed, StorageBusy.
        """
        ...

    def list_folder(
        self, name: str, *, after: str = "", limit: int = 1000, since: float | None = None
    ) -> list[FileInfo]:
        """Files and folders in `name` in order of their names, from after `after`.

        Fewer than `limit` when there are no more. Each `FileInfo.name` is the name in that
        folder. Hidden names and what is neither file nor folder are left out. With `since`, names
        as they were at that `time.monotonic()` will do: for a listing that goes on.
        Raises NotFound.
        """
        ...

    def free_name(self, how: Publication) -> str:
        """The name `publish` would give now: `how.name`, or under `rename` a free one like it.

        Nothing is promised: another may take it first, and `publish` judges again.
        """
        ...

    def check_target(self, how: Publication) -> None:
        """Refuses early what `publish` would refuse now (it judges again). Raises the same."""
        ...


@runtime_checkable
class Staging(Protocol):
    """Makes staged data for single requests."""

    durability: Durability
    binds_names: bool
    """The final name is fixed when data is begun; publication cannot choose another."""

    def stage(self, how: Publication | None = None, size: int | None = None) -> Staged:
        """Data of one request; it vanishes when closed, or when the process dies.

        `how`: where it will go, as far as that is known; never None where the store binds names.
        `size`: bytes that are announced.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """Data that outlives its request. The leases are None where the store is `Lockable`."""

    def begin(self, record: UploadRecord, lease: Lease | None, *, sealable: bool) -> Staged:
        """New data, locked where the store is `Lockable`. `sealable`: `seal` may be asked of it.

        Raises AlreadyExists.
        """
        ...

    def resume(self, record: UploadRecord, pieces: Sequence[Piece], lease: Lease | None) -> Staged:
        """Goes on at `record.offset`, locked where the store is `Lockable`.

        Bytes beyond were never acknowledged and are cut off. Raises UploadBusy when another
        holds it, NotFound when there is none, StorageFailed when less than `offset` bytes are
        there (the data was lost). Not for data that may be published.
        """
        ...

    def open_staged(self, record: UploadRecord, pieces: Sequence[Piece]) -> Reader:
        """A reader of data that is not written any more, without its lock.

        It stays whole for its open readers when it is removed. Raises NotFound.
        """
        ...

    def published_from(self, upload_id: str, name: str, identity: str) -> FileInfo | None:
        """The file `name` if it is the data of that upload, else None.

        `identity`: `Staged.identity` as it was recorded; "" where none was. Lets a restart tell
        whether a crash came before or after publication. The name is as durable, when this
        returns, as `publish` makes it: the crash may have come before that.
        """
        ...


@runtime_checkable
class Lockable(Resumable, Protocol):
    """Data that is locked through its own descriptor: local files."""

    def claim(self, upload_id: str) -> Staged:
        """Locks resumable data as it is, so that its state can be looked up under the lock.

        Nothing is cut off; `offset` is what is there, acknowledged or not. What to do with it
        (roll back and go on, publish, discard, close) follows from the state, which also tells
        whether it is published: the data itself cannot, as other programs link and touch files.
        Raises UploadBusy while a living writer holds it, NotFound when there is none.
        """
        ...


@runtime_checkable
class Sweepable(Protocol):
    """What dead processes left can be found and removed."""

    def remains(self) -> Iterator[str]:
        """Ids of all resumable data here, in no order."""
        ...

    def remove(self, upload_id: str) -> None:
        """Removes resumable data, if there is any. Raises UploadBusy while it is held."""
        ...

    def sweep_temporaries(self) -> int:
        """Removes what dead processes left, never what a living one holds; the count."""
        ...


@runtime_checkable
class Roomy(Protocol):
    """The store knows how much room there is."""

    min_free: int
    """Bytes that a reservation must leave free; may be assigned at any time."""

    def space(self) -> Space:
        """Room left for an unprivileged writer."""
        ...

    def probe(self) -> None:
        """Proves that the store can be written now. Raises StorageError."""
        ...


class Store(Files, Staging, Protocol):
    """The least that a store is. What else it offers follows from the protocols above."""

    def close(self) -> None:
        """Idempotent."""
        ...


class AttributedStaged(Staged, Protocol):
    """Staged data that can have an attribute beside its content, which its file then has."""

    def set_attribute(self, value: bytes) -> None:
        """Before publication. Raises StorageError."""
        ...


class AttributedStore(Store, Lockable, Sweepable, Roomy, Protocol):
    """A local store that knows `FileInfo.attribute` of its files."""

    def stage(
        self, how: Publication | None = None, size: int | None = None
    ) -> AttributedStaged: ...

    def holds_attributes(self) -> bool:
        """Tries whether files can have attributes. Raises StorageError."""
        ...
