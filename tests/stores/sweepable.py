"""What stores have to keep that tell what dead requests left, and how much room there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.errors import DiskFull
from forebay.stores.base import Store

from .contract import StoreContract
from .samples import (
    ID,
    OTHER_ID,
    Upload,
    fill,
    iter_remains,
    names_in,
    put,
    remains,
    stage,
    staged_bytes,
)


class SweepableContract(StoreContract):
    """`Sweepable`."""

    def test_ended_requests_leave_nothing(self, store: Store) -> None:
        for end in ("discard", "close"):
            getattr(fill(stage(store), b"12345" * 200), end)()
        put(store, "f/a", b"12345" * 200)
        assert remains(store) == set()
        assert store.sweep_temporaries() == 0
        assert names_in(store) == ["f"]

    def test_resumable_data_is_told_until_it_is_removed(self, store: Store) -> None:
        for upload_id in (ID, OTHER_ID):
            upload = Upload(store, upload_id)
            fill(upload.begin(), b"12345" * 200)
            upload.commit()
            upload.close()
        store.sweep_temporaries()
        assert remains(store) == {ID, OTHER_ID}
        for _ in range(2):
            store.remove(ID)
            assert remains(store) == {OTHER_ID}
        for unknown in ("x", "", "..", "../names.lock", "a/b", "\0"):
            store.remove(unknown)
        assert remains(store) == {OTHER_ID}

    def test_all_ids_are_told_however_many_ask(self, store: Store) -> None:
        ids = {f"{ID}-{n}" for n in range(60)}
        for upload_id in ids:
            upload = Upload(store, upload_id)
            fill(upload.begin(), b"12345" * 200)
            upload.commit()
            upload.close()
        first = iter_remains(store)
        seen = {next(first)}
        assert remains(store) == ids
        assert seen | set(first) == ids


class RoomyContract(StoreContract):
    """`Roomy`."""

    def test_space_and_probe(self, store: Store, tmp_path: Path) -> None:
        space = store.space()
        assert space.free > 0
        assert space.total == 0 or space.free <= space.total
        store.probe()
        assert names_in(store) == []

    def test_a_reservation_leaves_what_must_stay_free(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            staged = fill(stage(store), b"12345")
            store.min_free = store.space().free + (1 << 40)
            with pytest.raises(DiskFull):
                staged.reserve(10)
            store.min_free = 0
            staged.reserve(10)
            assert staged_bytes(staged) == b"12345"
            staged.discard()
