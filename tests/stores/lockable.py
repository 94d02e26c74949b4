"""What stores have to keep whose data is locked through its own descriptor."""

from __future__ import annotations

import pytest

from forebay.errors import AlreadyExists, NotFound, OffsetMismatch, StorageFailed, UploadBusy
from forebay.stores.base import Store

from .contract import StoreContract
from .samples import (
    ID,
    OTHER_ID,
    begin,
    fill,
    get,
    how,
    publish,
    put,
    read,
    record_of,
    resume,
    stage,
    staged_bytes,
)


class LockableContract(StoreContract):
    """Data that is locked through its own descriptor (`Lockable`), and is one thing from its first
    byte to its name: it can be cut anywhere, and lasts for those who have opened it.
    """

    def test_resumable_data_stays_when_closed_and_goes_on(self, store: Store) -> None:
        staged = fill(begin(store, ID), b"first ")
        assert staged.commit(flush=True).offset == 6
        staged.close()
        assert list(store.remains()) == [ID]
        staged = resume(store, ID, 6)
        assert staged.offset == 6
        fill(staged, b"second")
        assert staged.publish(how("a")).file.size == 12
        assert get(store, "a") == b"first second"

    def test_an_id_is_created_once(self, store: Store) -> None:
        staged = fill(begin(store, ID), b"12345")
        with pytest.raises(AlreadyExists):
            begin(store, ID)
        staged.close()
        with pytest.raises(AlreadyExists):
            begin(store, ID)
        resumed = resume(store, ID, 5)
        assert staged_bytes(resumed) == b"12345"
        resumed.discard()
        begin(store, ID).discard()

    def test_unknown_ids_are_not_found(self, store: Store) -> None:
        for unknown in (ID, "x", "", "..", "../names.lock", "a/b", "\0"):
            with pytest.raises(NotFound):
                resume(store, unknown, 0)
            with pytest.raises(NotFound):
                store.claim(unknown)
            store.remove(unknown)
            assert store.published_from(unknown, "a", "") is None

    def test_resuming_cuts_off_what_was_never_acknowledged(self, store: Store) -> None:
        fill(begin(store, ID), b"12345-not acknowledged").close()
        staged = resume(store, ID, 5)
        assert staged.offset == 5
        assert staged_bytes(staged) == b"12345"
        fill(staged, b"67").close()
        claimed = store.claim(ID)
        assert staged_bytes(claimed) == b"1234567"
        claimed.close()

    def test_resuming_where_data_is_missing_is_refused_and_changes_nothing(
        self, store: Store
    ) -> None:
        fill(begin(store, ID), b"12345").close()
        with pytest.raises(StorageFailed, match="5 of 6"):
            resume(store, ID, 6)
        staged = resume(store, ID, 5)  # the lock was let go
        assert staged_bytes(staged) == b"12345"
        staged.close()

    @pytest.mark.parametrize("holder", ["create", "resume", "claim"])
    def test_held_data_is_busy_for_everybody_else(self, store: Store, holder: str) -> None:
        held = fill(begin(store, ID), b"12345")
        if holder != "create":
            held.close()
            held = resume(store, ID, 5) if holder == "resume" else store.claim(ID)
        for call in (
            lambda: resume(store, ID, 0),
            lambda: store.claim(ID),
            lambda: store.remove(ID),
        ):
            with pytest.raises(UploadBusy) as busy:
                call()
            assert busy.value.detail["retry_after"] == 1
        assert staged_bytes(held) == b"12345"
        begin(store, OTHER_ID).close()  # another one is not held
        held.close()
        store.remove(ID)
        assert list(store.remains()) == [OTHER_ID]

    def test_removed_data_is_gone_and_removing_may_be_repeated(self, store: Store) -> None:
        begin(store, ID).close()
        store.remove(ID)
        store.remove(ID)
        assert list(store.remains()) == []
        with pytest.raises(NotFound):
            store.claim(ID)

    def test_claimed_data_is_all_there_and_may_go_on(self, store: Store) -> None:
        fill(begin(store, ID), b"12345-not acknowledged").close()
        claimed = store.claim(ID)
        assert claimed.offset == 22
        claimed.rollback(5)
        fill(claimed, b"67")
        assert staged_bytes(claimed) == b"1234567"
        publish(claimed, "a")
        assert get(store, "a") == b"1234567"

    def test_claimed_data_may_be_discarded(self, store: Store) -> None:
        begin(store, ID).close()
        store.claim(ID).discard()
        assert list(store.remains()) == []

    def test_discarding_after_closing_leaves_what_another_holds(self, store: Store) -> None:
        first = fill(begin(store, ID), b"12345")
        first.close()
        second = resume(store, ID, 5)
        first.discard()
        first.close()
        with pytest.raises(UploadBusy):
            store.claim(ID)
        fill(second, b"67").close()
        third = resume(store, ID, 7)
        assert staged_bytes(third) == b"1234567"
        third.discard()

    def test_a_restart_can_tell_whether_data_was_published(self, store: Store) -> None:
        staged = fill(begin(store, ID), b"12345")
        assert store.published_from(ID, "f/a", "") is None
        put(store, "f/a", b"12345")
        assert store.published_from(ID, "f/a", "") is None  # equal, but not the very data
        published = publish(staged, "f/b")
        assert store.published_from(ID, "f/b", "") == published.file
        assert store.published_from(ID, "f/a", "") is None
        assert store.published_from(ID, "f/a/b", "") is None
        assert store.published_from(OTHER_ID, "f/b", "") is None
        assert list(store.remains()) == [ID]
        store.remove(ID)
        assert store.published_from(ID, "f/b", "") is None
        assert get(store, "f/b") == b"12345"
        assert store.stat("f/b") == published.file

    def test_published_data_is_not_changed_through_its_id(self, store: Store) -> None:
        published = publish(fill(begin(store, ID), b"12345"), "a")
        staged = store.claim(ID)
        staged.end_writing()  # as whoever finds it published does
        reader = staged.seal()
        for change in (
            lambda: staged.write(memoryview(b"x"), 5),
            lambda: staged.rollback(0),
            lambda: staged.reserve(10),
            lambda: staged.append_from(reader, 0, 1),
        ):
            with pytest.raises(StorageFailed):
                change()
        reader.close()
        staged.close()
        assert get(store, "a") == b"12345"
        assert store.stat("a") == published.file

    def test_looking_at_published_data_leaves_its_tag(self, store: Store) -> None:
        published = publish(fill(begin(store, ID), b"12345"), "a")
        store.claim(ID).close()
        assert store.stat("a") == published.file
        store.claim(ID).discard()
        assert store.stat("a") == published.file
        assert get(store, "a") == b"12345"

    def test_published_resumable_data_is_held_until_it_is_let_go_of(self, store: Store) -> None:
        staged = fill(begin(store, ID), b"12345")
        staged.publish(how("a"))
        with pytest.raises(UploadBusy):
            store.claim(ID)
        with pytest.raises(StorageFailed):
            staged.write(memoryview(b"x"), 5)
        staged.discard()
        assert list(store.remains()) == []
        assert get(store, "a") == b"12345"
        staged = fill(begin(store, ID), b"12345")
        staged.publish(how("b"))
        staged.close()
        store.claim(ID).close()
        store.remove(ID)
        assert get(store, "b") == b"12345"

    def test_resumable_data_is_read_without_its_lock(self, store: Store) -> None:
        fill(begin(store, ID), b"12345").close()
        reader = store.open_staged(record_of(ID), ())
        staged = begin(store, OTHER_ID)
        assert staged.append_from(reader, 0, 5) == 5
        store.remove(ID)
        assert read(reader) == b"12345"
        assert staged_bytes(staged) == b"12345"
        staged.discard()
        for unknown in (ID, "x", "", "../names.lock"):
            with pytest.raises(NotFound):
                store.open_staged(record_of(unknown), ())

    def test_truncating_forgets_the_end_and_writing_goes_on_there(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        staged.rollback(2)
        assert staged.offset == 2
        assert staged_bytes(staged) == b"12"
        fill(staged, b"xy")
        assert staged_bytes(staged) == b"12xy"
        staged.rollback(0)
        staged.publish(how("empty"))
        assert get(store, "empty") == b""

    def test_a_reader_of_staged_data_keeps_it_after_its_end(self, store: Store) -> None:
        staged = fill(begin(store, ID), b"12345")
        reader = staged.seal()
        staged.discard()
        assert read(reader) == b"12345"

    def more_of_a_cycle(self, store: Store) -> None:
        begin(store, ID).close()
        with pytest.raises(AlreadyExists):
            begin(store, ID)
        with pytest.raises(StorageFailed):
            resume(store, ID, 1)
        staged = resume(store, ID, 0)
        with pytest.raises(UploadBusy):
            store.claim(ID)
        with pytest.raises(OffsetMismatch):
            staged.write(memoryview(b""), 1)
        staged.discard()
        store.sweep_temporaries()
        list(store.remains())
        store.probe()
