"""What an operator, or an enemy with an account, may put into the folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import NameTaken, NotAFolder, NotFound, StorageError
from forebay.model import Conflict, Durability
from forebay.stores.files.store import FileStore
from stores.samples import (
    EVERY_KIND,
    ID,
    REFUSE,
    RENAME,
    REPLACE,
    file_store,
    fill,
    get,
    how,
    if_match,
    names_in,
    put,
    resume,
)


@pytest.fixture(params=list(EVERY_KIND))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    with file_store(tmp_path / "root", request.param) as store:
        yield store


@pytest.fixture
def root(store: FileStore) -> Path:
    return Path(store.root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    return folder


def check_not_followed(store: FileStore, link: str) -> None:
    for call in (store.stat, store.open, store.delete):
        with pytest.raises(NotFound):
            call(link)
    for conflict in (REFUSE, Conflict.AUTO, REPLACE):
        with pytest.raises(NameTaken):
            store.check_target(how(link, conflict))
        with pytest.raises(NameTaken):
            put(store, link, b"new", conflict)
    with pytest.raises(NameTaken):
        put(store, link, b"new", RENAME, if_match())
    assert put(store, link, b"new", RENAME).file.name == f"{link} (1)"
    store.delete(f"{link} (1)")


def check_not_entered(store: FileStore, link: str) -> None:
    for call in (store.stat, store.open, store.delete):
        with pytest.raises(NotAFolder):
            call(f"{link}/secret")
    for path in (link, f"{link}/deeper"):
        with pytest.raises(NotAFolder):
            store.list_folder(path)
    for path in (f"{link}/new", f"{link}/deeper/new"):
        for conflict in Conflict:
            with pytest.raises(NotAFolder):
                store.check_target(how(path, conflict))
            with pytest.raises(NotAFolder):
                put(store, path, b"new", conflict)


def test_links_are_followed_nowhere(store: FileStore, root: Path, outside: Path) -> None:
    put(store, "f/inside")
    targets = {
        "outside": outside / "secret",
        "inside": root / "f" / "inside",
        "relative": Path("f/inside"),
        "folder": outside,
        "inner-folder": Path("f"),
        "dangling": outside / "nothing",
        "itself": root / "itself",
        "own": root / ".forebay" / "uploads",
    }
    for name, target in targets.items():
        (root / name).symlink_to(target)
    for name, target in targets.items():
        check_not_followed(store, name)
        check_not_entered(store, name)
        assert os.readlink(root / name) == str(target)
    assert names_in(store) == ["f"]
    assert names_in(store, "f") == ["inside"]
    assert [each.name for each in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_link_in_the_middle_of_a_path_is_not_entered(
    store: FileStore, root: Path, outside: Path
) -> None:
    put(store, "f/g/a")
    (outside / "deeper").mkdir()
    (root / "f" / "link").symlink_to(outside)
    check_not_entered(store, "f/link")
    assert names_in(store, "f") == ["g"]


def test_a_folder_swapped_for_a_link_after_the_check(
    store: FileStore, root: Path, outside: Path
) -> None:
    put(store, "f/a")
    staged = fill(store.stage(), b"new")
    store.check_target(how("f/b"))
    (root / "f").rename(root / "g")
    (root / "f").symlink_to(outside)
    with pytest.raises(NotAFolder):
        staged.publish(how("f/b"))
    staged.discard()
    assert [each.name for each in outside.iterdir()] == ["secret"]


def test_a_folder_swapped_between_two_steps_of_the_walk(
    store: FileStore, root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened before the swap is gone on with; the link is never entered."""
    put(store, "f/g/a")
    (outside / "g").mkdir()
    real = os.open

    def swapping(path: bytes, *arguments: object, **more: object) -> int:
        if path == b"g":
            (root / "f").rename(root / "moved")
            (root / "f").symlink_to(outside)
            monkeypatch.setattr(os, "open", real)
        return real(path, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapping)
    put(store, "f/g/b", b"new")
    assert (root / "moved" / "g" / "b").read_bytes() == b"new"
    assert list((outside / "g").iterdir()) == []


def test_a_name_taken_by_a_link_after_the_check(
    store: FileStore, root: Path, outside: Path
) -> None:
    for conflict, preconditions in ((REFUSE, None), (REPLACE, None), (RENAME, if_match())):
        if preconditions:
            put(store, "a", b"old")
        staged = fill(store.stage(), b"new")
        wish = how("a", conflict, preconditions) if preconditions else how("a", conflict)
        store.check_target(wish)
        (root / "a").unlink(missing_ok=True)
        (root / "a").symlink_to(outside / "secret")
        with pytest.raises(NameTaken):
            staged.publish(wish)
        staged.discard()
        (root / "a").unlink()
    assert (outside / "secret").read_bytes() == b"secret"


def test_what_is_no_file_is_not_there_and_in_the_way(store: FileStore, root: Path) -> None:
    """Bug: stat told of links and pipes as files, delete and replace removed them."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")  # its path may be too long
        os.close(here)
        for name in ("pipe", "socket"):
            check_not_followed(store, name)
            check_not_entered(store, name)
            assert (root / name).exists()
    assert names_in(store) == []


def test_hidden_and_unreadable_names_are_not_listed(store: FileStore, root: Path) -> None:
    put(store, "a")
    (root / ".hidden").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"")
    assert names_in(store) == ["a"]
    assert [info.name for info in store.list_folder("", after=".")] == ["a"]


def test_a_page_is_full_though_links_are_left_out(store: FileStore, root: Path) -> None:
    for number in range(20):
        (root / f"{number:02}").symlink_to("nowhere")
    put(store, "a")
    put(store, "b")
    assert [info.name for info in store.list_folder("", limit=1)] == ["a"]
    assert [info.name for info in store.list_folder("", limit=2)] == ["a", "b"]


def test_foreign_things_among_the_staged_data(store: FileStore, root: Path) -> None:
    own = root / ".forebay"
    (own / "tmp" / "folder").mkdir()
    (own / "tmp" / "link").symlink_to("/etc/passwd")
    (own / "tmp" / "left").write_bytes(b"by a dead process")
    (own / "uploads" / "short").write_bytes(b"")
    (own / "uploads" / ID).symlink_to("/etc/passwd")
    assert store.sweep_temporaries() == 1
    with pytest.raises(StorageError):
        store.claim(ID)
    with pytest.raises(StorageError):
        resume(store, ID, 0)
    assert sorted(os.listdir(own / "tmp")) == ["folder", "link"]


def test_a_store_is_not_made_where_its_own_folder_leads_elsewhere(
    tmp_path: Path, outside: Path
) -> None:
    """Bug: such a failure kept descriptors open, and made folders behind the link."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".forebay").symlink_to(outside)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StorageError):
        FileStore(str(tmp_path / "r"), durability=Durability.RELAXED, numbered=lambda n, _: n)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert [each.name for each in outside.iterdir()] == ["secret"]


def test_the_root_may_be_a_link_of_the_operator(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    with file_store(tmp_path / "link") as store:
        put(store, "a")
        assert get(store, "secret") == b"secret"
    assert (outside / "a").read_bytes() == b"content"
