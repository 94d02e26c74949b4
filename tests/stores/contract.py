"""What every store has to keep. A new backend joins in a few lines:

class TestS3(StoreContract):
    def make(self, folder: Path, **options: Any) -> Store:
        return S3Store(..., **options)

`options` are `numbered` and sometimes `min_free`. How files are published and read is in the
two modules beside this one, which are part of the contract.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import (
    AlreadyExists,
    DiskFull,
    NameTaken,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    StorageFailed,
    UploadBusy,
)
from forebay.protocol.names import numbered
from forebay.stores.base import Store

from .publishing import PublishingContract
from .reading import ReadingContract
from .samples import (
    ID,
    OTHER_ID,
    fill,
    get,
    how,
    if_match,
    names_in,
    open_descriptors,
    put,
    read,
    staged_bytes,
)


class StagingContract:
    """Bytes before they have a name."""

    cycles = 500
    """For the test of leaks; less where each has to wait for a disk many times."""

    def make(self, folder: Path, **options: Any) -> Store:
        raise NotImplementedError

    @contextlib.contextmanager
    def opened(self, folder: Path, **options: Any) -> Iterator[Store]:
        store = self.make(folder, **{"numbered": numbered, **options})
        try:
            yield store
        finally:
            store.close()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with self.opened(tmp_path / "root") as store:
            yield store

    # --- writing ---

    def test_bytes_are_read_back_as_they_were_written(self, store: Store) -> None:
        staged = store.stage()
        fill(fill(staged, b"first "), b"second")
        assert staged.offset == 12
        assert staged_bytes(staged) == b"first second"
        fill(staged, b"!")
        assert staged_bytes(staged) == b"first second!"
        staged.discard()

    def test_only_the_offset_of_the_staged_data_is_written_to(self, store: Store) -> None:
        staged = fill(store.stage(), b"12345")
        for wrong in (0, 4, 6, 2**40, -1):
            with pytest.raises(OffsetMismatch) as refused:
                staged.write(memoryview(b"x"), wrong)
            assert refused.value.detail == {"expected": 5, "provided": wrong}
        assert staged.offset == 5
        fill(staged, b"67")
        assert staged_bytes(staged) == b"1234567"
        staged.discard()

    def test_writing_nothing_changes_nothing(self, store: Store) -> None:
        staged = fill(fill(store.stage(), b""), b"a")
        staged.write(memoryview(b""), 1)
        assert staged.offset == 1
        staged.discard()

    def test_truncating_forgets_the_end_and_writing_goes_on_there(self, store: Store) -> None:
        staged = fill(store.stage(), b"12345")
        staged.truncate(2)
        assert staged.offset == 2
        assert staged_bytes(staged) == b"12"
        fill(staged, b"xy")
        assert staged_bytes(staged) == b"12xy"
        staged.truncate(0)
        staged.publish(how("empty"))
        assert get(store, "empty") == b""

    def test_truncating_never_makes_data_longer(self, store: Store) -> None:
        staged = fill(store.stage(), b"12345")
        for wrong in (6, -1):
            with pytest.raises(OffsetMismatch):
                staged.truncate(wrong)
        assert staged.offset == 5
        assert staged_bytes(staged) == b"12345"
        staged.discard()

    def test_what_is_committed_is_the_offset(self, store: Store) -> None:
        staged = store.stage()
        assert staged.commit() == 0
        assert fill(staged, b"12345").commit() == 5
        assert staged.commit() == 5
        staged.discard()

    def test_a_reservation_is_neither_length_nor_content(self, store: Store) -> None:
        staged = store.stage()
        staged.reserve(1 << 20)
        staged.reserve(1 << 10)
        fill(staged, b"12345")
        assert staged_bytes(staged) == b"12345"
        assert staged.publish(how("a")).file.size == 5
        assert get(store, "a") == b"12345"

    def test_a_reservation_leaves_what_must_stay_free(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            staged = fill(store.stage(), b"12345")
            store.min_free = store.space().free + (1 << 40)
            with pytest.raises(DiskFull):
                staged.reserve(10)
            store.min_free = 0
            staged.reserve(10)
            assert staged_bytes(staged) == b"12345"
            staged.discard()

    # --- ends ---

    def test_discarded_and_closed_data_is_gone_and_both_may_be_repeated(self, store: Store) -> None:
        for end in ("discard", "close"):
            staged = fill(store.stage(), b"12345")
            for call in (end, end, "discard", "close", "discard"):
                getattr(staged, call)()
        assert names_in(store) == []
        assert list(store.staged_ids()) == []
        assert store.sweep_temporaries() == 0

    def test_closed_data_takes_no_more(self, store: Store) -> None:
        staged = fill(store.stage(), b"12345")
        staged.close()
        with pytest.raises(StorageFailed):
            staged.write(memoryview(b"x"), 5)
        with pytest.raises(StorageFailed):
            staged.publish(how("a"))
        assert names_in(store) == []

    def test_descriptors_do_not_leak_over_many_cycles_with_errors(self, store: Store) -> None:
        def cycle() -> None:
            put(store, "f/a", b"old")
            for refused in (how("f/a"), how("f/a", preconditions=if_match("no"))):
                staged = fill(store.stage(), b"new")
                with pytest.raises((NameTaken, PreconditionFailed)):
                    staged.publish(refused)
                staged.discard()
            get(store, "f/a")
            store.list_folder("f")
            store.create(ID).close()
            with pytest.raises(AlreadyExists):
                store.create(ID)
            with pytest.raises(StorageFailed):
                store.resume(ID, 1)
            staged = store.resume(ID, 0)
            with pytest.raises(UploadBusy):
                store.claim(ID)
            with pytest.raises(OffsetMismatch):
                staged.write(memoryview(b""), 1)
            staged.discard()
            for missing in (store.open, store.stat, store.delete, store.list_folder):
                with pytest.raises(NotFound):
                    missing("f/none/b")
            store.delete("f/a")
            store.sweep_temporaries()
            list(store.staged_ids())
            store.probe()

        cycle()
        before = open_descriptors()
        for _ in range(self.cycles):
            cycle()
        assert open_descriptors() == before


class ResumableContract:
    """Data that outlives its request, under an id."""

    def test_resumable_data_stays_when_closed_and_goes_on(self, store: Store) -> None:
        staged = fill(store.create(ID), b"first ")
        assert staged.commit() == 6
        staged.close()
        assert list(store.staged_ids()) == [ID]
        staged = store.resume(ID, 6)
        assert staged.offset == 6
        fill(staged, b"second")
        assert staged.publish(how("a")).file.size == 12
        assert get(store, "a") == b"first second"

    def test_an_id_is_created_once(self, store: Store) -> None:
        staged = fill(store.create(ID), b"12345")
        with pytest.raises(AlreadyExists):
            store.create(ID)
        staged.close()
        with pytest.raises(AlreadyExists):
            store.create(ID)
        resumed = store.resume(ID, 5)
        assert staged_bytes(resumed) == b"12345"
        resumed.discard()
        store.create(ID).discard()

    def test_unknown_ids_are_not_found(self, store: Store) -> None:
        for unknown in (ID, "x", "", "..", "../names.lock", "a/b", "\0"):
            with pytest.raises(NotFound):
                store.resume(unknown, 0)
            with pytest.raises(NotFound):
                store.claim(unknown)
            store.remove(unknown)
            assert store.published_from(unknown, "a") is None

    def test_resuming_cuts_off_what_was_never_acknowledged(self, store: Store) -> None:
        fill(store.create(ID), b"12345-not acknowledged").close()
        staged = store.resume(ID, 5)
        assert staged.offset == 5
        assert staged_bytes(staged) == b"12345"
        fill(staged, b"67").close()
        claimed = store.claim(ID)
        assert staged_bytes(claimed) == b"1234567"
        claimed.close()

    def test_resuming_where_data_is_missing_is_refused_and_changes_nothing(
        self, store: Store
    ) -> None:
        fill(store.create(ID), b"12345").close()
        with pytest.raises(StorageFailed, match="5 of 6"):
            store.resume(ID, 6)
        staged = store.resume(ID, 5)  # the lock was let go
        assert staged_bytes(staged) == b"12345"
        staged.close()

    @pytest.mark.parametrize("holder", ["create", "resume", "claim"])
    def test_held_data_is_busy_for_everybody_else(self, store: Store, holder: str) -> None:
        held = fill(store.create(ID), b"12345")
        if holder != "create":
            held.close()
            held = store.resume(ID, 5) if holder == "resume" else store.claim(ID)
        for call in (
            lambda: store.resume(ID, 0),
            lambda: store.claim(ID),
            lambda: store.remove(ID),
        ):
            with pytest.raises(UploadBusy) as busy:
                call()
            assert busy.value.detail["retry_after"] == 1
        assert staged_bytes(held) == b"12345"
        store.create(OTHER_ID).close()  # another one is not held
        held.close()
        store.remove(ID)
        assert list(store.staged_ids()) == [OTHER_ID]

    def test_removed_data_is_gone_and_removing_may_be_repeated(self, store: Store) -> None:
        store.create(ID).close()
        store.remove(ID)
        store.remove(ID)
        assert list(store.staged_ids()) == []
        with pytest.raises(NotFound):
            store.claim(ID)

    def test_claimed_data_is_all_there_and_may_go_on(self, store: Store) -> None:
        fill(store.create(ID), b"12345-not acknowledged").close()
        claimed = store.claim(ID)
        assert claimed.offset == 22
        claimed.truncate(5)
        fill(claimed, b"67")
        assert staged_bytes(claimed) == b"1234567"
        claimed.publish(how("a"))
        assert get(store, "a") == b"1234567"

    def test_claimed_data_may_be_discarded(self, store: Store) -> None:
        store.create(ID).close()
        store.claim(ID).discard()
        assert list(store.staged_ids()) == []

    def test_discarding_after_closing_leaves_what_another_holds(self, store: Store) -> None:
        first = fill(store.create(ID), b"12345")
        first.close()
        second = store.resume(ID, 5)
        first.discard()
        first.close()
        with pytest.raises(UploadBusy):
            store.claim(ID)
        fill(second, b"67").close()
        third = store.resume(ID, 7)
        assert staged_bytes(third) == b"1234567"
        third.discard()

    def test_a_restart_can_tell_whether_data_was_published(self, store: Store) -> None:
        staged = fill(store.create(ID), b"12345")
        assert store.published_from(ID, "f/a") is None
        put(store, "f/a", b"12345")
        assert store.published_from(ID, "f/a") is None  # equal, but not the very data
        published = staged.publish(how("f/b"))
        assert store.published_from(ID, "f/b") == published.file
        assert store.published_from(ID, "f/a") is None
        assert store.published_from(ID, "f/a/b") is None
        assert store.published_from(OTHER_ID, "f/b") is None
        assert list(store.staged_ids()) == [ID]
        store.remove(ID)
        assert store.published_from(ID, "f/b") is None
        assert get(store, "f/b") == b"12345"
        assert store.stat("f/b") == published.file

    def test_published_data_is_not_changed_through_its_id(self, store: Store) -> None:
        published = fill(store.create(ID), b"12345").publish(how("a"))
        with pytest.raises(StorageFailed):
            store.resume(ID, 3)
        for opening in (lambda: store.resume(ID, 5), lambda: store.claim(ID)):
            staged = opening()
            for change in (
                lambda staged=staged: staged.write(memoryview(b"x"), 5),
                lambda staged=staged: staged.truncate(0),
                lambda staged=staged: staged.reserve(10),
            ):
                with pytest.raises(StorageFailed):
                    change()
            staged.close()
        assert get(store, "a") == b"12345"
        assert store.stat("a") == published.file

    def test_looking_at_published_data_leaves_its_tag(self, store: Store) -> None:
        published = fill(store.create(ID), b"12345").publish(how("a"))
        store.claim(ID).close()
        store.resume(ID, 5).close()
        assert store.stat("a") == published.file
        store.claim(ID).discard()
        assert store.stat("a") == published.file
        assert get(store, "a") == b"12345"

    def test_publishing_resumable_data_lets_go_of_it(self, store: Store) -> None:
        staged = fill(store.create(ID), b"12345")
        staged.publish(how("a"))
        staged.discard()  # does nothing any more
        store.claim(ID).close()
        store.remove(ID)

    def test_all_ids_are_told_however_many_ask(self, store: Store) -> None:
        ids = {f"{ID}-{n}" for n in range(100)}
        for upload_id in ids:
            store.create(upload_id).close()
        first = store.staged_ids()
        seen = {next(first)}
        assert set(store.staged_ids()) == ids
        assert seen | set(first) == ids

    def test_a_reader_of_staged_data_keeps_it_after_its_end(self, store: Store) -> None:
        staged = fill(store.create(ID), b"12345")
        fd = staged.open_read()
        staged.discard()
        assert read(fd) == b"12345"


class StoreContract(StagingContract, ResumableContract, PublishingContract, ReadingContract):
    """All of it."""
