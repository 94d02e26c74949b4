"""Each system call of each operation fails once: nothing stays open or locked, and no lie told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import ForebayError, SyncFailed, UploadError
from forebay.locks.files import FileLocks
from forebay.stores.files.staged import StagedFile
from forebay.stores.files.store import FileStore
from stores.faults import Step, descriptors
from stores.samples import (
    ID,
    OTHER_ID,
    RENAME,
    REPLACE,
    begin,
    file_store,
    fill,
    get,
    how,
    put,
    record_of,
    resume,
)

Operation = Callable[[FileStore], Any]


def published(conflict: Any = None, *, kept: bool = False) -> Operation:
    def act(store: FileStore) -> Any:
        staged = begin(store, OTHER_ID) if kept else store.stage()
        try:
            fill(staged, b"new")
            return staged.publish(how("f/new", *([conflict] if conflict else [])))
        finally:
            staged.discard()

    return act


def opened(store: FileStore) -> None:
    store.open("old").close()


def claimed(store: FileStore) -> None:
    store.claim(ID).close()


def cut(store: FileStore) -> None:
    """Of data that a backup has linked."""
    staged = store.claim(ID)
    try:
        staged.rollback(2)
    finally:
        staged.close()


def written_again(store: FileStore) -> None:
    """Of data whose mode somebody changed."""
    staged = store.claim(ID)
    assert isinstance(staged, StagedFile)
    staged._readonly = True
    try:
        fill(staged, b"67")
    finally:
        staged.close()


def locked(store: FileStore) -> None:
    lock = FileLocks(lambda: store.own_fd).try_acquire("a job")
    assert lock is not None
    lock.release()


OPERATIONS: dict[str, Operation] = {
    "open": opened,
    "stat": lambda store: store.stat("old"),
    "list": lambda store: store.list_folder(""),
    "identity": lambda store: store.identity("old"),
    "publish": published(),
    "publish renamed": published(RENAME),
    "publish replacing": published(REPLACE),
    "publish kept": published(kept=True),
    "delete": lambda store: store.delete("old"),
    "create": lambda store: begin(store, OTHER_ID).close(),
    "claim": claimed,
    "resume": lambda store: resume(store, ID, 5).close(),
    "cut": cut,
    "write again": written_again,
    "remove": lambda store: store.remove(ID),
    "published from": lambda store: store.published_from(ID, "old", ""),
    "open staged": lambda store: store.open_staged(record_of(ID), ()).close(),
    "sweep": lambda store: store.sweep_temporaries(),
    "lock": locked,
    "probe": lambda store: store.probe(),
    "refresh": lambda store: store.refresh(),
    "check": lambda store: store.check_target(how("f/new")),
}


def prepare(folder: Path, kind: str) -> None:
    with file_store(folder, kind) as store:
        put(store, "old", b"old")
        put(store, "f/old", b"old")
        fill(begin(store, ID), b"12345").close()
    os.link(folder / ".forebay" / "uploads" / ID, folder / ".forebay" / "backup")
    (folder / ".forebay" / "tmp" / "0123456789abcdef").touch()
    (folder / ".forebay" / "tmp" / "0123.new").touch()


def holds(store: FileStore, name: str, outcome: Any) -> None:
    """What was said is so, and everything can go on."""
    there = Path(store.root, "f", "new").exists()
    if name.startswith("publish") and name != "published from":
        assert there == (not isinstance(outcome, Exception)), outcome
    if name == "delete":
        gone = outcome is None or isinstance(outcome, SyncFailed)  # gone, but not for sure
        assert Path(store.root, "old").exists() != gone
    elif name != "remove":
        assert get(store, "old") == b"old"
        staged = store.claim(ID)  # not locked by anybody
        assert staged.offset in (2, 5, 7)
        staged.close()
    assert Path(store.root, ".forebay", "backup").read_bytes() in (b"12345", b"1234567")
    put(store, "after")
    store.delete("after")


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE], ids=["EIO", "EMFILE"])
@pytest.mark.parametrize("kind", ["strict", "named"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_step_that_fails_keeps_nothing(tmp_path: Path, name: str, kind: str, error: int) -> None:
    """Bug: a descriptor whose fstat failed stayed open and locked; and a file that had its name
    already was said to be refused.
    """
    number, failed = 0, True
    while failed:
        number += 1
        folder = tmp_path / str(number)
        prepare(folder, kind)
        with file_store(folder, kind) as store:
            before, step = descriptors(), Step(number, error)
            outcome: Any
            with step.armed():
                try:
                    outcome = OPERATIONS[name](store)
                except UploadError as refused:
                    outcome = refused
                except OSError as raised:  # of the test's own call
                    assert step.failed in ("close", "open"), (name, step.failed)
                    outcome = raised
            failed = step.failed is not None
            assert descriptors() == before, (number, step.failed)
            holds(store, name, outcome)
    assert number > 1


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE], ids=["EIO", "EMFILE"])
@pytest.mark.parametrize("kind", ["strict", "named"])
def test_a_start_that_fails_at_a_step_keeps_nothing(tmp_path: Path, kind: str, error: int) -> None:
    prepare(tmp_path, kind)
    number, failed, before = 0, True, descriptors()
    while failed:
        number += 1
        step = Step(number, error)
        with step.armed():
            try:
                with file_store(tmp_path, kind) as store:
                    pass
            except ForebayError:
                pass
        failed = step.failed is not None
        assert descriptors() == before, (number, step.failed)
    with file_store(tmp_path, kind) as store:
        assert get(store, "old") == b"old"
