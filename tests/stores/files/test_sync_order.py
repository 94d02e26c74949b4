"""In what order the disk is asked, and what follows when it says no."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stores.samples import ID, begin, file_store, get, names_in, put
from stores.tracing import traced

STRICT = pytest.mark.parametrize("kind", ["strict", "strict-named"])
OPENING = 2
"""The calls of fsync with which a strict store is opened: its own folder and the root."""
WHOLE = [*(f"{n} done {(n + 1) * 4096}" for n in range(3)), "3 done 12288", "4 done 12288"]
"""What the worker says of its first steps: three writes, two commits."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    with file_store(folder) as store:
        put(store, "old", b"old")
    return folder


def temporaries(root: Path) -> list[str]:
    return os.listdir(root / ".forebay" / "tmp")


@STRICT
def test_strict_data_is_synced_before_its_name_and_the_name_after(root: Path, kind: str) -> None:
    trace = traced(root, kind, "upload", "f/g/a", "refuse")
    assert trace.said[:6] == [*WHOLE, "5 done 12288"]
    named = trace.find("linkat", ', "a",')
    last_write = max(n for n, call in enumerate(trace.calls) if call.name == "pwrite64")
    data = next(
        n
        for n, call in enumerate(trace.calls)
        if call.name == "fsync" and n > last_write and call.result == 0
    )
    assert f"{root}/.forebay/" in trace.calls[data].file
    assert last_write < data < named < trace.synced(f"{root}/f/g", after=named)
    for parent, made in ((root, "f"), (root / "f", "g")):
        at = trace.find("mkdirat", f'"{made}"')
        assert at < trace.synced(str(parent), after=at) < named


@STRICT
def test_a_strict_replacement_is_synced_before_and_after(root: Path, kind: str) -> None:
    trace = traced(root, kind, "upload", "old", "replace")
    assert trace.said[5] == "5 done 12288"
    renamed = trace.find("renameat", '"old"')
    aside = trace.find("linkat", ".new")
    data = [n for n, call in enumerate(trace.calls) if call.name == "fsync"][OPENING]
    assert f"{root}/.forebay/" in trace.calls[data].file
    assert data < aside < renamed < trace.synced(str(root), after=renamed)
    assert temporaries(root) == []


def test_a_folder_that_exists_is_synced_once_too(root: Path) -> None:
    """A sibling may have made it, and not have synced it yet."""
    (root / "f").mkdir()
    trace = traced(root, "strict", "upload", "f/a", "refuse")
    assert trace.synced(str(root), after=OPENING - 1) < trace.find("linkat", ', "a",')


def test_a_root_that_was_missing_is_synced_to_the_first_folder_there(tmp_path: Path) -> None:
    """Bug: after a power loss the whole new root could be missing."""
    trace = traced(tmp_path / "x" / "y" / "z", "strict", "make")
    for folder in ("x/y/z/.forebay", "x/y/z", "x/y", "x", ""):
        trace.synced(str(tmp_path / folder))
    assert trace.count("fsync") == 5


def test_a_resumable_upload_survives_from_its_creation(root: Path) -> None:
    trace = traced(root, "strict", "create", ID)
    assert trace.said == ["done"]
    trace.synced(f"{root}/.forebay/uploads")


@pytest.mark.parametrize("kind", ["relaxed", "named"])
@pytest.mark.parametrize("name", ["f/g/a", "old"])
def test_relaxed_never_waits_for_the_disk(root: Path, kind: str, name: str) -> None:
    trace = traced(root, kind, "upload", name, "replace")
    assert trace.said[:6] == [*WHOLE, "5 done 12288"]
    assert trace.count("fsync") == trace.count("fdatasync") == 0


@STRICT
def test_after_a_failed_commit_the_upload_is_dead(root: Path, kind: str) -> None:
    trace = traced(root, kind, "upload", "a", "refuse", inject="fdatasync:error=EIO:when=1")
    assert trace.said[3:7] == [f"{n} SyncFailed 12288" for n in (3, 4, 5, 6)]
    assert trace.count("fdatasync") == 1
    assert trace.count("fsync") == OPENING
    with file_store(root) as store:
        assert names_in(store) == ["old"]
    assert temporaries(root) == []


@STRICT
@pytest.mark.parametrize("name", ["a", "old"])
@pytest.mark.parametrize("failing", ["data", "folder"])
def test_after_a_failed_sync_nothing_has_the_name_but_what_had_it(
    root: Path, kind: str, name: str, failing: str
) -> None:
    """Bug: when the sync of the folder failed, the file that was replaced was lost."""
    with file_store(root) as store:
        before = store.stat("old")
    number = OPENING + (1 if failing == "data" else 2)
    trace = traced(root, kind, "upload", name, "replace", inject=f"fsync:error=EIO:when={number}")
    assert trace.said[:7] == [*WHOLE, "5 SyncFailed 12288", "6 SyncFailed 12288"]
    assert trace.count("fsync") == number
    with file_store(root) as store:
        assert names_in(store) == ["old"]
        assert get(store, "old") == b"old"
        assert store.stat("old") == before
    assert temporaries(root) == []


@STRICT
def test_a_name_that_was_not_synced_is_taken_back(root: Path, kind: str) -> None:
    trace = traced(
        root, kind, "upload", "a", "rename", inject=f"fsync:error=EIO:when={OPENING + 2}"
    )
    assert trace.find("linkat", '"a"')
    assert trace.said[5:7] == ["5 SyncFailed 12288", "6 SyncFailed 12288"]
    with file_store(root) as store:
        assert names_in(store) == ["old"]


def test_a_creation_that_was_not_synced_leaves_nothing(root: Path) -> None:
    """Bug: its descriptor, its lock and its data stayed."""
    inject = f"fsync:error=EIO:when={OPENING + 1}"
    assert traced(root, "strict", "create", ID, inject=inject).said == ["SyncFailed"]


@pytest.mark.parametrize("kind", ["strict", "relaxed", "named"])
def test_a_write_that_finds_no_room_leaves_the_offset(root: Path, kind: str) -> None:
    trace = traced(root, kind, "upload", "a", "refuse", inject="pwrite64:error=ENOSPC:when=3")
    assert trace.said[:6] == [
        "0 done 4096",
        "1 done 8192",
        "2 DiskFull 8192",
        "3 done 8192",
        "4 done 8192",
        "5 done 8192",
    ]
    with file_store(root) as store:
        assert get(store, "a") == b"a" * 4096 + b"b" * 4096


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        ("linkat", "EDQUOT", "QuotaExceeded"),
        ("linkat", "EIO", "StorageFailed"),
        ("renameat", "ENOSPC", "DiskFull"),
    ],
)
def test_a_publication_that_fails_changes_nothing(
    root: Path, call: str, error: str, told: str
) -> None:
    # The first linkat is that of the store's own trial.
    inject = f"{call}:error={error}:when={2 if call == 'linkat' else 1}"
    trace = traced(root, "relaxed", "upload", "old", "replace", inject=inject)
    assert trace.said[5] == f"5 {told} 12288"
    with file_store(root) as store:
        assert names_in(store) == ["old"]
    assert temporaries(root) == []


@pytest.mark.parametrize("kind", ["strict", "relaxed"])
def test_a_name_that_is_found_after_a_crash_is_synced_before_it_counts(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: its process was killed before it synced the folder, the restart said that it is there
    and removed the other name, and a power loss then took the file.
    """
    with file_store(root, kind) as store:
        staged = begin(store, ID)
        staged.write(memoryview(b"abc"), 0)
        os.link(root / ".forebay" / "uploads" / ID, root / "a")  # what the dead one did
        synced: list[str] = []
        fsync = os.fsync
        monkeypatch.setattr(
            os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
        )
        assert store.published_from(ID, "b", "") is None
        assert synced == []
        assert store.published_from(ID, "a", "") == store.stat("a")
        assert synced == ([str(root)] if kind == "strict" else [])
        staged.close()
