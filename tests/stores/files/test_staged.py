"""The local store's staged files: what the contract cannot see, mostly bugs that were found."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import (
    DiskFull,
    NoDescriptors,
    NotFound,
    StorageError,
    SyncFailed,
)
from forebay.stores.files.store import FileStore
from stores.faults import break_call
from stores.samples import (
    EVERY_KIND,
    ID,
    begin,
    file_store,
    fill,
    get,
    how,
    names_in,
    open_descriptors,
    put,
    read,
    resume,
    staged_bytes,
)


@pytest.fixture(params=[*EVERY_KIND, "strict-named"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    with file_store(tmp_path / "root", request.param) as store:
        yield store


# --- writing ---


def test_the_rest_of_a_failed_write_counts_nowhere(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it was read by `seal`, and it was in the published file."""
    real = os.pwrite

    def half(fd: int, data: memoryview, offset: int) -> int:
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:5], offset)

    staged = fill(store.stage(), b"12345")
    for cut_fails in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            if cut_fails:
                break_call(patch, "ftruncate", errno.EIO)
            with pytest.raises(DiskFull):
                staged.write(memoryview(b"abcdefghij"), 5)
        assert staged.offset == 5
        assert cut_fails or staged_bytes(staged) == b"12345"
    assert staged.publish(how("a")).file.size == 5
    assert get(store, "a") == b"12345"


def test_short_writes_go_on(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    staged = fill(fill(store.stage(), b"0123456789"), b"abc")
    assert staged_bytes(staged) == b"0123456789abc"
    staged.discard()


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_bytes_are_copied_where_the_kernel_cannot(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    put(store, "a", b"0123456789" * 300_000)
    reader = store.open("a")
    staged = store.stage()
    with monkeypatch.context() as patch:
        break_call(patch, "copy_file_range", number)
        while staged.offset < reader.info.size:
            staged.append_from(reader, staged.offset, reader.info.size)
    assert staged_bytes(staged) == read(reader)
    staged.discard()


def test_a_copy_that_fails_leaves_the_offset(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"0123456789")
    reader = store.open("a")
    staged = fill(store.stage(), b"12345")
    real = os.pwrite
    with monkeypatch.context() as patch:
        break_call(patch, "copy_file_range", errno.EXDEV)
        break_call(patch, "pwrite", errno.ENOSPC, after=1)
        os.pwrite.real = lambda target, data, offset: real(target, data[:3], offset)
        with pytest.raises(DiskFull):
            staged.append_from(reader, 0, 10)
    reader.close()
    assert staged.offset == 5
    assert staged_bytes(staged) == b"12345"
    staged.publish(how("b"))
    assert get(store, "b") == b"12345"


def test_a_dead_upload_takes_and_confirms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_store(tmp_path, "strict") as store:
        staged = fill(store.stage(), b"12345")
        with monkeypatch.context() as patch:
            break_call(patch, "fdatasync", errno.EIO)
            with pytest.raises(SyncFailed):
                staged.commit(flush=True)
        for call in (
            lambda: staged.commit(flush=True),
            lambda: fill(staged, b"x"),
            lambda: staged.rollback(0),
            lambda: staged.reserve(10),
            lambda: staged.append_from(staged.seal(), 0, 1),
            lambda: staged.publish(how("a")),
        ):
            with pytest.raises(SyncFailed):
                call()
        staged.discard()
        assert names_in(store) == []


# --- ends ---


def test_named_temporaries_go_when_they_are_closed(store: FileStore) -> None:
    """Bug: they stayed until a sweep."""
    fill(store.stage(), b"12345").close()
    assert os.listdir(store.tmp_fd) == []


def test_discarding_never_raises(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: an error of unlink hid the one that it followed, and kept the descriptor."""
    before = open_descriptors()
    for staged in (store.stage(), begin(store, ID)):
        with monkeypatch.context() as patch:
            break_call(patch, "unlink", errno.EROFS)
            staged.discard()
    assert open_descriptors() == before
    store.claim(ID).discard()
    assert store.sweep_temporaries() == (0 if store.unnamed else 1)


def test_what_is_forgotten_is_only_closed(store: FileStore) -> None:
    """Bug: __del__ cut and unlinked, in a forked child as well, under its parent."""
    before = open_descriptors()
    staged = fill(begin(store, ID), b"12345")
    staged.offset = 1
    del staged
    assert open_descriptors() == before
    assert store.claim(ID).offset == 5


@pytest.mark.parametrize("method", ["claim", "resume", "remove"])
def test_a_file_whose_staging_name_goes_before_the_lock_is_nobodys_to_touch(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Bug: it was taken for an upload under way, and its time, so its tag, changed."""
    staged = fill(begin(store, ID), b"x" * 70_000)
    before = staged.publish(how("f.bin")).file
    lock = fcntl.flock

    def let_go_and_lock(fd: int, operation: int) -> None:
        staged.discard()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", let_go_and_lock)
    if method == "remove":
        store.remove(ID)
    else:
        with pytest.raises(NotFound):
            store.claim(ID) if method == "claim" else resume(store, ID, 70_000)
    assert store.stat("f.bin") == before


@pytest.mark.parametrize("call", ["fsync", "fchmod", "fstat"])
def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Bug: the descriptor, the lock and the data stayed."""
    with file_store(tmp_path, "strict-named") as store:
        before = open_descriptors()
        for create in (lambda: begin(store, ID), store.stage):
            if call == "fsync" and create == store.stage:
                continue
            with monkeypatch.context() as patch:
                break_call(patch, call, errno.EIO)
                with pytest.raises(StorageError):
                    create()
            assert open_descriptors() == before
            assert list(store.remains()) == []
            assert os.listdir(store.tmp_fd) == []


def test_a_store_that_cannot_be_opened_keeps_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_store(tmp_path, "strict"):
        pass
    before = open_descriptors()
    with monkeypatch.context() as patch:
        break_call(patch, "open", errno.EMFILE)
        with pytest.raises(NoDescriptors), file_store(tmp_path, "strict"):
            raise AssertionError("it was opened")
    assert open_descriptors() == before


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_a_store_whose_own_folder_cannot_be_opened_is_read_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    with file_store(tmp_path, "strict") as store:
        put(store, "a")
    before = open_descriptors()
    with monkeypatch.context() as patch:
        break_call(patch, "open", errno.EMFILE, after=allowed)
        with file_store(tmp_path, "strict") as store:
            assert store.stat("a").size == 7
            with pytest.raises(NoDescriptors):
                store.stage()
            monkeypatch.undo()
            patch.undo()
            assert get(store, "a") == b"content"
            store.stage().discard()
    assert open_descriptors() == before


def test_what_a_killed_replacement_left_goes_though_its_upload_goes_on(store: FileStore) -> None:
    """Bug: its second name stayed, and with it the room that the file takes once it is deleted."""
    staged = fill(begin(store, ID), b"abc")
    for name in ("0123.new", "4567.old"):
        os.link(ID, name, src_dir_fd=store.uploads_fd, dst_dir_fd=store.tmp_fd)
    assert store.sweep_temporaries() == 2  # locked by whoever goes on with it
    assert os.listdir(store.tmp_fd) == []
    assert staged.publish(how("f.bin")).file.size == 3
    staged.discard()
