"""The part of the contract that is about final names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from forebay.conditions import EntityTag, Preconditions
from forebay.errors import (
    InvalidName,
    NameTaken,
    NotAFolder,
    NotFound,
    PreconditionFailed,
    StorageFailed,
)
from forebay.model import Conflict
from forebay.protocol.names import numbered
from forebay.stores.base import Published, Store

from .contract import StoreContract
from .samples import (
    REFUSE,
    RENAME,
    REPLACE,
    at_once,
    fill,
    get,
    how,
    if_match,
    names_in,
    put,
    read,
    stage,
)

ABSENT = Preconditions(if_none_match=())
BAD_NAMES = ("", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".forebay/a", "a/.b", "a\0b")


class PublishingContract(StoreContract):
    many = 2000
    """Files of one name; less where each has to wait for a disk."""

    def test_a_file_is_what_was_staged_and_has_its_name_only_then(self, store: Store) -> None:
        staged = fill(stage(store), b"12345")
        assert names_in(store) == []
        published = staged.publish(how("a.txt"))
        assert published == Published(published.file, renamed=False, replaced=False)
        assert (published.file.name, published.file.size) == ("a.txt", 5)
        assert not published.file.is_folder
        assert store.stat("a.txt") == published.file
        assert get(store, "a.txt") == b"12345"

    def test_a_file_may_be_empty(self, store: Store) -> None:
        assert put(store, "a", b"").file.size == 0
        assert get(store, "a") == b""

    def test_folders_are_made_for_a_file(self, store: Store) -> None:
        published = put(store, "x/y z/ä/a.txt")
        assert published.file.name == "x/y z/ä/a.txt"
        assert get(store, "x/y z/ä/a.txt") == b"content"
        assert store.stat("x/y z").is_folder
        assert put(store, "x/y z/b").file.name == "x/y z/b"

    def test_a_name_that_leads_elsewhere_is_refused(self, store: Store) -> None:
        for bad in (*BAD_NAMES, "a\udc80"):
            with pytest.raises(InvalidName):
                put(store, bad)
            with pytest.raises(InvalidName):
                store.check_target(how(bad))
        assert names_in(store) == []

    # --- a taken name ---

    @pytest.mark.parametrize("conflict", [REFUSE, Conflict.AUTO])
    def test_a_taken_name_is_refused_and_may_be_tried_again(
        self, store: Store, conflict: Conflict
    ) -> None:
        put(store, "a", b"old")
        staged = fill(stage(store), b"new")
        for _ in range(2):
            with pytest.raises(NameTaken):
                staged.publish(how("a", conflict))
            with pytest.raises(NameTaken):
                store.check_target(how("a", conflict))
        assert get(store, "a") == b"old"
        staged.publish(how("b", conflict))
        assert get(store, "b") == b"new"

    @pytest.mark.parametrize(
        ("name", "second", "third"),
        [
            ("a.txt", "a (1).txt", "a (2).txt"),
            ("f/a.tar.gz", "f/a (1).tar.gz", "f/a (2).tar.gz"),
            ("noextension", "noextension (1)", "noextension (2)"),
        ],
    )
    def test_a_taken_name_is_numbered(
        self, store: Store, name: str, second: str, third: str
    ) -> None:
        for number, expected in enumerate((name, second, third)):
            store.check_target(how(name, RENAME))
            published = put(store, name, str(number).encode(), RENAME)
            assert published.file.name == expected
            assert published.renamed == (number > 0)
            assert not published.replaced
        assert [get(store, each) for each in (name, second, third)] == [b"0", b"1", b"2"]

    def test_thousands_of_one_name_stay_cheap(self, tmp_path: Path) -> None:
        tried = 0

        def counting(name: str, number: int) -> str:
            nonlocal tried
            tried += 1
            return numbered(name, number)

        with self.opened(tmp_path, numbered=counting) as store:  # type: ignore[attr-defined]
            for number in range(self.many):
                published = put(store, "a.txt", b"", RENAME)
                expected = f"a ({number}).txt" if number else "a.txt"
                assert published.file.name == expected
            assert tried <= self.many
            self.check_start_over(store, tmp_path, counting)
            # Whoever starts anew (MemoryStore does not) searches, and does not count.
            assert tried <= self.many + 60

    def check_start_over(self, store: Store, folder: Path, counting: Any) -> None:
        """Backends that outlive a process: a fresh store finds the next number quickly."""

    def test_a_free_name_is_told_without_taking_it(self, store: Store) -> None:
        for policy in (RENAME, REPLACE, Conflict.REFUSE):
            assert store.free_name(how("no/such/folder/a.txt", policy)) == "no/such/folder/a.txt"
            assert store.free_name(how("a.txt", policy)) == "a.txt"
        put(store, "a.txt")
        put(store, "a (1).txt")
        assert store.free_name(how("a.txt", REPLACE)) == "a.txt"
        assert store.free_name(how("a.txt", Conflict.REFUSE)) == "a.txt"
        for _ in range(2):
            assert store.free_name(how("a.txt", RENAME)) == "a (2).txt"
        assert put(store, "a.txt", b"", RENAME).file.name == "a (2).txt"

    def test_numbers_do_not_run_away(self, store: Store) -> None:
        for number in range(12):
            put(store, numbered("a", number) if number else "a")
        for number in range(12, 40):
            assert put(store, "a", b"", RENAME).file.name == f"a ({number})"
            store.delete(f"a ({number})")
            put(store, f"a ({number})")  # somebody else took it: no hint for us

    def test_a_replacement_takes_the_name(self, store: Store) -> None:
        old = put(store, "a", b"old" * 1000)
        store.check_target(how("a", REPLACE))
        new = put(store, "a", b"new", REPLACE)
        assert (new.replaced, new.renamed, new.file.name) == (True, False, "a")
        assert new.file.tag != old.file.tag
        assert get(store, "a") == b"new"
        assert names_in(store) == ["a"]

    def test_another_content_has_another_tag(self, store: Store) -> None:
        tags = {put(store, "a", b"%d" % n, REPLACE).file.tag for n in range(50)}
        assert len(tags) == 50
        assert store.stat("a").tag == store.stat("a").tag

    def test_a_file_has_an_identity_whatever_its_content(self, store: Store) -> None:
        first = put(store, "a", b"same").file.identity
        assert first == store.identity("a")
        second = put(store, "a", b"same", REPLACE).file.identity
        assert first != second == store.identity("a")
        with pytest.raises(PreconditionFailed):
            store.delete("a", identity=first)
        store.delete("a", identity=second)
        with pytest.raises(NotFound):
            store.identity("a")

    def test_replacing_nothing_is_publishing(self, store: Store) -> None:
        assert not put(store, "f/a", b"new", REPLACE).replaced
        assert get(store, "f/a") == b"new"

    # --- files and folders in each other's place ---

    def test_a_folder_has_the_name(self, store: Store) -> None:
        put(store, "f/a")
        for conflict in (REFUSE, Conflict.AUTO, REPLACE):
            with pytest.raises(NameTaken):
                put(store, "f", b"", conflict)
            with pytest.raises(NameTaken):
                store.check_target(how("f", conflict))
        with pytest.raises(NameTaken):
            put(store, "f", b"", REPLACE, if_match())
        assert put(store, "f", b"", RENAME).file.name == "f (1)"
        assert get(store, "f/a") == b"content"

    def test_a_file_is_no_folder(self, store: Store) -> None:
        put(store, "a", b"old")
        for inside in ("a/b", "a/b/c"):
            for conflict in Conflict:
                with pytest.raises(NotAFolder):
                    put(store, inside, b"", conflict)
                with pytest.raises(NotAFolder):
                    store.check_target(how(inside, conflict))
            with pytest.raises(NotAFolder):
                put(store, inside, b"", REFUSE, ABSENT)
        assert get(store, "a") == b"old"

    # --- preconditions ---

    def refused(self, store: Store, name: str, conflict: Conflict, condition: Any) -> None:
        before = names_in(store)
        with pytest.raises(PreconditionFailed):
            store.check_target(how(name, conflict, condition))
        with pytest.raises(PreconditionFailed):
            put(store, name, b"new", conflict, condition)
        assert names_in(store) == before

    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_if_none_match_any(self, store: Store, conflict: Conflict) -> None:
        assert not put(store, "a", b"old", conflict, ABSENT).renamed
        self.refused(store, "a", conflict, ABSENT)
        assert get(store, "a") == b"old"

    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_if_match_replaces_that_file_alone(self, store: Store, conflict: Conflict) -> None:
        tag = put(store, "a", b"first").file.tag
        for wrong in (if_match("other"), if_match(tag, weak=True), if_match("other", tag + "0")):
            self.refused(store, "a", conflict, wrong)
        assert put(store, "a", b"second", conflict, if_match("other", tag)).replaced
        self.refused(store, "a", conflict, if_match(tag))
        assert put(store, "a", b"third", conflict, if_match()).replaced
        assert get(store, "a") == b"third"
        assert names_in(store) == ["a"]

    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_if_match_over_nothing_makes_nothing_not_even_folders(
        self, store: Store, conflict: Conflict
    ) -> None:
        for condition in (if_match(), if_match("tag")):
            self.refused(store, "a", conflict, condition)
            self.refused(store, "f/g/a", conflict, condition)

    def test_if_unmodified_since(self, store: Store) -> None:
        modified = put(store, "a", b"old").file.mtime_ns // 10**9
        before = Preconditions(if_unmodified_since=modified - 1)
        since = Preconditions(if_unmodified_since=modified)
        for conflict in Conflict:
            self.refused(store, "a", conflict, before)
        with pytest.raises(NameTaken):
            put(store, "a", b"new", REFUSE, since)
        assert put(store, "a", b"new", RENAME, since).renamed
        assert put(store, "a", b"new", REPLACE, since).replaced

    def test_if_none_match_of_a_tag(self, store: Store) -> None:
        tag = put(store, "a", b"old").file.tag
        this = Preconditions(if_none_match=(EntityTag(tag, weak=True),))
        other = Preconditions(if_none_match=(EntityTag("other"),))
        for conflict in Conflict:
            self.refused(store, "a", conflict, this)
        with pytest.raises(NameTaken):
            put(store, "a", b"new", REFUSE, other)
        assert put(store, "a", b"new", RENAME, other).file.name == "a (1)"
        assert put(store, "a", b"new", REPLACE, other).replaced

    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_conditions_are_judged_again_at_publication(
        self, store: Store, conflict: Conflict
    ) -> None:
        """What held before the body came may not hold after it."""
        tag = put(store, "a", b"old").file.tag
        long_ago = Preconditions(if_unmodified_since=10**9)
        for name, condition in (("a", if_match(tag)), ("b", ABSENT), ("c", long_ago)):
            staged = fill(stage(store), b"mine")
            store.check_target(how(name, conflict, condition))
            put(store, name, b"theirs", REPLACE)
            with pytest.raises(PreconditionFailed):
                staged.publish(how(name, conflict, condition))
            staged.discard()
        assert [get(store, name) for name in "abc"] == [b"theirs"] * 3
        staged = fill(stage(store), b"mine")
        store.delete("a")
        with pytest.raises(PreconditionFailed):
            staged.publish(how("a", conflict, if_match()))
        staged.discard()
        assert names_in(store) == ["b", "c"]

    # --- deleting ---

    def test_deleting(self, store: Store) -> None:
        tag = put(store, "f/a").file.tag
        store.delete("f/a")
        for missing in ("f/a", "f", "g/a"):
            with pytest.raises(NotFound):
                store.delete(missing)
        put(store, "f/a", b"second")
        modified = store.stat("f/a").mtime_ns // 10**9
        for failing in (
            if_match(tag),
            ABSENT,
            Preconditions(if_unmodified_since=modified - 1),
        ):
            with pytest.raises(PreconditionFailed):
                store.delete("f/a", failing)
        store.delete("f/a", if_match(store.stat("f/a").tag))
        put(store, "f/a", b"third")
        with pytest.raises(NotAFolder):
            store.delete("f/a/b")
        store.delete("f/a", if_match())
        with pytest.raises(NotFound):
            store.stat("f/a")

    # --- races ---

    def test_of_many_at_once_one_has_the_name(self, store: Store) -> None:
        outcomes = at_once(16, lambda n: put(store, "f/g/a", b"%d" % n))
        assert sum(isinstance(each, Published) for each in outcomes) == 1
        assert sum(isinstance(each, NameTaken) for each in outcomes) == 15
        assert isinstance(outcomes[int(get(store, "f/g/a"))], Published)

    def test_of_many_at_once_all_are_numbered(self, store: Store) -> None:
        def act(number: int) -> dict[str, bytes]:
            mine = [b"%d-%d" % (number, n) * 100 for n in range(25)]
            return {put(store, "a.bin", each, RENAME).file.name: each for each in mine}

        stored: dict[str, bytes] = {}
        for outcome in at_once(8, act):
            assert isinstance(outcome, dict), outcome
            stored |= outcome
        assert len(stored) == 200
        assert {name: get(store, name) for name in names_in(store)} == stored

    def test_of_many_that_match_one_tag_one_wins(self, store: Store) -> None:
        for _ in range(10):
            tag = put(store, "a", b"old", REPLACE).file.tag
            outcomes = at_once(
                8, lambda n, tag=tag: put(store, "a", b"%d" % n, REPLACE, if_match(tag))
            )
            assert sum(isinstance(each, Published) for each in outcomes) == 1
            assert sum(isinstance(each, PreconditionFailed) for each in outcomes) == 7
            assert isinstance(outcomes[int(get(store, "a"))], Published)

    def test_a_name_is_never_missing_or_partial_while_it_is_replaced(self, store: Store) -> None:
        put(store, "a", b"0" * 70_000)
        done = threading.Event()

        def act(number: int) -> object:
            if number:
                for n in range(50):
                    put(store, "a", b"%d" % (n % 10) * 70_000, REPLACE)
                done.set()
                return None
            while not done.is_set():
                content = self.get_meanwhile(store, "a")
                assert len(content) == 70_000
                assert len(set(content)) == 1
            return None

        assert at_once(2, act) == [None, None]

    def get_meanwhile(self, store: Store, name: str) -> bytes:
        """What a client gets while the file is replaced."""
        return get(store, name)


class LastingContract(StoreContract):
    """What is true where a file is one thing on this machine: it lasts for whoever has opened it,
    and every publication has a tag of its own.
    """

    def test_readers_of_a_file_that_is_replaced_keep_it(self, store: Store) -> None:
        put(store, "a", b"old" * 1000)
        reader = store.open("a")
        put(store, "a", b"new", REPLACE)
        assert read(reader) == b"old" * 1000
        assert get(store, "a") == b"new"

    def test_readers_of_a_file_that_is_deleted_keep_it(self, store: Store) -> None:
        put(store, "f/a")
        reader = store.open("f/a")
        store.delete("f/a")
        assert read(reader) == b"content"

    def test_every_publication_has_a_tag_of_its_own(self, store: Store) -> None:
        contents = [b"aa", b"bb", b"aa", b""] * 50
        tags = {put(store, "a", content, REPLACE).file.tag for content in contents}
        assert len(tags) == 200
        assert store.stat("a").tag == store.stat("a").tag


class GuardedContract(StoreContract):
    """What is true where a file is read by requests: whoever has opened it gets all of it, or an
    error, and never bytes of another one.
    """

    @pytest.mark.parametrize("end", ["replaced", "deleted"])
    def test_readers_of_a_file_that_went_are_told(self, store: Store, end: str) -> None:
        put(store, "a", b"old" * 100_000)
        reader = store.open("a")
        buffer = memoryview(bytearray(1000))
        assert reader.read_into(buffer, 0)
        if end == "replaced":
            put(store, "a", b"new" * 100_000, REPLACE)
        else:
            store.delete("a")
        with pytest.raises(StorageFailed):
            reader.read_into(buffer, 200_000)
        reader.close()

    def test_the_same_content_has_the_same_tag(self, store: Store) -> None:
        assert put(store, "a", b"same").file.tag == put(store, "b", b"same").file.tag
