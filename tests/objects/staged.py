"""Bytes on their way to an object: shipped as pieces in the background, joined at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from forebay.errors import OffsetMismatch, StorageError, StorageFailed
from forebay.model import Commit, FileInfo, Lease, Piece
from forebay.stores.base import Publication, Published, Reader
from objects.client import ask, delete_quietly, lost, unavailable
from objects.publishing import Assembly
from objects.reader import ObjectReader, segments_of
from objects.service import ServiceError

if TYPE_CHECKING:
    from objects.store import ObjectStore

_PATIENCE = 20.0
"""Seconds that a commit waits for shipments."""
_STEP = 1 << 20


@dataclasses.dataclass(eq=False, slots=True)
class _Shipment:
    """A full part on its way. `replaces`: durable pieces whose bytes it has, too."""

    start: int
    size: int
    replaces: tuple[Piece, ...]
    content: bytes
    """What follows those pieces."""
    piece: Piece | None = None
    failed: bool = False

    @property
    def ended(self) -> bool:
        return self.failed or self.piece is not None


class StagedObject:
    """See `forebay.stores.base.Staged`.

    Durable bytes are `_done` (full parts) and then `_tail` (small pieces, which a full part will
    replace). `_shipments` are between the two, `_fresh` are bytes that are nowhere else yet.
    """

    dead = False
    commit_waits = True
    prepare_waits = False

    def __init__(
        self,
        store: ObjectStore,
        upload_id: str,
        folder: str,
        lease: Lease | None = None,
        pieces: Sequence[Piece] = (),
        *,
        name: str | None = None,
        place: str = "",
        single: bool = False,
    ) -> None:
        self.upload_id = upload_id
        self.identity = upload_id if single else ""
        self.folder = folder
        """What the keys of its pieces begin with."""
        self.store = store
        self.name = name
        """The final name, where it is bound: then parts go there directly."""
        self.place = place
        """Id of the multipart upload on `name`."""
        self._token = lease.token if lease else secrets.token_hex(4)
        self._numbers = lease.numbers if lease else range(1, 10_000)
        self._next_number = self._numbers.start
        self._made = 0
        self._single = single
        self._lock = threading.Condition(threading.RLock())
        self._placing = threading.Lock()
        self._recorded = tuple(pieces)
        self._offered: set[Piece] = set(pieces)
        self._shipments: deque[_Shipment] = deque()
        self._fresh = bytearray()
        self._error: StorageError | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._flushing = False
        self._open = True
        self._writable = True
        self._assembly: Assembly | None = None
        self._stand_at(pieces)

    def _stand_at(self, pieces: Sequence[Piece]) -> None:
        """Goes on behind `pieces`; the last ones that are too small for parts are the tail."""
        done = list(pieces)
        tail: list[Piece] = []
        while done and not self._is_part(done[-1]):
            tail.insert(0, done.pop())
        self._done, self._tail = done, tail
        self.offset = _end(pieces)

    def _is_part(self, piece: Piece) -> bool:
        if piece.kind == "object" and self.name is None:
            return piece.size >= self.store.service.least_part
        return piece.kind == "part"

    # --- writing ---

    def room(self) -> int:
        with self._lock:
            waiting = sum(len(each.content) for each in self._shipments) + len(self._fresh)
            return max(0, self.store.spool - waiting)

    def on_room(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not (self.room() or self._error or not self._writable):
                self._callbacks.append(callback)
                return
        callback()

    def write(self, data: memoryview, offset: int) -> None:
        with self._lock:
            if offset != self.offset:
                raise OffsetMismatch(expected=self.offset, provided=offset)
            self._check_writable()
            if self._error is not None:
                raise self._error
            assert len(data) <= self.room(), "more was written than there is room for"
            self._fresh += data
            self.offset += len(data)
            self._ship_parts()

    def _check_writable(self) -> None:
        if not self._open or not self._writable:
            raise StorageFailed("The data of this upload cannot be changed any more.")

    def _ship_parts(self) -> None:
        """Sends off what makes a full part."""
        while not self._flushing and not self._error:
            size = self.store.part_size - sum(piece.size for piece in self._tail)
            if len(self._fresh) < max(size, 1) or not self._has_number():
                return
            start = self._tail[0].start if self._tail else self.offset - len(self._fresh)
            content = bytes(self._fresh[: max(size, 0)])
            del self._fresh[: len(content)]
            replaces, self._tail = tuple(self._tail), []
            total = sum(piece.size for piece in replaces) + len(content)
            shipment = _Shipment(start, total, replaces, content)
            self._shipments.append(shipment)
            self._send(shipment)

    def _send(self, shipment: _Shipment) -> None:
        ref, number = self._new_ref(), 0
        if self.name is not None:
            number, self._next_number = self._next_number, self._next_number + 1

        def send() -> Piece:
            content = self.store.fetch(self.folder, shipment.replaces) + shipment.content
            return self._store_part(shipment.start, content, ref, number)

        shipment.failed = False
        self.store.pool.submit(send).add_done_callback(lambda sent: self._sent(shipment, sent))

    def _store_part(self, start: int, content: bytes, ref: str, number: int) -> Piece:
        """In a thread of the store."""
        service = self.store.service
        if self.name is None:
            ask(service.put, self.folder + ref, content)
            return Piece(start, len(content), "object", ref=ref)
        with self._placing:
            if not self.place:
                self.place = self.store.begin_parts(self.name, self.upload_id, self.folder)
        tag = ask(service.upload_part, self.name, self.place, number, content)
        return Piece(start, len(content), "part", number=number, ref=tag)

    def _sent(self, shipment: _Shipment, sent: Future[Piece]) -> None:
        with self._lock:
            if shipment not in self._shipments:  # rolled back meanwhile
                if sent.cancelled() or sent.exception():
                    return
                stray = sent.result()
            else:
                stray = None
                try:
                    shipment.piece = sent.result()
                    shipment.content = b""
                except StorageError as error:
                    shipment.failed, self._error = True, error
                except ServiceError as error:
                    shipment.failed, self._error = True, lost(error)
                while self._shipments and self._shipments[0].piece:
                    piece = self._shipments.popleft().piece
                    assert piece is not None
                    self._done.append(piece)
            self._lock.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        if stray is not None and stray.kind == "object":
            delete_quietly(self.store.service, [self.folder + stray.ref])

    def _has_number(self) -> bool:
        return self.name is None or self._next_number < self._numbers.stop

    def _new_ref(self) -> str:
        self._made += 1
        return f"{self._token}-{self._made}"

    def reserve(self, size: int) -> None:
        self._check_writable()
        self.store.check_room(size - self.offset)

    def append_from(self, source: Reader, start: int, size: int) -> int:
        self._check_writable()
        if isinstance(source, ObjectReader) and source.service is self.store.service:
            copied = self._copy_piece(source, start, size)
            if copied:
                return copied
        self._wait_for_room()
        buffer = bytearray(min(size, _STEP, self.room()))
        taken = source.read_into(memoryview(buffer), start)
        if not taken:
            raise StorageFailed("A part of the upload ended too soon.")
        self.write(memoryview(buffer)[:taken], self.offset)
        return taken

    def _copy_piece(self, source: ObjectReader, start: int, size: int) -> int:
        """Has the service copy the piece that begins at `start`; 0 where it cannot be had so."""
        with self._lock:
            if self.name is not None or self._tail or self._fresh or self._shipments:
                return 0
        for segment in source.segments:
            large = segment.key and self.store.service.least_part <= segment.size <= size
            if segment.start == start and large:
                break
        else:
            return 0
        ref = self._new_ref()
        try:
            ask(self.store.service.copy, segment.key, self.folder + ref)
        except ServiceError as error:
            raise lost(error) from error
        with self._lock:
            self._done.append(Piece(self.offset, segment.size, "object", ref=ref))
            self.offset += segment.size
        return segment.size

    def _wait_for_room(self) -> None:
        with self._lock:
            found = self._lock.wait_for(lambda: self.room() or self._error, _PATIENCE)
            if self._error is not None:
                raise self._error
        if not found:
            raise unavailable()

    # --- commits ---

    def commit(self, *, flush: bool) -> Commit:
        if flush:
            self._flush()
        with self._lock:
            chain = self._chain()
            commit = Commit(
                _end(chain),
                tuple(piece for piece in chain if piece not in self._recorded),
                tuple(piece for piece in self._recorded if piece not in chain),
                self._next_number,
                f"{self.place} {self.name}" if self.place else "",
            )
            self._offered.update(commit.added)
            return commit

    def _chain(self) -> tuple[Piece, ...]:
        """The longest prefix that is durable."""
        tail = self._shipments[0].replaces if self._shipments else self._tail
        return (*self._done, *tail)

    def _flush(self) -> None:
        """Makes all bytes durable that were written when it began."""
        try:
            with self._lock:
                self._flushing = True  # no part is made meanwhile
                self._wait_for_shipments()
                inline = [piece for piece in self._tail if piece.kind == "inline"]
                fresh = bytes(self._fresh)
                start = _end((*self._done, *self._tail))
            if not fresh:
                return
            if sum(piece.size for piece in inline) + len(fresh) <= self.store.inline:
                inline, made = [], Piece(start, len(fresh), "inline", data=fresh)
            else:
                content = b"".join(piece.data for piece in inline) + fresh
                ref = self._new_ref()
                ask(self.store.service.put, self.folder + ref, content)
                first = inline[0].start if inline else start
                made = Piece(first, len(content), "object", ref=ref)
            with self._lock:
                self._stand_behind([*(p for p in self._tail if p not in inline), made], len(fresh))
        except ServiceError as error:
            raise lost(error) from error
        finally:
            with self._lock:
                self._flushing = False
                self._ship_parts()

    def _stand_behind(self, tail: list[Piece], flushed: int) -> None:
        del self._fresh[:flushed]
        self._tail = tail
        while self._tail and self._is_part(self._tail[0]):
            self._done.append(self._tail.pop(0))

    def _wait_for_shipments(self) -> None:
        """Raises StorageUnavailable; what has failed is sent again by the next commit."""
        with self._lock:
            if self._error is not None:
                self._lock.wait_for(lambda: all(s.ended for s in self._shipments), _PATIENCE)
                self._error = None
                for shipment in self._shipments:
                    if shipment.failed and self._has_number():
                        self._send(shipment)
            if not self._lock.wait_for(lambda: not self._shipments or self._error, _PATIENCE):
                raise unavailable()
            if self._error is not None:
                raise self._error

    def recorded(self, commit: Commit, lease: Lease | None) -> None:
        with self._lock:
            stay = [piece for piece in self._recorded if piece not in commit.dropped]
            fresh = [piece for piece in commit.added if piece not in stay]
            self._recorded = tuple(sorted((*stay, *fresh), key=lambda piece: piece.start))
            if lease is not None:
                self._token, self._numbers = lease.token, lease.numbers
                self._next_number = max(self._next_number, lease.numbers.start)
            self._ship_parts()
            callbacks, self._callbacks = self._callbacks, []
        gone = [self.folder + piece.ref for piece in commit.dropped if piece.kind == "object"]
        delete_quietly(self.store.service, gone)
        for callback in callbacks:
            callback()

    def rollback(self, offset: int) -> None:
        with self._lock:
            if offset == self.offset and not self._error:
                return
            if offset != _end(self._recorded):
                raise OffsetMismatch(expected=_end(self._recorded), provided=offset)
            self._check_writable()
            chain = self._chain()
            self._shipments.clear()
            self._fresh.clear()
            self._error = None
            self._stand_at(self._recorded)
        self._remove_unoffered(chain)

    def _remove_unoffered(self, pieces: Sequence[Piece]) -> None:
        """Nobody can know of those; what was offered may be recorded without an answer."""
        keys = [self.folder + p.ref for p in pieces if p.kind == "object" if p not in self._offered]
        delete_quietly(self.store.service, keys)

    # --- the end ---

    def prepare(self, name: str) -> bool:
        return True

    def seal(self) -> Reader:
        self._wait_for_shipments()
        with self._lock:
            pieces = self.pieces()
        info = FileInfo("", self.offset, 0, "")
        return ObjectReader(self.store.service, info, segments_of(self.folder, pieces))

    def pieces(self) -> tuple[Piece, ...]:
        """All bytes, those too that are nowhere else."""
        chain = self._chain()
        if not self._fresh:
            return chain
        return (*chain, Piece(_end(chain), len(self._fresh), "inline", data=bytes(self._fresh)))

    def publish(self, how: Publication) -> Published:
        if not self._open:
            raise StorageFailed("This upload is closed.")
        self._wait_for_shipments()
        if self._assembly is None:
            self._assembly = Assembly(self)
        published = self._assembly.publish(how)
        self.end_writing()
        if self._single:
            self.close()
        return published

    def take_number(self) -> int:
        """For a last part. Raises StorageUnavailable: the next lease has more."""
        with self._lock:
            if not self._has_number():
                raise unavailable()
            self._next_number += 1
            return self._next_number - 1

    def end_writing(self) -> None:
        with self._lock:
            self._writable = False

    def discard(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._end()
        if self._assembly is not None:
            self._assembly.drop()
        with contextlib.suppress(StorageError, ServiceError):
            self.store.remove_folder(self.folder)

    def close(self) -> None:
        with self._lock:
            if not self._open:
                return
            chain = self._chain()
            self._end()
        if self._single:
            if self._assembly is not None:
                self._assembly.drop()
            with contextlib.suppress(StorageError, ServiceError):
                self.store.remove_folder(self.folder)
        else:
            self._remove_unoffered(chain)

    def _end(self) -> None:
        self._open = self._writable = False
        self._shipments.clear()
        self._fresh.clear()
        self._lock.notify_all()


def _end(pieces: Sequence[Piece]) -> int:
    return pieces[-1].start + pieces[-1].size if pieces else 0
