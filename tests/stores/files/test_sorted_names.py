"""Names that are kept while a folder does not change are those that are in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.stores.files import sorted_names
from forebay.stores.files.folders import names_after
from forebay.stores.files.sorted_names import SortedNames


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_names, "_STABLE", -(10**9))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def fill(path: Path, count: int) -> None:
    for n in range(count):
        (path / f"{n * 7919 % count:05d}").touch()


def test_pages_are_the_same_as_those_read_anew(tmp_path: Path, folder: int):
    fill(tmp_path, 300)
    (tmp_path / ".hidden").touch()
    names = SortedNames()
    for _ in range(2):
        after, seen = "", []
        while page := names.after(folder, after, 7):
            assert page == names_after(folder, after, 7)
            seen += page
            after = page[-1]
        assert seen == sorted(set(os.listdir(tmp_path)) - {".hidden"})


def test_a_folder_that_settled_is_read_once_and_again_when_it_changed(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
):
    fill(tmp_path, 50)
    names = SortedNames()
    assert names.after(folder, "00048", 10) == ["00049"]
    monkeypatch.setattr(names, "_read", lambda fd: pytest.fail("read again"))
    assert names.after(folder, "00048", 10) == ["00049"]
    monkeypatch.undo()
    (tmp_path / "zzz").touch()
    assert names.after(folder, "00048", 10) == ["00049", "zzz"]
    # As a program does that copies folders with their times.
    changed = os.fstat(folder).st_mtime_ns
    (tmp_path / "zzzz").touch()
    os.utime(tmp_path, ns=(changed, changed))
    assert names.after(folder, "00048", 10) == ["00049", "zzz", "zzzz"]


def test_a_folder_that_changed_just_now_is_kept_only_for_who_goes_on_with_a_listing(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
):
    """It may change again within the same tick of the kernel's clock."""
    monkeypatch.setattr(sorted_names, "_STABLE", 10**12)
    fill(tmp_path, 50)
    names = SortedNames()
    begun = time.monotonic()
    assert len(names.after(folder, "", 10, begun)) == 10
    (tmp_path / "00010a").touch()
    assert names.after(folder, "00010", 1) == ["00010a"]
    (tmp_path / "00011a").touch()
    assert names.after(folder, "00011", 1, begun) == ["00012"]
    assert names.after(folder, "00011", 1, time.monotonic()) == ["00011a"]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sorted_names, "_MOST", 100)
    monkeypatch.setattr(sorted_names, "_RUN", 16)
    names = SortedNames()
    for n, count in enumerate((60, 30, 80, 150, 40)):
        path = tmp_path / str(n)
        path.mkdir()
        fill(path, count)
        fd = os.open(path, os.O_RDONLY)
        try:
            assert names.after(fd, "", 20) == sorted(os.listdir(path))[:20]
        finally:
            os.close(fd)
        assert sum(len(each.names) for each in names._cached.values()) <= 100
    assert len(names._cached) >= 1


def test_many_threads_see_whole_pages(tmp_path: Path, folder: int):
    fill(tmp_path, 200)
    names = SortedNames()
    expected = sorted(os.listdir(tmp_path))[100:150]
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(50):
            if (found := names.after(folder, "00099", 50)) != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    found=st.lists(st.text("ab.é\U0001f600", min_size=1, max_size=4), max_size=30, unique=True),
    after=st.text("ab.é", max_size=3),
    limit=st.integers(1, 10),
)
def test_any_names_come_in_order(
    tmp_path_factory: pytest.TempPathFactory, found: list[str], after: str, limit: int
):
    path = tmp_path_factory.mktemp("names")
    for name in found:
        if name not in (".", ".."):
            (path / name).touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        assert SortedNames().after(fd, after, limit) == names_after(fd, after, limit)
    finally:
        os.close(fd)
