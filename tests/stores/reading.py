"""The part of the contract that is about published files."""

from __future__ import annotations

import os
import stat

import pytest

from forebay.errors import InvalidName, NotAFolder, NotFound
from forebay.stores.base import Store
from forebay.stores.reading import as_file, read_bytes

from .contract import StoreContract
from .publishing import BAD_NAMES
from .samples import REPLACE, at_once, fill, how, if_match, names_in, put, read, stage


class ReadingContract(StoreContract):
    def test_the_root_is_a_folder(self, store: Store) -> None:
        root = store.stat("")
        assert (root.name, root.is_folder) == ("", True)
        assert store.list_folder("") == []

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        put(store, "f/a")
        for missing in ("b", "f/b", "g/a", "g/h/a"):
            for call in (store.stat, store.open, store.delete, store.list_folder):
                with pytest.raises(NotFound):
                    call(missing)
        with pytest.raises(NotFound):
            store.open("f")

    def test_below_a_file_there_is_nothing(self, store: Store) -> None:
        put(store, "a")
        for call in (store.stat, store.open, store.delete, store.list_folder):
            with pytest.raises(NotAFolder):
                call("a/b")
        with pytest.raises(NotAFolder):
            store.list_folder("a")

    def test_names_that_lead_elsewhere_are_refused(self, store: Store) -> None:
        for bad in BAD_NAMES:
            for call in (store.stat, store.open, store.delete, store.list_folder):
                if bad or call not in (store.stat, store.list_folder):
                    with pytest.raises(InvalidName):
                        call(bad)

    def test_stat_open_listing_and_publication_tell_the_same(self, store: Store) -> None:
        info = put(store, "f/a", b"12345").file
        reader = store.open("f/a")
        assert read(reader) == b"12345"
        assert info == reader.info == store.stat("f/a")
        (listed,) = store.list_folder("f")
        assert listed.name == "a"
        assert (listed.size, listed.tag, listed.mtime_ns) == (5, info.tag, info.mtime_ns)
        (folder,) = store.list_folder("")
        assert (folder.name, folder.is_folder, folder.size) == ("f", True, 0)

    def test_a_reader_reads_from_anywhere_and_a_descriptor_has_the_same_bytes(
        self, store: Store
    ) -> None:
        put(store, "a", b"12345")
        reader = store.open("a")
        assert read_bytes(reader, 3, 10) == b"45"
        assert read_bytes(reader, 1, 2) == b"23"
        assert read_bytes(reader, 5, 1) == read_bytes(reader, 9, 1) == b""
        fd = reader.fileno()
        if fd is not None:
            assert stat.S_ISREG(os.fstat(fd).st_mode)
            assert not os.get_inheritable(fd)
            assert os.pread(fd, 2, 3) == b"45"
        reader.close()
        reader.close()

    def test_a_reader_is_a_file_object_too(self, store: Store) -> None:
        put(store, "a", b"12345")
        with as_file(store.open("a")) as file:
            assert file.read() == b"12345"
            assert file.read(1) == b""
            assert file.seek(-4, os.SEEK_END) == 1
            assert (file.read(2), file.tell()) == (b"23", 3)

    def test_a_listing_is_sorted_and_comes_in_pages(self, store: Store) -> None:
        every = [*sorted(f"{n}.txt" for n in range(25)), "ä", "文"]
        for name in reversed(every):
            put(store, f"f/{name}")
        put(store, "f/0 folder/a")
        every = sorted([*every, "0 folder"])
        assert names_in(store, "f") == every
        assert [info.name for info in store.list_folder("f", limit=3)] == every[:3]
        paged: list[str] = []
        while page := store.list_folder("f", after=paged[-1] if paged else "", limit=4):
            paged += [info.name for info in page]
        assert paged == every
        assert store.list_folder("f", after="文") == []
        assert next(iter(store.list_folder("f", after="7"))).name == "7.txt"
        assert store.list_folder("f", limit=0) == []

    def test_a_listing_is_whole_however_many_ask(self, store: Store) -> None:
        every = sorted(f"{n}" for n in range(300))
        for name in every:
            put(store, name, b"")

        def act(_: int) -> set[tuple[str, ...]]:
            return {tuple(names_in(store)) for _ in range(10)}

        assert at_once(8, act) == [{tuple(every)}] * 8

    def test_a_deleted_file_may_be_published_again(self, store: Store) -> None:
        first = put(store, "a", b"12345").file
        store.delete("a")
        second = put(store, "a", b"54321").file
        assert first.tag != second.tag
        staged = fill(stage(store), b"")
        staged.publish(how("a", REPLACE, if_match(second.tag)))
        assert store.stat("a").size == 0
