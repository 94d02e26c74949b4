from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.errors import DiskFull
from forebay.protocol.names import numbered
from forebay.stores.base import Store
from forebay.stores.memory import MemoryStore

from .joined import LocalStoreContract
from .samples import ID, REPLACE, at_once, begin, fill, get, how, publish, put, read, resume


class TestMemory(LocalStoreContract):
    def make(self, folder: Path, **options: Any) -> Store:
        return MemoryStore(**{"capacity": 1 << 30, **options})


class TestUnlimitedMemory(LocalStoreContract):
    def make(self, folder: Path, **options: Any) -> Store:
        return MemoryStore(**options)

    def test_a_reservation_leaves_what_must_stay_free(self) -> None:  # type: ignore[override]
        store = MemoryStore(numbered=numbered)
        assert store.space().total == 0
        store.stage().reserve(1 << 60)


def test_a_full_store_takes_no_more_and_what_is_removed_counts_no_more() -> None:
    store = MemoryStore(capacity=100, numbered=numbered)
    put(store, "a", b"a" * 60)
    staged = fill(store.stage(), b"b" * 40)
    with pytest.raises(DiskFull):
        staged.write(memoryview(b"c"), 40)
    assert staged.offset == 40
    assert store.space().free == 0
    staged.rollback(10)
    assert store.space().free == 30
    staged.publish(how("b"))
    reader = store.open("a")
    store.delete("a")
    assert store.space().free == 90
    put(store, "b", b"x" * 90, REPLACE)
    assert store.space().free == 10
    assert get(store, "b") == b"x" * 90
    assert read(reader) == b"a" * 60


def test_data_under_two_names_counts_once() -> None:
    store = MemoryStore(capacity=100, numbered=numbered)
    publish(fill(begin(store, ID), b"a" * 60), "a")
    assert store.space().free == 40
    store.delete("a")
    assert store.space().free == 40
    store.remove(ID)
    assert store.space().free == 100
    fill(begin(store, ID), b"a" * 60).close()
    resume(store, ID, 20).close()
    assert store.space().free == 80
    store.claim(ID).discard()
    assert store.space().free == 100


def test_ten_at_once_do_not_all_get_the_last_room() -> None:
    store = MemoryStore(capacity=100, min_free=10, numbered=numbered)
    staged = [store.stage() for _ in range(10)]
    for each in staged:
        each.reserve(30)  # whoever says so has taken nothing
    outcomes = at_once(10, lambda n: staged[n].write(memoryview(b"x" * 30), 0))
    assert outcomes.count(None) == 3
    assert sum(isinstance(each, DiskFull) for each in outcomes) == 7
    assert store.space().free == 10
    for each in staged:
        each.discard()
    assert store.space().free == 100


def test_what_was_reserved_and_not_used_is_given_back() -> None:
    store = MemoryStore(capacity=100, numbered=numbered)
    staged = fill(store.stage(), b"abc")
    staged.reserve(50)
    with pytest.raises(DiskFull):
        staged.reserve(101)
    assert store.space().free == 97
    staged.reserve(50)
    staged.publish(how("a"))
    assert store.space().free == 97
