"""The local store in each of its ways, under the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forebay.model import Durability
from forebay.stores.base import Files, Lockable, Resumable, Roomy, Staging, Store, Sweepable
from forebay.stores.files.store import FileStore

from .joined import LocalStoreContract
from .samples import EVERY_KIND, RENAME, put


class LocalContract(LocalStoreContract):
    kind = ""

    def make(self, folder: Path, **options: Any) -> Store:
        return self.make_files(folder, **options)

    def make_files(self, folder: Path, **options: Any) -> FileStore:
        store = FileStore(str(folder), **{**EVERY_KIND[self.kind], **options})
        assert store.unnamed is (self.kind != "named"), "these tests need O_TMPFILE"
        return store

    def check_start_over(self, store: Store, folder: Path, counting: Any) -> None:
        other = self.make(folder, numbered=counting)
        assert put(other, "a.txt", b"", RENAME).file.name == f"a ({self.many}).txt"
        assert put(store, "a.txt", b"", RENAME).file.name == f"a ({self.many + 1}).txt"
        assert put(other, "a.txt", b"", RENAME).file.name == f"a ({self.many + 2}).txt"
        other.close()


class TestStrict(LocalContract):
    kind = "strict"
    cycles = 50
    many = 200


class TestRelaxed(LocalContract):
    kind = "relaxed"


class TestNamed(LocalContract):
    kind = "named"


def test_what_it_offers(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path), durability=Durability.RELAXED, numbered=lambda n, _: n)
    for offered in (Files, Staging, Resumable, Lockable, Sweepable, Roomy):
        assert isinstance(store, offered)
    assert not store.binds_names
    store.close()
