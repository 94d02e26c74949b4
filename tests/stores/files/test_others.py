"""What other programs do to the folder: backups, indexers, copies. No upload ends of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.errors import PreconditionFailed, StorageBusy, StorageFailed, UploadBusy
from forebay.stores.files import flock as locks
from forebay.stores.files.store import FileStore
from stores.samples import (
    EVERY_KIND,
    ID,
    REPLACE,
    begin,
    file_store,
    fill,
    get,
    how,
    put,
    resume,
    staged_bytes,
)


@pytest.fixture(params=EVERY_KIND)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    with file_store(tmp_path / "root", request.param) as store:
        yield store


def data_of(store: FileStore) -> Path:
    return Path(store.root, ".forebay", "uploads", ID)


def backed_up(store: FileStore, target: Path) -> Path:
    """A backup made of hard links; the data of the upload in it."""
    subprocess.run(["cp", "-al", store.root, target], check=True)
    return target / ".forebay" / "uploads" / ID


# --- links ---


def test_a_backup_of_links_leaves_an_upload_as_it_was(store: FileStore, tmp_path: Path) -> None:
    """Bug: a second name was taken for the published one, and nothing could be appended."""
    fill(begin(store, ID), b"12345").close()
    backed_up(store, tmp_path / "backup")
    staged = store.claim(ID)
    assert staged.offset == 5
    staged.reserve(1 << 20)
    fill(staged, b"67").commit(flush=True)
    staged.close()
    staged = store.claim(ID)
    published = staged.publish(how("a"))
    staged.discard()
    assert published.file.size == 7
    assert get(store, "a") == b"1234567"


def test_cutting_an_upload_leaves_the_file_of_a_backup_whole(
    store: FileStore, tmp_path: Path
) -> None:
    fill(begin(store, ID), b"12345-not acknowledged").close()
    kept = backed_up(store, tmp_path / "backup")
    staged = store.claim(ID)
    staged.rollback(5)
    with pytest.raises(UploadBusy):  # still ours, though it is another file now
        store.claim(ID)
    fill(staged, b"67")
    assert staged_bytes(staged) == b"1234567"
    assert kept.read_bytes() == b"12345-not acknowledged"
    staged.publish(how("a"))
    staged.discard()
    assert get(store, "a") == b"1234567"
    assert store.sweep_temporaries() == 0
    assert os.listdir(store.uploads_fd) == os.listdir(store.tmp_fd) == []


def test_a_published_file_is_not_cut_through_its_id(store: FileStore) -> None:
    """As a power loss leaves it under relaxed, when the record of the end was lost."""
    staged = fill(begin(store, ID), b"1234567890")
    staged.publish(how("a"))
    staged.close()
    resume(store, ID, 5).close()
    assert get(store, "a") == b"1234567890"


# --- times and modes ---


def test_touched_and_read_only_data_goes_on(store: FileStore) -> None:
    fill(begin(store, ID), b"12345").close()
    os.utime(data_of(store), (1, 1))
    data_of(store).chmod(0o400)
    staged = fill(store.claim(ID), b"67")
    staged.publish(how("a"))
    staged.discard()
    assert get(store, "a") == b"1234567"
    assert Path(store.root, "a").stat().st_mode & 0o777 == store.file_mode


def test_data_that_was_made_read_only_is_written_by_a_user_who_is_not_root(
    tmp_path: Path,
) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from stores.samples import ID, begin, file_store, fill, get, how
from forebay.errors import UploadBusy
from pathlib import Path
os.setgid(65534); os.setuid(65534)  # the interpreter may be root's alone
root = Path({str(tmp_path / "root")!r})
with file_store(root, "relaxed") as store:
    fill(begin(store, ID), b"12345").close()
    os.chmod(root / ".forebay" / "uploads" / ID, 0o400)
    staged = fill(store.claim(ID), b"67")
    try:
        store.claim(ID)
        raise SystemExit("not locked any more")
    except UploadBusy:
        pass
    staged.publish(how("a"))
    staged.discard()
    assert get(store, "a") == b"1234567"
"""
    if os.getuid():
        pytest.skip("needs root")
    tmp_path.chmod(0o777)
    for folder in [tmp_path, *tmp_path.parents][:-1]:
        folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_taking_back_a_file_goes_by_what_it_is_and_not_by_its_times(store: FileStore) -> None:
    """Bug: a program that touched it was enough for a refused file to stay."""
    published = put(store, "a").file
    os.utime(Path(store.root, "a"), (1, 1))
    Path(store.root, "a").chmod(0o600)
    assert store.stat("a").tag != published.tag
    assert store.identity("a") == published.identity
    store.delete("a", identity=published.identity)
    assert not Path(store.root, "a").exists()


def test_another_file_of_the_same_inode_is_another(store: FileStore) -> None:
    """Filesystems give a number again at once; what was removed must not mean what came later."""
    for _ in range(50):
        first = put(store, "a", b"12345").file
        os.unlink(Path(store.root, "a"))
        second = put(store, "a", b"54321").file
        assert first.identity != second.identity
        with pytest.raises(PreconditionFailed):
            store.delete("a", identity=first.identity)
        store.delete("a", identity=second.identity)


# --- restored copies ---


def test_a_copy_put_over_held_data_is_not_published(store: FileStore, tmp_path: Path) -> None:
    staged = fill(begin(store, ID), b"12345")
    old = tmp_path / "old"
    old.write_bytes(b"123")
    os.rename(old, data_of(store))
    with pytest.raises(StorageFailed):
        staged.publish(how("a"))
    assert not Path(store.root, "a").exists()
    staged.close()
    assert data_of(store).read_bytes() == b"123"


def test_what_is_put_into_the_own_folders_is_left_alone(store: FileStore) -> None:
    fill(begin(store, ID), b"12345").close()
    uploads = data_of(store).parent
    (uploads / "folder-of-somebody-else").mkdir()
    os.mkfifo(uploads / "a-pipe-of-somebody")
    (uploads / f"{ID}.bak").write_bytes(b"x")
    assert ID in set(store.remains())
    store.sweep_temporaries()
    staged = store.claim(ID)
    assert staged.offset == 5
    staged.close()


# --- locks that are not let go of ---


def test_a_lock_that_a_stopped_process_holds_is_given_up(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: all threads of every process waited for it without end, and so did a start."""
    monkeypatch.setattr(locks, "DEADLINE", 0.6)
    monkeypatch.setattr(locks, "SHORT", 0.1)
    put(store, "a")
    lock = os.open(Path(store.root, ".forebay", "names.lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    refused: list[float] = []

    def replace() -> None:
        begun = time.monotonic()
        with pytest.raises(StorageBusy) as busy:
            put(store, "a", b"new", REPLACE)
        assert busy.value.detail["retry_after"] == 1
        refused.append(time.monotonic() - begun)

    threads = [threading.Thread(target=replace) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 8
    assert sum(waited >= 0.6 for waited in refused) <= locks.LONG_WAITERS
    put(store, "b")  # needs no lock
    assert get(store, "a") == b"content"
    with file_store(Path(store.root)) as other:  # a start
        put(other, "c")
    os.close(lock)
    put(store, "a", b"new", REPLACE)
    assert get(store, "a") == b"new"


def test_a_stranger_that_locks_data_only_holds_it_up(store: FileStore) -> None:
    fill(begin(store, ID), b"12345").close()
    reader = os.open(data_of(store), os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    with pytest.raises(UploadBusy):
        store.claim(ID)
    os.close(reader)
    staged = store.claim(ID)
    assert staged.offset == 5
    staged.close()


# --- folders that are removed and made anew ---


def test_a_root_made_anew_is_gone_on_with(store: FileStore) -> None:
    """Bug: every upload failed, and the listing was empty, until a restart."""
    put(store, "a")
    shutil.rmtree(store.root)
    with pytest.raises(StorageFailed, match="not there any more"):
        store.probe()
    Path(store.root).mkdir()
    Path(store.root, "b").write_bytes(b"there")
    store.probe()
    assert [each.name for each in store.list_folder("")] == ["b"]
    put(store, "f/a", b"new")
    assert get(store, "f/a") == b"new"
    fill(begin(store, ID), b"12345").close()
    assert list(store.remains()) == [ID]


@pytest.mark.parametrize("removed", ["", ".forebay"])
@pytest.mark.parametrize("unnamed", [True, False])
def test_the_first_upload_after_a_folder_was_made_anew_is_taken(
    store: FileStore, removed: str, unnamed: bool
) -> None:
    """Bug: until the folder was looked at, ext4's EPERM was told as a missing permission."""
    store.unnamed = store.unnamed and unnamed
    for name in ("a", "f/a"):
        shutil.rmtree(Path(store.root, removed))
        Path(store.root).mkdir(exist_ok=True)
        put(store, name, b"new", REPLACE)
        assert get(store, name) == b"new"
    shutil.rmtree(Path(store.root, removed))
    Path(store.root).mkdir(exist_ok=True)
    fill(begin(store, ID), b"12345").close()
    assert list(store.remains()) == [ID]


@pytest.mark.parametrize("removed", [".forebay", ".forebay/tmp", ".forebay/uploads"])
def test_an_own_folder_that_was_removed_is_made_anew(store: FileStore, removed: str) -> None:
    put(store, "a")
    shutil.rmtree(Path(store.root, removed))
    store.probe()
    put(store, "b")
    put(store, "a", b"new", REPLACE)
    fill(begin(store, ID), b"12345").close()
    assert data_of(store).read_bytes() == b"12345"
