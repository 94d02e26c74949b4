"""Folders that were made for an upload go again when they are empty."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from forebay.errors import NameTaken
from forebay.model import Conflict
from forebay.protocol.names import numbered
from forebay.stores.base import Publication
from forebay.stores.files.folders import MADE
from forebay.stores.files.store import FileStore
from stores.samples import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    try:
        os.setxattr(tmp_path, MADE, b"1")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore(str(root), numbered=numbered)


def folders(root: Path) -> list[str]:
    return sorted(
        str(each.relative_to(root))
        for each in root.rglob("*")
        if each.is_dir() and ".forebay" not in each.parts
    )


def test_the_folders_of_a_deleted_file_go_with_it(store: FileStore, root: Path) -> None:
    """Bug: a path of 64 levels made 63 folders that nothing removed."""
    deep = "/".join(f"d{n}" for n in range(63))
    put(store, f"{deep}/a", b"x")
    put(store, "d0/d1/b", b"y")
    store.delete(f"{deep}/a")
    assert folders(root) == ["d0", "d0/d1"]
    store.delete("d0/d1/b")
    assert folders(root) == []


def test_folders_that_an_operator_made_stay(store: FileStore, root: Path) -> None:
    (root / "incoming").mkdir()
    put(store, "incoming/today/a", b"x")
    store.delete("incoming/today/a")
    assert folders(root) == ["incoming"]


def test_a_publication_that_is_refused_leaves_no_folder(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> str:
        raise NameTaken

    monkeypatch.setattr(store.publisher, "_link_first_free", taken)
    staged = store.stage()
    with pytest.raises(NameTaken):
        staged.publish(Publication("new/folder/a", Conflict.REFUSE))
    staged.discard()
    assert folders(root) == []


def test_files_come_into_a_folder_that_others_empty_meanwhile(store: FileStore, root: Path) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(100):
                name = f"a/b/{number}-{turn}"
                put(store, name, b"x")
                store.delete(name)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert folders(root) == []
