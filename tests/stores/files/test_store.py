"""The local store's published files: what the contract cannot see, mostly bugs that were found."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import (
    InvalidName,
    NameTaken,
    NoDescriptors,
    StorageDenied,
    SyncFailed,
)
from forebay.stores.files.store import FileStore
from stores.faults import break_call
from stores.samples import (
    EVERY_KIND,
    ID,
    RENAME,
    REPLACE,
    begin,
    file_store,
    fill,
    get,
    how,
    if_match,
    names_in,
    publish,
    put,
)


@pytest.fixture(params=[*EVERY_KIND, "strict-named"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    with file_store(tmp_path / "root", request.param) as store:
        yield store


# --- publication ---


def test_errors_of_the_disk_are_told_as_ours(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "f/a")
    with monkeypatch.context() as patch:
        break_call(patch, "stat", errno.EACCES)
        for call in (
            lambda: store.stat("f/a"),
            lambda: store.delete("f/a"),
            lambda: store.check_target(how("f/b")),
            lambda: store.published_from(ID, "f/a", ""),
            lambda: store.list_folder("f"),
            lambda: put(store, "f/b", b"", REPLACE),
        ):
            with pytest.raises(StorageDenied):
                call()
    with monkeypatch.context() as patch:
        break_call(patch, "open", errno.EMFILE)
        for call in (
            store.stage,
            store.sweep_temporaries,
            lambda: list(store.remains()),
            lambda: store.open("f/a"),
            lambda: store.claim(ID),
            lambda: begin(store, ID),
        ):
            with pytest.raises(NoDescriptors):
                call()
    with pytest.raises(InvalidName):
        store.stat("x" * 300)
    with pytest.raises(InvalidName):
        put(store, "x" * 300)
    assert names_in(store, "f") == ["a"]


def test_a_failure_after_publication_is_not_told_as_one_of_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the staging name could not be removed, so a published file was told as refused."""
    staged = fill(store.stage(), b"12345")
    with monkeypatch.context() as patch:
        break_call(patch, "unlink", errno.EIO)
        staged.publish(how("a"))
    assert get(store, "a") == b"12345"


def test_a_name_taken_back_is_not_that_of_who_replaced_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: after a failed sync of the folder, whatever had the name was removed."""
    with file_store(tmp_path, "strict") as store, file_store(tmp_path) as other:
        real = os.fsync

        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                put(other, "a", b"theirs", REPLACE)
                raise OSError(errno.EIO, "broken")
            real(fd)

        staged = fill(store.stage(), b"mine")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(SyncFailed):
                staged.publish(how("a"))
        assert get(store, "a") == b"theirs"


def test_a_file_that_cannot_be_kept_aside_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fs.protected_hardlinks forbids it for files of other owners."""
    with file_store(tmp_path, "strict") as store:
        put(store, "a", b"old")
        with monkeypatch.context() as patch:
            break_call(patch, "link", errno.EPERM, after=1)
            put(store, "a", b"new", REPLACE)
        assert get(store, "a") == b"new"


def test_a_folder_made_again_is_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with the inode number of one that was removed it was taken for one known to be."""
    synced = []
    with file_store(tmp_path, "strict") as store:
        real = os.fsync
        root = os.stat(tmp_path)
        monkeypatch.setattr(
            os, "fsync", lambda fd: (synced.append(os.path.samestat(os.fstat(fd), root)), real(fd))
        )
        for _ in range(3):
            put(store, "f/a")
            store.delete("f/a")
            with contextlib.suppress(FileNotFoundError):  # it went with its last file
                (tmp_path / "f").rmdir()
            assert synced.count(True) == 1
            synced.clear()


def test_tags_differ_though_inodes_are_used_again_within_one_tick(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a replacement of equal size could have the tag of a file two before it."""
    tags, inodes = set(), set()
    for number in range(100):
        info = put(store, "a", b"%03d" % number, REPLACE).file
        tags.add(info.tag)
        inodes.add(info.tag.split("-")[0])
    assert len(tags) == 100
    assert len(inodes) < 100, "inodes are not used again here, so nothing was tried"


def test_a_condition_that_fails_makes_no_folder(store: FileStore) -> None:
    """Bug: If-Match over nothing left empty folders behind."""
    with pytest.raises(Exception, match="state"):
        put(store, "f/g/a", b"", REPLACE, if_match("x"))
    assert not (Path(store.root) / "f").exists()


def test_a_folder_in_the_way_is_seen_at_the_rename_as_well(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(*arguments: Any, **more: Any) -> None:
        (Path(store.root) / "a").mkdir()
        real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(NameTaken):
            put(store, "a", b"", REPLACE)
    assert os.listdir(store.tmp_fd) == []


def test_a_sweep_in_the_middle_of_a_replacement_leaves_its_second_name(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: that of data without a name of its own was swept, and the rename failed."""
    flock = fcntl.flock
    rename = os.rename
    swept = []

    def at_the_rename(*arguments: Any, **more: Any) -> None:
        # It would wait for the lock on names; here it finds it taken.
        monkeypatch.setattr(fcntl, "flock", lambda fd, how: flock(fd, how | fcntl.LOCK_NB))
        swept.append(other.sweep_temporaries())
        monkeypatch.setattr(fcntl, "flock", flock)
        rename(*arguments, **more)

    with file_store(Path(store.root)) as other:
        put(store, "a", b"old")
        monkeypatch.setattr(os, "rename", at_the_rename)
        put(store, "a", b"new", REPLACE)
        assert swept == [0]
        assert get(store, "a") == b"new"
        assert other.sweep_temporaries() == 0


def test_modes_that_forbid_writing(tmp_path: Path) -> None:
    with file_store(tmp_path, "relaxed", file_mode=0o444, folder_mode=0o2755) as store:
        staged = fill(begin(store, ID), b"12345")
        data = tmp_path / ".forebay" / "uploads" / ID
        assert data.stat().st_mode & 0o7777 == 0o644
        publish(staged, "f/a")
        assert (tmp_path / "f" / "a").stat().st_mode & 0o7777 == 0o444
        assert (tmp_path / "f").stat().st_mode & 0o0777 == 0o755
        store.claim(ID).close()
        store.remove(ID)


def test_a_set_group_id_bit_is_handed_down(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    os.chmod(tmp_path / "root", 0o2777)
    with file_store(tmp_path / "root") as store:
        old = os.umask(0o077)
        try:
            put(store, "f/a")
        finally:
            os.umask(old)
    assert (tmp_path / "root" / "f").stat().st_mode & 0o7777 == 0o2750


def test_a_file_open_while_others_number_it(store: FileStore) -> None:
    """Numbers found by one store are only a hint for another."""
    with file_store(Path(store.root)) as other:
        for number in range(1, 30):
            owner = (store, other)[number % 2]
            put(owner, "a" if number == 1 else f"a ({number - 1})")
        assert put(other, "a", b"", RENAME).file.name == "a (29)"
        assert put(store, "a", b"", RENAME).file.name == "a (30)"


def test_a_replacement_waits_for_another(tmp_path: Path) -> None:
    with file_store(tmp_path) as store, file_store(tmp_path) as other:
        tag = put(store, "a").file.tag
        done = threading.Event()

        def replace() -> None:
            put(other, "a", b"new", REPLACE, if_match(tag))
            done.set()

        thread = threading.Thread(target=replace)
        with store.publisher.locked():
            thread.start()
            assert get(store, "a") == b"content"
            assert not done.is_set()
        thread.join()
        assert get(store, "a") == b"new"
