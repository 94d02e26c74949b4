"""What stores have to keep, one contract for each capability. A backend joins those it offers:

class TestS3(StagingContract, PublishingContract, ReadingContract, ResumableContract):
    def make(self, folder: Path, **options: Any) -> Store:
        return S3Store(..., **options)

`options` are `numbered` and sometimes `min_free`. The contracts are in the modules beside this one;
`test_joined.py` says which backend joins which.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import (
    NameTaken,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    StorageFailed,
)
from forebay.protocol.names import numbered
from forebay.stores.base import Reader, Store

from .samples import (
    WithoutDescriptor,
    fill,
    get,
    how,
    if_match,
    names_in,
    open_descriptors,
    put,
    reader_of,
    stage,
    staged_bytes,
)


class StoreContract:
    """Makes the store that a contract is about."""

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


class StagingContract(StoreContract):
    """Bytes before they have a name (`Staging`)."""

    cycles = 500
    """For the test of leaks; less where each has to wait for a disk many times."""

    # --- writing ---

    def test_bytes_are_read_back_as_they_were_written(self, store: Store) -> None:
        staged = stage(store)
        fill(fill(staged, b"first "), b"second")
        assert staged.offset == 12
        assert staged_bytes(staged) == b"first second"
        fill(staged, b"!")
        assert staged_bytes(staged) == b"first second!"
        staged.discard()

    def test_only_the_offset_of_the_staged_data_is_written_to(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        for wrong in (0, 4, 6, 2**40, -1):
            with pytest.raises(OffsetMismatch) as refused:
                staged.write(memoryview(b"x"), wrong)
            assert refused.value.detail == {"expected": 5, "provided": wrong}
        assert staged.offset == 5
        fill(staged, b"67")
        assert staged_bytes(staged) == b"1234567"
        staged.discard()

    def test_writing_nothing_changes_nothing(self, store: Store) -> None:
        staged = fill(fill(stage(store), b""), b"a")
        staged.write(memoryview(b""), 1)
        assert staged.offset == 1
        staged.discard()

    def test_truncating_never_makes_data_longer(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        for wrong in (6, -1):
            with pytest.raises(OffsetMismatch):
                staged.rollback(wrong)
        assert staged.offset == 5
        assert staged_bytes(staged) == b"12345"
        staged.discard()

    def test_what_is_committed_is_the_offset(self, store: Store) -> None:
        staged = stage(store)
        assert staged.commit(flush=True).offset == 0
        assert fill(staged, b"12345").commit(flush=True).offset == 5
        assert staged.commit(flush=True).offset == 5
        staged.discard()

    def test_a_reservation_is_neither_length_nor_content(self, store: Store) -> None:
        staged = stage(store)
        staged.reserve(1 << 20)
        staged.reserve(1 << 10)
        fill(staged, b"12345")
        assert staged_bytes(staged) == b"12345"
        assert staged.publish(how("a")).file.size == 5
        assert get(store, "a") == b"12345"

    # --- taking over bytes of another file ---

    @pytest.mark.parametrize("wrap", [lambda reader: reader, WithoutDescriptor])
    def test_bytes_are_taken_over_from_a_reader(
        self, store: Store, tmp_path: Path, wrap: Callable[[Reader], Reader]
    ) -> None:
        content = bytes(range(256)) * 10_000
        (tmp_path / "source").write_bytes(content)
        staged = fill(stage(store), b"first ")
        with contextlib.closing(wrap(reader_of(tmp_path / "source"))) as source:
            start, end = 1000, len(content) - 1000
            while start < end:
                taken = staged.append_from(source, start, end - start)
                assert 1 <= taken <= end - start
                start += taken
                assert staged.offset == 6 + start - 1000
        fill(staged, b" last")
        staged.publish(how("a"))
        assert get(store, "a") == b"first " + content[1000:-1000] + b" last"

    @pytest.mark.parametrize("wrap", [lambda reader: reader, WithoutDescriptor])
    def test_a_source_that_ends_too_soon_or_cannot_be_read_is_told(
        self, store: Store, tmp_path: Path, wrap: Callable[[Reader], Reader]
    ) -> None:
        (tmp_path / "source").write_bytes(b"12345")
        staged = stage(store)
        with contextlib.closing(wrap(reader_of(tmp_path / "source"))) as source:
            assert staged.append_from(source, 3, 100) == 2
            with pytest.raises(StorageFailed):
                staged.append_from(source, 5, 100)
            closed = wrap(reader_of(tmp_path / "source"))
            closed.close()
            closed.close()
            with pytest.raises(StorageFailed):
                staged.append_from(closed, 0, 100)
            assert staged.offset == 2
            assert staged_bytes(staged) == b"45"
            staged.close()
            with pytest.raises(StorageFailed):
                staged.append_from(source, 0, 1)

    # --- ends ---

    def test_discarded_and_closed_data_is_gone_and_both_may_be_repeated(self, store: Store) -> None:
        for end in ("discard", "close"):
            staged = fill(stage(store), b"12345")
            for call in (end, end, "discard", "close", "discard"):
                getattr(staged, call)()
        assert names_in(store) == []

    def test_closed_data_takes_no_more(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        staged.close()
        with pytest.raises(StorageFailed):
            staged.write(memoryview(b"x"), 5)
        with pytest.raises(StorageFailed):
            staged.publish(how("a"))
        assert names_in(store) == []

    def test_rolling_back_to_the_offset_changes_nothing_and_to_nothing_forgets_all(
        self, store: Store
    ) -> None:
        staged = fill(stage(store), b"12345")
        staged.rollback(5)
        assert staged_bytes(staged) == b"12345"
        staged.rollback(0)
        assert (staged.offset, staged_bytes(staged)) == (0, b"")
        fill(staged, b"xy").publish(how("a"))
        assert get(store, "a") == b"xy"

    def test_a_commit_is_the_same_until_it_is_recorded(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        first = staged.commit(flush=True)
        assert first.offset == 5
        assert staged.commit(flush=True) == staged.commit(flush=False) == first
        staged.recorded(first, None)
        again = staged.commit(flush=True)
        assert (again.offset, again.added, again.dropped) == (5, (), ())
        staged.discard()

    def test_there_is_room_and_whoever_asks_for_it_is_called(self, store: Store) -> None:
        staged = stage(store)
        assert staged.room() > 0
        called = threading.Event()
        staged.on_room(called.set)
        assert called.wait(5)
        staged.discard()

    def test_what_is_published_takes_no_more(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        staged.publish(how("a"))
        with pytest.raises(StorageFailed):
            staged.write(memoryview(b"x"), 5)
        assert get(store, "a") == b"12345"

    def test_descriptors_do_not_leak_over_many_cycles_with_errors(self, store: Store) -> None:
        def cycle() -> None:
            put(store, "f/a", b"old")
            for refused in (how("f/a"), how("f/a", preconditions=if_match("no"))):
                staged = fill(stage(store, refused), b"new")
                with pytest.raises((NameTaken, PreconditionFailed)):
                    staged.publish(refused)
                staged.discard()
            get(store, "f/a")
            store.list_folder("f")
            self.more_of_a_cycle(store)
            for missing in (store.open, store.stat, store.delete, store.list_folder):
                with pytest.raises(NotFound):
                    missing("f/none/b")
            store.delete("f/a")

        cycle()
        before = open_descriptors()
        for _ in range(self.cycles):
            cycle()
        assert open_descriptors() == before

    def more_of_a_cycle(self, store: Store) -> None:
        """What else must not leak: for the contracts of other capabilities."""
