"""What every kind of locks has to keep, and what is special about those in files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import StorageDenied
from forebay.locks.base import Locks
from forebay.locks.files import NAME, FileLocks
from forebay.locks.memory import MemoryLocks


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(params=["files", "memory"])
def locks(request: pytest.FixtureRequest, folder: int) -> Locks:
    return FileLocks(lambda: folder) if request.param == "files" else MemoryLocks()


def test_a_key_is_locked_once_and_others_are_not(locks: Locks) -> None:
    first = locks.try_acquire("one")
    assert first is not None
    assert locks.try_acquire("one") is None
    other = locks.try_acquire("other")
    assert other is not None
    other.release()
    first.release()
    again = locks.try_acquire("one")
    assert again is not None
    again.release()


def test_of_many_threads_one_gets_it(locks: Locks) -> None:
    barrier, got = threading.Barrier(8), []

    def acquire() -> None:
        barrier.wait()
        got.append(locks.try_acquire("one"))

    threads = [threading.Thread(target=acquire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lock,) = [lock for lock in got if lock is not None]
    lock.release()


HOLDER = """
import os, sys
from forebay.locks.files import FileLocks
folder = os.open(sys.argv[1], os.O_RDONLY)
print(FileLocks(lambda: folder).try_acquire("one") is not None, flush=True)
sys.stdin.read()
"""


def test_another_process_holds_it_until_it_dies(tmp_path: Path, folder: int) -> None:
    locks = FileLocks(lambda: folder)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert locks.try_acquire("one") is None
        holder.kill()
        holder.wait()
    lock = locks.try_acquire("one")
    assert lock is not None
    lock.release()


def test_no_descriptor_stays_of_what_was_not_locked(folder: int) -> None:
    locks = FileLocks(lambda: folder)
    held = locks.try_acquire("one")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        assert locks.try_acquire("one") is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert held is not None
    held.release()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_lock_that_cannot_be_had_is_an_error_and_not_a_lock_of_another(
    folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object, **more: object) -> int:
        assert path == NAME
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageDenied):
        FileLocks(lambda: folder).try_acquire("one")
