"""Real processes on one folder, and some that are killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from forebay.errors import AlreadyExists, UploadBusy
from stores.processes import kill, line, lines_until, nudge, start_together, worker
from stores.samples import (
    EVERY_KIND,
    ID,
    RENAME,
    REPLACE,
    begin,
    file_store,
    fill,
    get,
    names_in,
    put,
    resume,
    staged_bytes,
)

KINDS = pytest.mark.parametrize("kind", list(EVERY_KIND))


@KINDS
@pytest.mark.parametrize("opening", ["begin", "claim"])
def test_what_a_living_process_holds_is_busy_and_free_when_it_is_killed(
    tmp_path: Path, kind: str, opening: str
) -> None:
    with file_store(tmp_path, kind) as store:
        if opening == "claim":
            begin(store, ID).close()
        with worker(tmp_path, kind, "hold", opening, ID) as holder:
            assert line(holder) == "ready"
            for call in (
                lambda: resume(store, ID, 0),
                lambda: store.claim(ID),
                lambda: store.remove(ID),
            ):
                with pytest.raises(UploadBusy):
                    call()
            with pytest.raises(AlreadyExists):
                begin(store, ID)
            assert store.sweep_temporaries() == 0
            assert list(store.remains()) == [ID]
            kill(holder)
            staged = resume(store, ID, 5)
            assert staged_bytes(staged) == b"12345"
            staged.close()


@KINDS
def test_what_is_let_go_is_free_for_another_process(tmp_path: Path, kind: str) -> None:
    with file_store(tmp_path, kind) as store, worker(tmp_path, kind, "hold", "begin", ID) as other:
        assert line(other) == "ready"
        nudge(other)
        assert line(other) == "closed"
        resume(store, ID, 5).close()
        store.remove(ID)


def test_the_sweep_takes_what_the_dead_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    temporaries = tmp_path / ".forebay" / "tmp"
    with (
        file_store(tmp_path, "named") as store,
        worker(tmp_path, "named", "hold", "stage") as living,
        worker(tmp_path, "named", "hold", "stage") as dead,
    ):
        assert line(living) == line(dead) == "ready"
        mine = fill(store.stage(), b"mine")
        assert len(os.listdir(temporaries)) == 3
        assert store.sweep_temporaries() == 0
        kill(dead)
        assert store.sweep_temporaries() == 1
        assert store.sweep_temporaries() == 0
        assert len(os.listdir(temporaries)) == 2
        nudge(living)
        assert line(living) == "closed"
        assert staged_bytes(mine) == b"mine"
        mine.close()
        assert os.listdir(temporaries) == []


@pytest.mark.parametrize("kind", ["strict", "relaxed"])
def test_unnamed_data_vanishes_with_its_process(tmp_path: Path, kind: str) -> None:
    with file_store(tmp_path, kind) as store, worker(tmp_path, kind, "hold", "stage") as dead:
        assert line(dead) == "ready"
        kill(dead)
        assert os.listdir(tmp_path / ".forebay" / "tmp") == []
        assert store.sweep_temporaries() == 0


@KINDS
@pytest.mark.parametrize("conflict", ["refuse", "rename"])
def test_processes_that_publish_one_name_at_once(tmp_path: Path, kind: str, conflict: str) -> None:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(file_store(tmp_path, kind))
        workers = [
            stack.enter_context(
                worker(tmp_path, kind, "publish", "f/a.tar.gz", conflict, prefix, "4", "25")
            )
            for prefix in ("x", "y")
        ]
        start_together(workers)
        stored: dict[str, bytes] = {}
        for process in workers:
            for each in lines_until(process, "done"):
                if each != "taken":
                    _, content, name = each.split(maxsplit=2)
                    stored[name] = content.encode() * 500
        assert len(stored) == (1 if conflict == "refuse" else 200)
        assert {f"f/{name}" for name in names_in(store, "f")} == set(stored)
        assert {name: get(store, name) for name in stored} == stored
        assert store.sweep_temporaries() == 0


@KINDS
def test_of_processes_that_match_one_tag_one_wins(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(file_store(tmp_path, kind))
        tag = put(store, "a").file.tag
        workers = [
            stack.enter_context(worker(tmp_path, kind, "replace", "a", tag, str(n)))
            for n in range(2)
        ]
        start_together(workers)
        outcomes = [line(process) for process in workers]
        assert sorted(outcomes) == ["got", "refused"]
        assert get(store, "a") == str(outcomes.index("got")).encode()


def test_a_sweep_never_disturbs_replacements_in_another_process(tmp_path: Path) -> None:
    """Bug: the second name of a file without O_TMPFILE's name was swept before its rename."""
    with (
        file_store(tmp_path) as store,
        worker(tmp_path, "relaxed", "publish", "a", "replace", "w", "1", "300") as other,
    ):
        assert line(other) == "ready"
        nudge(other)
        for number in range(300):
            store.sweep_temporaries()
            assert line(other) == f"got w-0-{number} a"
        assert line(other) == "done"


@KINDS
def test_many_processes_may_make_a_store_in_one_new_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "x" / "y"
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(worker(folder, kind, "make")) for _ in range(3)]
        for process in made:
            process.communicate()
            assert process.returncode == 0
    with file_store(folder, kind) as store:
        put(store, "a", b"", REPLACE)
        put(store, "a", b"", RENAME)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_the_umask_does_not_decide_who_may_read(tmp_path: Path, umask: int) -> None:
    for kind in EVERY_KIND:
        folder = tmp_path / kind
        folder.mkdir()
        with worker(folder, kind, "publish", "f/a", "refuse", "w", "1", "1", umask=umask) as other:
            assert line(other) == "ready"
            nudge(other)
            assert line(other) == "got w-0-0 f/a"
            assert line(other) == "done"
        assert (folder / "f" / "a").stat().st_mode & 0o7777 == 0o640
        assert (folder / "f").stat().st_mode & 0o7777 == 0o750
        assert (folder / ".forebay").stat().st_mode & 0o7777 == 0o700
