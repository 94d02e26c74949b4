"""Stores that compress at rest: the whole contract, and what tells a file compressed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import ConfigError, DiskFull, NameTaken, StorageFailed, SyncFailed
from forebay.stores.base import Space, Store
from forebay.stores.compressed import job as packing
from forebay.stores.compressed import store as wrapping
from forebay.stores.compressed.job import CompressionJob, Incompressible
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.seekable import FRAME
from forebay.stores.compressed.store import CompressedStore
from forebay.stores.files import staged as staging
from forebay.stores.reading import as_file

from .filesystems import mounted
from .samples import (
    ID,
    OTHER_ID,
    REFUSE,
    RENAME,
    REPLACE,
    begin,
    compressed_store,
    fill,
    how,
    names_in,
    open_descriptors,
    put,
)
from .samples import get as content
from .test_files import LocalContract

TEXT = b"".join(b"line %d of a log that says much the same\n" % n for n in range(60_000))
NOISE = random.Random(1).randbytes(100_000)


def every(name: str) -> bool:
    return True


class TestContract(LocalContract):
    """Whatever the contract asks for holds where every file is looked at for compressing."""

    kind = "relaxed"

    def make(self, folder: Path, **options: Any) -> Store:
        return CompressedStore(self.make_files(folder, attribute=ATTRIBUTE, **options), every)


class TestContractStrictNamed(TestContract):
    kind = "named"


@pytest.fixture(params=["strict", "relaxed", "named", "strict-named"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CompressedStore]:
    with compressed_store(tmp_path / "s", request.param, every) as found:
        yield found


def is_packed(store: Store, name: str) -> bool:
    return store.stat(name).stored_size is not None


def test_sizes_are_those_of_the_content_everywhere(store: CompressedStore, tmp_path: Path):
    published = put(store, "f/a", TEXT).file
    reader = store.open("f/a")
    reader.close()
    opened = reader.info
    (listed,) = store.list_folder("f")
    on_disk = (tmp_path / "s" / "f" / "a").stat().st_size
    assert published == opened == store.stat("f/a")
    assert (listed.size, listed.stored_size) == (opened.size, opened.stored_size)
    assert (opened.size, opened.stored_size) == (len(TEXT), on_disk)
    assert on_disk < len(TEXT) / 4
    assert content(store, "f/a") == TEXT
    assert store.sweep_temporaries() == 0


def test_every_length_around_a_frame_comes_back(store: CompressedStore):
    text = TEXT * 2
    for size in (0, 1, packing.LEAST, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 2 * FRAME + 7):
        put(store, "a", text[:size], REPLACE)
        assert content(store, "a") == text[:size]
        assert is_packed(store, "a") is (size >= FRAME - 1)


@pytest.mark.parametrize("data", [NOISE, TEXT[:3000], b""], ids=["noise", "small", "empty"])
def test_what_would_not_shrink_is_stored_as_it_is(
    store: CompressedStore, tmp_path: Path, data: bytes
):
    put(store, "a", data)
    assert not is_packed(store, "a")
    assert (tmp_path / "s" / "a").read_bytes() == data


def test_text_that_turns_into_noise_is_stored_as_it_is(store: CompressedStore, tmp_path: Path):
    data = TEXT[:FRAME] + random.Random(2).randbytes(2 * FRAME)
    put(store, "a", data)
    assert content(store, "a") == data


def test_preparing_in_turns_does_the_work_of_publishing(store: CompressedStore):
    data = TEXT * 20  # 50 MB
    staged = fill(store.stage(), data)
    turns = 0
    while not staged.prepare("a"):
        turns += 1
    assert turns >= 4
    staged.publish(how("a"))
    assert content(store, "a") == data


def test_what_is_appended_after_a_preparation_counts(store: CompressedStore):
    staged = fill(store.stage(), TEXT)
    while not staged.prepare("a"):
        pass
    fill(staged, TEXT)
    staged.publish(how("a"))
    assert content(store, "a") == TEXT + TEXT


def test_a_refused_publication_leaves_the_data_to_be_published(store: CompressedStore):
    put(store, "a", b"first")
    staged = fill(store.stage(), TEXT)
    for _ in range(2):
        with pytest.raises(NameTaken):
            staged.publish(how("a", REFUSE))
    assert staged.publish(how("a", RENAME)).file.name == "a (1)"
    assert content(store, "a (1)") == TEXT
    assert content(store, "a") == b"first"


def test_nothing_stays_open_or_on_the_disk(store: CompressedStore, tmp_path: Path):
    before = open_descriptors()
    for end in ("publish", "discard", "close"):
        staged = fill(store.stage(), TEXT)
        while not staged.prepare("a"):
            pass
        if end == "publish":
            staged.publish(how("a"))
        else:
            getattr(staged, end)()
    assert open_descriptors() == before
    assert os.listdir(tmp_path / "s" / ".forebay" / "tmp") == []


def test_a_mark_of_0_1_0_tells_which_upload_a_file_came_from(
    store: CompressedStore, tmp_path: Path
):
    put(store, "a", TEXT)
    assert store.published_from(ID, "a", "") is None
    path = tmp_path / "s" / "a"
    os.setxattr(path, ATTRIBUTE, b"1 %d %d %s" % (len(TEXT), path.stat().st_size, ID.encode()))
    found = store.published_from(ID, "a", "")
    assert found == store.stat("a")
    assert found.identity == store.identity("a")
    assert store.published_from(OTHER_ID, "a", "") is None
    for other in ("b", "a/b", "f/a"):
        assert store.published_from(ID, other, "") is None
    put(store, "a", TEXT, REPLACE)  # another's, of the same content
    assert store.published_from(ID, "a", "") is None


def test_resumable_data_is_known_by_the_identity_of_its_compressed_form(store: CompressedStore):
    staged = fill(begin(store, ID), TEXT)
    before = staged.identity
    while not staged.prepare("a"):
        pass
    identity = staged.identity
    assert identity != before
    published = staged.publish(how("a")).file
    staged.discard()
    assert published == store.published_from(ID, "a", identity) == store.stat("a")
    assert store.published_from(ID, "a", before) is None


def test_a_reader_of_the_content_reads_and_seeks_as_in_a_file(store: CompressedStore):
    before = open_descriptors()
    for name, data in (("packed", TEXT), ("plain", NOISE)):
        put(store, name, data)
        with as_file(store.open(name)) as reader:
            assert reader.read() == data
            assert reader.read(1) == b""
            for position in (0, 5, FRAME - 3, len(data) - 2, len(data) + 9):
                reader.seek(position)
                assert reader.read(10) == data[position : position + 10]
            assert reader.seek(-4, os.SEEK_END) == len(data) - 4
            assert reader.read() == data[-4:]
    assert open_descriptors() == before


def test_failing_for_want_of_room_or_of_the_disk_stores_it_as_it_is(
    store: CompressedStore, monkeypatch: pytest.MonkeyPatch
):
    staged = fill(store.stage(), TEXT)
    monkeypatch.setattr(store._store, "space", lambda: Space(1000, 2000))
    staged.publish(how("full"))
    monkeypatch.undo()
    for number, error in enumerate((StorageFailed(), DiskFull(), Incompressible())):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(CompressionJob, "_finish", fail)
        put(store, f"f{number}", TEXT)
        monkeypatch.undo()
    for info in store.list_folder(""):
        assert info.stored_size is None
        assert content(store, info.name) == TEXT
    assert store.sweep_temporaries() == 0


def test_a_failed_sync_of_the_compressed_form_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with compressed_store(tmp_path / "s", "strict", every) as store:
        staged = fill(store.stage(), TEXT)

        def fail(fd: int) -> None:
            raise SyncFailed

        monkeypatch.setattr(staging, "sync", fail)
        with pytest.raises(SyncFailed):
            staged.publish(how("a"))
        monkeypatch.undo()
        with pytest.raises(SyncFailed):  # its data is not trusted any more
            staged.publish(how("a"))
        staged.discard()
        assert names_in(store) == []
        assert os.listdir(tmp_path / "s" / ".forebay" / "tmp") == []


def test_no_content_makes_a_file_pass_for_compressed(tmp_path: Path):
    with compressed_store(tmp_path / "s", choose=lambda name: name == "a") as store:
        put(store, "a", TEXT)
        stolen = (tmp_path / "s" / "a").read_bytes()
        put(store, "b", stolen)
        assert (is_packed(store, "a"), is_packed(store, "b")) == (True, False)
        assert content(store, "b") == stolen


def test_a_file_that_others_filled_anew_is_what_they_made_it(
    store: CompressedStore, tmp_path: Path
):
    put(store, "a", TEXT)
    with (tmp_path / "s" / "a").open("wb") as file:  # the inode keeps its attributes
        file.write(b"by hand")
    assert ATTRIBUTE in os.listxattr(tmp_path / "s" / "a")
    assert content(store, "a") == b"by hand"


@pytest.mark.parametrize("value", [b"", b"1", b"2 5 5 ", b"1 -5 5 ", b"1 x 5 ", b"\xff" * 40])
def test_a_mark_that_is_none_of_ours_means_nothing(
    store: CompressedStore, tmp_path: Path, value: bytes
):
    put(store, "a", b"12345")
    os.setxattr(tmp_path / "s" / "a", ATTRIBUTE, value)
    assert content(store, "a") == b"12345"


def test_a_copy_with_its_attributes_and_a_store_without_the_setting_read_it(tmp_path: Path):
    with compressed_store(tmp_path / "s", choose=every) as store:
        put(store, "a", TEXT)
    shutil.copy2(tmp_path / "s" / "a", tmp_path / "s" / "b")
    with compressed_store(tmp_path / "s") as store:
        assert content(store, "a") == content(store, "b") == TEXT
        put(store, "c", TEXT)
        assert not is_packed(store, "c")
        store.delete("a")
        assert [info.name for info in store.list_folder("")] == ["b", "c"]


def test_only_what_is_chosen_is_compressed(tmp_path: Path):
    with compressed_store(tmp_path / "s", choose=lambda name: name.endswith(".txt")) as store:
        put(store, "f/a.txt", TEXT)
        put(store, "f/a.bin", TEXT)
        assert (is_packed(store, "f/a.txt"), is_packed(store, "f/a.bin")) == (True, False)


def test_a_filesystem_without_attributes_is_refused_at_once(tmp_path: Path):
    with (
        mounted(tmp_path / "ram", "-t", "ramfs", "ramfs"),
        pytest.raises(ConfigError, match="--compress-at-rest none"),
        compressed_store(tmp_path / "ram" / "s", "named", every),
    ):
        pass


def test_without_the_module_the_setting_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def missing() -> None:
        raise ConfigError("pip install 'forebay[zstd]'")

    monkeypatch.setattr(wrapping, "zstd", missing)
    with pytest.raises(ConfigError, match="zstd"), compressed_store(tmp_path / "s", choose=every):
        pass


def test_the_same_content_gets_another_tag_each_time(store: CompressedStore):
    tags = {put(store, "a", TEXT, REPLACE).file.tag for _ in range(20)}
    assert len(tags) == 20
