"""Disks that are really full, read-only, or two."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import DiskFull, NotAFolder, StorageDenied, StorageFailed, TooLarge
from forebay.model import Conflict
from forebay.stores.base import Staged
from forebay.stores.files.store import FileStore
from stores.filesystems import SIZES, MiB, filesystem, free, mounted, run, wait_for_free
from stores.processes import line, nudge, start_together, worker
from stores.samples import (
    ID,
    REPLACE,
    at_once,
    begin,
    file_store,
    fill,
    get,
    how,
    names_in,
    put,
    resume,
)

SLACK = MiB
"""What a filesystem may keep for folders and journals of its own."""


@pytest.fixture(params=list(SIZES))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with filesystem(request.param, tmp_path) as place:
        yield place


@pytest.fixture(params=["relaxed", "named"])
def store(request: pytest.FixtureRequest, disk: Path) -> Iterator[FileStore]:
    with file_store(disk / "root", request.param) as store:
        yield store


def fill_up(staged: Staged, size: int) -> int:
    """Writes until the disk is full; the number of whole writes of `size` bytes."""
    count = 0
    while True:
        try:
            fill(staged, bytes([count % 256]) * size)
        except DiskFull:
            return count
        count += 1


def test_a_full_disk_is_told_and_everything_of_the_upload_goes(
    store: FileStore, disk: Path
) -> None:
    put(store, "a", b"small")
    before = free(disk)
    for _ in range(2):
        staged = store.stage()
        count = fill_up(staged, 1_000_003)
        assert count > 0
        assert staged.offset == count * 1_000_003
        staged.discard()
        wait_for_free(disk, before - SLACK)
    assert names_in(store) == ["a"]
    assert get(store, "a") == b"small"
    assert os.listdir(disk / "root" / ".forebay" / "tmp") == []
    put(store, "b", b"b" * 1_000_003)


def test_what_a_failed_write_left_is_not_published(store: FileStore) -> None:
    """Bug: the part of a write that still fitted on the disk was in the published file."""
    staged = store.stage()
    count = fill_up(staged, 1_000_003)
    assert staged.publish(how("a")).file.size == count * 1_000_003
    assert get(store, "a") == b"".join(bytes([n % 256]) * 1_000_003 for n in range(count))


def test_bytes_taken_over_until_the_disk_is_full(store: FileStore) -> None:
    put(store, "source", b"0123456789" * 200_000)
    reader = store.open("source")
    size = reader.info.size
    ballast = store.stage()
    fill_up(ballast, 1_000_003)
    ballast.rollback(ballast.offset // 2)
    fill_up(ballast, 1_000_003)
    ballast.rollback(ballast.offset - 1_000_003)
    staged = store.stage()
    with contextlib.closing(reader), pytest.raises(DiskFull):
        for _ in range(1000):  # xfs shares the blocks, and needs few of its own
            place = staged.offset % size
            staged.append_from(reader, place, min(size - place, 70_001))
            fill(ballast, b"x" * 10_007)
    size = staged.offset
    ballast.discard()
    assert staged.publish(how("a")).file.size == size
    assert get(store, "a") == (b"0123456789" * (size // 10 + 1))[:size]


def test_resumable_data_goes_on_when_there_is_room_again(store: FileStore, disk: Path) -> None:
    put(store, "ballast", b"x" * 4 * MiB)
    staged = begin(store, ID)
    fill_up(staged, 1_000_003)
    offset = staged.commit(flush=True).offset
    staged.close()
    store.delete("ballast")
    wait_for_free(disk, 3 * MiB)
    staged = resume(store, ID, offset)
    fill(staged, b"y" * 1_000_003)
    assert staged.publish(how("a")).file.size == offset + 1_000_003


def test_a_reservation_that_fails_keeps_nothing(store: FileStore, disk: Path) -> None:
    """Bug: what could be allocated of it stayed allocated."""
    before = free(disk)
    staged = fill(store.stage(), b"12345")
    for size in (before + MiB, 2 * SIZES[disk.name], 1 << 50, 1 << 64):
        with pytest.raises((DiskFull, TooLarge)):
            staged.reserve(size)
        wait_for_free(disk, before - SLACK)
    store.min_free = before - 2 * MiB
    with pytest.raises(DiskFull):
        staged.reserve(3 * MiB)
    wait_for_free(disk, before - SLACK)
    staged.reserve(MiB)
    store.min_free = before + MiB
    with pytest.raises(DiskFull):
        staged.reserve(0)
    store.min_free = 0
    fill(staged, b"67")
    staged.publish(how("a"))
    assert get(store, "a") == b"1234567"


def test_what_was_reserved_and_not_used_is_given_back(store: FileStore, disk: Path) -> None:
    """Bug: a published file kept the blocks that were reserved for a longer one."""
    staged = store.stage()
    staged.reserve(8 * MiB)
    fill(staged, b"12345")
    assert os.fstat(staged.fd).st_blocks * 512 >= MiB
    staged.publish(how("a"))
    assert (disk / "root" / "a").stat().st_blocks * 512 <= 64 << 10
    for end in ("close", "resume", "claim"):
        staged = fill(begin(store, f"{ID}-{end}"), b"12345")
        staged.reserve(2 * MiB)
        if end != "close":  # as after kill -9
            fd = os.dup(staged.fd)
            os.close(staged.fd)
            staged.fd = -1
            os.close(fd)
            opened = (
                resume(store, f"{ID}-{end}", 5) if end == "resume" else store.claim(f"{ID}-{end}")
            )
            opened.publish(how(end))
        else:
            staged.close()
        data = disk / "root" / ".forebay" / "uploads" / f"{ID}-{end}"
        assert data.stat().st_blocks * 512 <= 64 << 10
        assert data.read_bytes() == b"12345"


def test_what_is_announced_and_does_not_come_takes_no_room(store: FileStore, disk: Path) -> None:
    before = free(disk)
    staged = [store.stage() for _ in range(10)]
    for each in staged:
        each.reserve(before * 9 // 10)
    wait_for_free(disk, before - SLACK)
    fill(staged[0], b"12345")
    assert os.fstat(staged[0].fd).st_blocks * 512 <= 2 * MiB
    put(store, "a", bytes(before // 2))
    for each in staged:
        each.discard()


def test_an_upload_takes_no_more_than_as_much_again_as_it_has(store: FileStore) -> None:
    staged = store.stage()
    staged.reserve(12 * MiB)
    for written in range(1, 6):
        fill(staged, bytes(MiB))
        taken = os.fstat(staged.fd).st_blocks * 512
        assert taken <= 2 * written * MiB + SLACK
    staged.discard()


def test_ten_at_once_share_the_last_room_and_leave_what_must_stay_free(
    store: FileStore, disk: Path
) -> None:
    share = free(disk) * 15 // 100
    store.min_free = free(disk) * 20 // 100
    staged = [store.stage() for _ in range(10)]

    def take(number: int) -> None:
        staged[number].reserve(share)
        for _ in range(share // MiB):
            fill(staged[number], b"x" * MiB)
            assert store.space().free >= store.min_free - SLACK

    outcomes = at_once(10, take)
    assert set(map(type, outcomes)) <= {type(None), DiskFull}
    assert outcomes.count(None) <= 6
    for each, outcome in zip(staged, outcomes, strict=True):
        if outcome is None:
            assert each.offset == share // MiB * MiB
        else:  # the rest of what it had taken is free again
            assert os.fstat(each.fd).st_blocks * 512 <= each.offset + SLACK
        each.discard()


def test_two_processes_do_not_both_get_the_last_room(disk: Path) -> None:
    root = disk / "root"
    with file_store(root):
        share = free(disk) * 30 // 100
    for size, count in ((share, 3), (2 * share, 1)):
        with (
            worker(root, "relaxed", "reserve", str(size), "5") as one,
            worker(root, "named", "reserve", str(size), "5") as two,
        ):
            start_together([one, two])
            assert int(line(one)) + int(line(two)) <= count
            for each in (one, two):
                nudge(each)
                each.wait()
        with file_store(root) as store:
            store.sweep_temporaries()  # the workers end without a word
            wait_for_free(disk, 3 * share)
            staged = store.stage()
            staged.reserve(size)
            staged.discard()
        wait_for_free(disk, 3 * share)


def test_what_must_stay_free_does(store: FileStore, disk: Path) -> None:
    store.min_free = free(disk) - 4 * MiB
    staged = [store.stage() for _ in range(10)]
    outcomes = at_once(10, lambda n: staged[n].write(memoryview(bytes(MiB)), 0))
    assert outcomes.count(None) <= 4
    assert free(disk) >= store.min_free
    assert set(map(type, outcomes)) <= {type(None), DiskFull}
    for each in staged:
        each.discard()
    wait_for_free(disk, store.min_free + 3 * MiB)
    last = store.stage()
    last.reserve(2 * MiB)
    last.discard()


def test_a_read_only_filesystem_denies_and_recovers(store: FileStore, disk: Path) -> None:
    put(store, "a", b"12345")
    begin(store, ID).close()
    run("mount", "-o", "remount,ro", str(disk))
    try:
        for call in (
            store.stage,
            store.probe,
            lambda: begin(store, f"{ID}-new"),
            lambda: resume(store, ID, 0),
            lambda: store.delete("a"),
            lambda: store.remove(ID),
            lambda: FileStore(str(disk / "new"), numbered=lambda n, _: n),
        ):
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(StorageDenied):
                call()
            assert len(os.listdir("/proc/self/fd")) == before
        assert store.sweep_temporaries() == 0
        assert get(store, "a") == b"12345"
    finally:
        run("mount", "-o", "remount,rw", str(disk))
    store.probe()
    put(store, "b", b"")
    store.remove(ID)
    assert names_in(store) == ["a", "b"]


@pytest.mark.parametrize("kind", ["strict", "relaxed", "named"])
def test_another_filesystem_inside_the_root_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    with file_store(root, kind) as store, mounted(root / "f", "-t", "tmpfs", "tmpfs"):
        for conflict in Conflict:
            with pytest.raises(NotAFolder, match="'f' is on another filesystem"):
                store.check_target(how("f/a", conflict))
            with pytest.raises(NotAFolder, match="'f' is on another filesystem"):
                put(store, "f/g/a", b"", conflict)
        assert os.listdir(root / "f") == []


@pytest.mark.parametrize("kind", ["strict", "relaxed", "named"])
def test_another_mount_of_the_same_filesystem_is_refused(tmp_path: Path, kind: str) -> None:
    """Bug: it has the same device number, and the failure of linkat was told as a broken disk."""
    root = tmp_path / "root"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "old").write_bytes(b"old")
    with (
        file_store(root, kind) as store,
        mounted(root / "f", "--bind", str(tmp_path / "other")),
    ):
        for conflict in Conflict:
            with pytest.raises(NotAFolder, match="'f' is another mount"):
                put(store, "f/a", b"", conflict)
        with pytest.raises(NotAFolder, match="'f' is another mount"):
            put(store, "f/old", b"", REPLACE)
        assert get(store, "f/old") == b"old"
        assert os.listdir(tmp_path / "other") == ["old"]
        assert os.listdir(root / ".forebay" / "tmp") == []


@pytest.mark.parametrize("part", ["", "tmp", "uploads"])
def test_the_own_folder_must_be_on_the_same_filesystem(tmp_path: Path, part: str) -> None:
    with file_store(tmp_path):
        pass
    with contextlib.ExitStack() as stack:
        stack.enter_context(mounted(tmp_path / ".forebay" / part, "-t", "tmpfs", "tmpfs"))
        with (
            pytest.raises(StorageFailed, match="must be on the filesystem of"),
            file_store(tmp_path),
        ):
            raise AssertionError("it was opened")
