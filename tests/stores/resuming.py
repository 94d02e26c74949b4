"""What stores have to keep whose data outlives its request: it goes on from what is recorded."""

from __future__ import annotations

import dataclasses

import pytest

from forebay.errors import NameTaken, NotFound, OffsetMismatch, StorageFailed
from forebay.stores.base import Store

from .contract import StoreContract
from .samples import OTHER_ID, REPLACE, Upload, fill, get, how, put, read, staged_bytes

SIZES = (0, 5, 1024, 70_000)


class ResumableContract(StoreContract):
    """`Resumable`. An `Upload` remembers what an engine would: the record and the pieces."""

    @pytest.mark.parametrize("size", SIZES)
    def test_data_goes_on_where_it_was_recorded(self, store: Store, size: int) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"a" * size)
        assert upload.commit() == size
        upload.close()
        staged = upload.resume()
        assert staged.offset == size
        fill(staged, b"second")
        assert upload.commit() == size + 6
        assert staged.publish(how("a")).file.size == size + 6
        staged.discard()
        assert get(store, "a") == b"a" * size + b"second"

    def test_what_was_never_recorded_is_forgotten(self, store: Store) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"12345")
        upload.commit()
        fill(upload.staged, b"-not recorded" * 1000)
        upload.staged.commit(flush=True)
        upload.close()
        staged = upload.resume()
        assert staged_bytes(staged) == b"12345"
        fill(staged, b"67")
        upload.commit()
        upload.close()
        assert staged_bytes(upload.resume()) == b"1234567"
        upload.close()

    def test_many_small_commits_and_many_holders_come_to_the_same(self, store: Store) -> None:
        upload, content = Upload(store), b""
        upload.begin()
        for n in range(60):
            part = bytes([n]) * (n * 7 % 300)
            fill(upload.staged, part)
            upload.commit()
            content += part
            if n % 7 == 0:
                upload.close()
                upload.resume()
        assert staged_bytes(upload.staged) == content
        upload.staged.publish(how("a"))
        upload.staged.discard()
        assert get(store, "a") == content

    def test_rolling_back_leaves_what_was_recorded(self, store: Store) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"12345")
        upload.commit()
        fill(upload.staged, b"67")
        upload.staged.rollback(5)
        assert upload.staged.offset == 5
        with pytest.raises(OffsetMismatch):
            upload.staged.rollback(6)
        fill(upload.staged, b"xy")
        upload.commit()
        assert staged_bytes(upload.staged) == b"12345xy"
        upload.close()

    def test_where_data_is_missing_nothing_goes_on(self, store: Store) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"12345")
        upload.commit()
        upload.close()
        right = upload.record
        upload.record = dataclasses.replace(right, offset=6)
        with pytest.raises(StorageFailed, match="5 of 6"):
            upload.resume()
        upload.record = right  # and nothing was changed
        assert staged_bytes(upload.resume()) == b"12345"
        upload.close()

    def test_data_that_was_removed_is_not_found(self, store: Store) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"12345" * 1000)
        upload.commit()
        upload.staged.discard()
        with pytest.raises(NotFound):
            upload.resume()
        with pytest.raises(NotFound):
            upload.open()

    def test_it_is_read_without_being_held(self, store: Store) -> None:
        part = Upload(store, OTHER_ID)
        fill(part.begin(), b"12345" * 1000)
        part.commit()
        part.close()
        assert read(part.open()) == b"12345" * 1000
        final = Upload(store)
        staged = final.begin()
        reader, start = part.open(), 0
        while start < 5000:
            start += staged.append_from(reader, start, 5000 - start)
        reader.close()
        final.commit()
        part.resume().discard()
        final.close()
        assert staged_bytes(final.resume()) == b"12345" * 1000
        final.close()

    def test_bytes_are_verified_before_they_are_published(self, store: Store) -> None:
        upload = Upload(store)
        fill(upload.begin(), b"12345" * 1000)
        for _ in range(2):
            assert staged_bytes(upload.staged) == b"12345" * 1000
        upload.commit()
        assert staged_bytes(upload.staged) == b"12345" * 1000
        upload.close()

    def test_a_file_is_known_by_the_identity_of_its_data(self, store: Store) -> None:
        upload = Upload(store)
        staged = fill(upload.begin(), b"12345")
        upload.commit()
        while not staged.prepare("f/a"):
            pass
        identity = staged.identity
        assert upload.published_from("f/a", identity) is None
        published = staged.publish(how("f/a")).file
        assert upload.published_from("f/a", identity) == published
        staged.discard()
        if identity:  # else it goes by the id, which the file has
            assert published.identity == identity
        assert upload.published_from("f/a", identity) == published
        assert upload.published_from("f/b", identity) is None
        put(store, "f/a", b"12345", REPLACE)
        assert upload.published_from("f/a", identity) is None

    def test_whether_it_was_published_can_be_told(self, store: Store) -> None:
        upload = Upload(store)
        staged = fill(upload.begin(), b"12345")
        upload.commit()
        assert upload.published_from("f/a") is None
        put(store, "f/a", b"12345")
        assert upload.published_from("f/a") is None  # equal, but another one
        with pytest.raises(NameTaken):
            staged.publish(how("f/a"))
        published = staged.publish(how("f/b")).file
        assert upload.published_from("f/b") == published
        assert upload.published_from("f/a") is None
        assert upload.published_from("f/a/b") is None
        assert Upload(store, OTHER_ID).published_from("f/b") is None
        staged.discard()
        assert get(store, "f/b") == b"12345"
        assert store.stat("f/b") == published

    def test_published_data_takes_no_more(self, store: Store) -> None:
        upload = Upload(store)
        staged = fill(upload.begin(), b"12345")
        upload.commit()
        staged.publish(how("a"))
        for change in (
            lambda: staged.write(memoryview(b"x"), 5),
            lambda: staged.reserve(10),
        ):
            with pytest.raises(StorageFailed):
                change()
        staged.discard()
        assert get(store, "a") == b"12345"

    def test_ends_may_be_repeated_and_discarding_after_closing_removes_nothing(
        self, store: Store
    ) -> None:
        upload = Upload(store)
        first = fill(upload.begin(), b"12345" * 1000)
        upload.commit()
        first.close()
        second = upload.resume()
        first.discard()
        first.close()
        assert staged_bytes(second) == b"12345" * 1000
        second.discard()
        second.discard()
        second.close()
