"""What only the object store of the tests does: shipping, pieces, unknown outcomes."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from forebay.errors import (
    NameTaken,
    NotFound,
    OffsetMismatch,
    StorageFailed,
    StorageUnavailable,
)
from forebay.model import Commit, Conflict, Lease, Piece, UploadRecord, UploadState
from forebay.protocol.names import numbered
from forebay.stores.base import Publication, Staged
from objects.client import ATTEMPTS
from objects.service import ObjectService
from objects.store import ObjectStore

LEAST = 1024
PART = 2 * LEAST
INLINE = 100


@pytest.fixture
def service() -> ObjectService:
    return ObjectService(least_part=LEAST)


def make(service: ObjectService, **more: Any) -> ObjectStore:
    return ObjectStore(service, numbered=numbered, inline=INLINE, orphan_age=0, **more)


@pytest.fixture(params=["pieces", "direct"])
def store(service: ObjectService, request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    made = make(service, direct=request.param == "direct")
    yield made
    made.close()


@pytest.fixture
def pieces_store(service: ObjectService) -> Iterator[ObjectStore]:
    made = make(service)
    yield made
    made.close()


def how(name: str = "f.bin", conflict: Conflict = Conflict.REFUSE) -> Publication:
    return Publication(name, conflict)


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def content_of(reader: Any) -> bytes:
    content = bytearray(reader.info.size)
    done = 0
    while done < len(content):
        done += reader.read_into(memoryview(content)[done:], done)
    assert reader.read_into(memoryview(bytearray(1)), done) == 0
    reader.close()
    return bytes(content)


class Node:
    """One holder of one upload after another, and the state that they share."""

    def __init__(self, store: ObjectStore, upload_id: str = "u1", name: str = "f.bin") -> None:
        self.store = store
        self.record = UploadRecord(
            upload_id, "p", "tus", UploadState.OPEN, 0, None, name, 1.0, None
        )
        self.pieces: tuple[Piece, ...] = ()
        self.fence = 1
        self.next = 9
        self.lease = Lease(upload_id, 1, "t1", range(1, 9))
        self.staged: Staged = store.begin(self.record, self.lease, sealable=False)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self.staged.room():
                self.record_all()
            size = min(len(view), self.staged.room())
            self.staged.write(view[:size], self.staged.offset)
            view = view[size:]

    def record_all(self, *, flush: bool = True) -> Commit:
        commit = self.staged.commit(flush=flush)
        stay = [piece for piece in self.pieces if piece not in commit.dropped]
        self.pieces = tuple(sorted((*stay, *commit.added), key=lambda piece: piece.start))
        changes = {"offset": commit.offset, "place": commit.place}
        self.record = dataclasses.replace(self.record, **changes)
        numbers = range(commit.next_number, commit.next_number + 8)
        self.next = max(self.next, numbers.stop)
        self.lease = dataclasses.replace(self.lease, numbers=numbers)
        self.staged.recorded(commit, self.lease)
        return commit

    def take_over(self, store: ObjectStore | None = None) -> Staged:
        """Another holder; the one before keeps what it has."""
        before = self.staged
        self.fence += 1
        numbers = range(self.next, self.next + 8)
        self.next = numbers.stop
        self.lease = Lease(self.record.id, self.fence, f"t{self.fence}", numbers)
        self.staged = (store or self.store).resume(self.record, self.pieces, self.lease)
        assert self.staged.offset == self.record.offset
        return before


def own(service: ObjectService) -> list[str]:
    """What is at the service beside published files."""
    return [key for key in service.everything() if key.startswith(".forebay/") or "?" in key]


# --- writing and shipping ------------------------------------------------------------------------


def test_room_is_bounded_and_whoever_waits_for_it_is_called_once(store, service):
    node = Node(store)
    release = threading.Event()
    store.pool.submit(release.wait)
    for _ in range(3):  # all four threads of the store are busy
        store.pool.submit(release.wait)
    room = node.staged.room()
    assert room == 5 * PART
    node.staged.write(memoryview(some(room)), 0)
    assert node.staged.room() == 0
    called = threading.Semaphore(0)
    node.staged.on_room(called.release)
    assert not called.acquire(timeout=0.05)
    release.set()
    assert called.acquire(timeout=5)
    node.staged.on_room(called.release)
    assert called.acquire(timeout=5)
    node.record_all()
    assert not called.acquire(timeout=0.01)


def test_a_commit_is_the_longest_prefix_that_is_stored(store, service):
    node = Node(store)
    service.fail("put" if not store.binds_names else "upload_part", "slow", seconds=0.2)
    node.staged.write(memoryview(some(2 * PART + 50)), 0)
    assert node.staged.commit(flush=False).offset in (0, PART)
    commit = node.staged.commit(flush=True)
    assert commit.offset == 2 * PART + 50
    assert [piece.size for piece in commit.added] == [PART, PART, 50]
    assert commit.added[-1].kind == "inline"
    assert node.staged.commit(flush=False) == commit  # until it is recorded


def test_a_tail_grows_inline_then_as_an_object_then_becomes_a_part(pieces_store, service):
    node = Node(pieces_store)
    content = some(PART + 10)
    start = 0
    for size, kinds in ((60, ["inline"]), (40, ["inline"] * 2), (50, ["object"])):
        node.write(content[start : start + size])
        node.record_all()
        assert [piece.kind for piece in node.pieces] == kinds
        start += size
    before = set(own(service))
    node.write(content[start:])
    commit = node.staged.commit(flush=True)
    assert [piece.size for piece in commit.added] == [PART, 10]
    assert before <= set(own(service))  # goes only after the recording
    node.record_all()
    assert not before & set(own(service))
    assert content_of(node.staged.seal()) == content


def test_rolling_back_forgets_what_was_not_recorded(store, service):
    node = Node(store)
    content = some(5 * PART)
    node.write(content[:300])
    node.record_all()
    node.staged.write(memoryview(content[: 2 * PART]), 300)
    with pytest.raises(OffsetMismatch):
        node.staged.rollback(200)
    node.staged.rollback(300)
    assert node.staged.offset == 300
    node.write(content[300:])
    node.record_all()
    node.staged.publish(how())
    node.staged.discard()
    assert service.head("f.bin").content == content
    assert own(service) == []


def test_a_store_that_does_not_answer_is_told_and_the_rest_goes_on_later(store, service):
    node = Node(store)
    content = some(2 * PART + 10)
    node.write(content[:200])
    node.record_all()
    operation = "upload_part" if store.binds_names else "put"
    service.fail(operation, "refused", times=100)
    node.staged.write(memoryview(content[200:]), 200)
    with pytest.raises(StorageUnavailable):
        node.staged.commit(flush=True)
    assert node.staged.commit(flush=False).offset == 200
    service.heal()
    assert node.record_all().offset == len(content)
    node.staged.publish(how())
    assert service.head("f.bin").content == content


def test_a_write_raises_what_a_shipment_ran_into(store, service):
    node = Node(store)
    service.fail("", "before", times=100)
    called = threading.Event()
    node.staged.write(memoryview(some(5 * PART)), 0)
    node.staged.on_room(called.set)
    assert called.wait(5)
    while True:
        try:
            node.staged.write(memoryview(b""), node.staged.offset)
        except StorageUnavailable:
            break
    service.heal()
    node.staged.rollback(0)
    node.staged.write(memoryview(b"x"), 0)


# --- several holders -----------------------------------------------------------------------------


def test_a_holder_that_lost_its_lease_changes_nothing_of_the_next_one(store, service):
    node = Node(store)
    content = some(6 * PART)
    node.write(content[: PART + 700])
    node.record_all()
    late = "upload_part" if store.binds_names else "put"
    service.fail(late, "late", times=2)
    node.staged.write(memoryview(b"?" * 3 * PART), PART + 700)
    old = node.take_over()
    node.write(content[PART + 700 : 4 * PART])
    node.record_all()
    service.land()
    old.commit(flush=True)
    node.write(content[4 * PART :])
    node.record_all()
    service.land()
    old.close()
    node.take_over()
    node.staged.publish(how())
    assert service.head("f.bin").content == content
    node.staged.discard()
    store.remove("u1")
    assert own(service) == []


def test_what_was_offered_may_be_recorded_and_stays(store, service):
    """The answer of the state was lost: only the next holder learns that it was recorded."""
    node = Node(store)
    content = some(PART + 500)
    node.write(content)
    staged = node.staged
    commit = staged.commit(flush=True)
    staged.rollback(0)
    staged.close()
    node.pieces, node.record = commit.added, dataclasses.replace(node.record, offset=commit.offset)
    node.record = dataclasses.replace(node.record, place=commit.place)
    node.take_over()
    node.staged.publish(how())
    assert service.head("f.bin").content == content


def test_data_that_is_gone_is_told_when_it_is_resumed(pieces_store, service):
    node = Node(pieces_store)
    node.write(some(3 * PART))
    node.record_all()
    with pytest.raises(StorageFailed, match="lost data"):
        pieces_store.resume(node.record, node.pieces[:1], node.lease)
    pieces_store.remove("u1")
    with pytest.raises(NotFound):
        node.take_over()
    with pytest.raises(NotFound):
        pieces_store.open_staged(node.record, node.pieces)


# --- publication ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, PART, 5 * PART + 300])
@pytest.mark.parametrize("kind", ["refused", "before", "lost", "late"])
def test_one_unanswered_request_does_not_hinder_a_publication(store, service, size, kind):
    for number, operation in enumerate(("put", "complete", "create_upload", "copy_part", "head")):
        name = f"f{number}"
        node = Node(store, f"u{number}", name)
        content = some(size)
        node.write(content)
        node.record_all()
        service.fail(operation, kind)
        published = node.staged.publish(how(name))
        assert (published.file.name, published.file.size) == (name, size)
        assert not published.renamed
        service.heal()
        service.land()
        assert service.head(name).content == content
        node.staged.discard()
    store.sweep_temporaries()
    for upload_id in list(store.remains()):
        store.remove(upload_id)
    assert own(service) == []


def test_an_unknown_outcome_is_found_out_by_any_holder(store, service):
    node = Node(store)
    content = some(3 * PART)
    node.write(content)
    node.record_all()
    service.fail("complete", "lost")
    service.chance = lambda operation, key: (
        "before" if operation == "head" and service.requests["complete"] else None
    )
    with pytest.raises(StorageUnavailable):
        node.staged.publish(how())
    service.heal()
    assert store.published_from("u1", "f.bin", "") is not None
    node.take_over()
    assert not node.staged.publish(how()).renamed
    assert store.published_from("other", "f.bin", "") is None


def test_a_publication_that_lands_late_is_not_repeated_under_another_name(store, service):
    node = Node(store)
    content = some(3 * PART)
    node.write(content)
    node.record_all()
    service.fail("complete", "late", times=ATTEMPTS)
    with pytest.raises(StorageUnavailable):
        node.staged.publish(how("f.bin"))
    service.land()
    node.take_over()
    assert node.staged.publish(how("f.bin")).file.name == "f.bin"
    node.staged.discard()
    assert [key for key in service.everything() if not key.startswith(".")] == ["f.bin"]


def test_another_upload_s_file_is_not_taken_for_its_own(store, service):
    first, second = Node(store), Node(store, "u2")
    for node in (first, second):
        node.write(b"the same")
        node.record_all()
    first.staged.publish(how())
    with pytest.raises(NameTaken):
        second.staged.publish(how())
    assert store.identity("f.bin") == "u1"


def test_the_pieces_of_another_upload_are_copied_by_the_service(pieces_store, service):
    content = some(3 * PART + 77)
    part = Node(pieces_store, "part")
    part.write(content)
    part.record_all()
    final = Node(pieces_store, "final")
    start = 0
    before = service.requests["copy"]
    while start < len(content):
        reader = pieces_store.open_staged(part.record, part.pieces)
        start += final.staged.append_from(reader, start, len(content) - start)
    assert service.requests["copy"] == before + 3
    final.record_all()
    part.staged.discard()
    final.take_over()
    assert content_of(final.staged.seal()) == content
    final.staged.publish(how())
    assert service.head("f.bin").content == content


# --- sweeping ------------------------------------------------------------------------------------


def test_what_a_dead_request_leaves_is_swept_but_nothing_young(store, service):
    staged = store.stage(how(), None)
    staged.write(memoryview(some(4 * PART)), 0)
    staged.commit(flush=True)
    service.create_upload("f.bin")  # it did not live to say so
    store.orphan_age = 60
    assert store.sweep_temporaries() == 0
    store.orphan_age = 0
    assert store.sweep_temporaries() == 2
    assert own(service) == []


def test_what_belongs_to_resumable_uploads_is_told_and_removed(store, service):
    node = Node(store)
    node.write(some(3 * PART))
    node.record_all()
    assert store.sweep_temporaries() == 0
    store.orphan_age = 60
    assert list(store.remains()) == []
    store.orphan_age = 0
    assert list(store.remains()) == ["u1"]
    store.remove("u1")
    store.remove("u1")
    assert own(service) == []


def test_a_request_that_ends_leaves_nothing(store, service):
    for end in ("discard", "close", "publish"):
        staged = store.stage(how(end), None)
        staged.write(memoryview(some(4 * PART + 9)), 0)
        if end == "publish":
            staged.publish(how(end))
        else:
            getattr(staged, end)()
        for call in (staged.close, staged.discard, staged.close):
            call()
    store.close()  # requests that are under way end
    assert service.head("publish").content == some(4 * PART + 9)
    again = make(service)
    again.sweep_temporaries()
    again.close()
    assert own(service) == []
