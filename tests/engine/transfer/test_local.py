"""Data in a local temporary file keeps the contract of staged data, whatever store it goes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forebay.engine.transfer.local import LocalStaged
from forebay.errors import StorageFailed
from forebay.stores.base import Publication
from forebay.stores.memory import MemoryStore
from objects.service import ObjectService
from objects.store import ObjectStore
from stores.contract import StagingContract
from stores.publishing import PublishingContract
from stores.reading import ReadingContract
from stores.samples import get


class _Beside:
    """A store that data of one request reaches by way of a local file."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def stage(self, how: Publication | None = None, size: int | None = None) -> LocalStaged:
        return LocalStaged(self._store)


class TestInFrontOfMemory(StagingContract, ReadingContract, PublishingContract):
    def make(self, folder: Path, **options: Any) -> Any:
        return _Beside(MemoryStore(**options))


class TestInFrontOfObjects(StagingContract, ReadingContract, PublishingContract):
    direct = False

    def make(self, folder: Path, **options: Any) -> Any:
        service = ObjectService(least_part=1024)
        return _Beside(ObjectStore(service, direct=self.direct, inline=500, **options))

    def get_meanwhile(self, store: Any, name: str) -> bytes:
        while True:
            try:
                return get(store, name)
            except StorageFailed:  # it was replaced: a client asks again
                pass


class TestInFrontOfBoundNames(TestInFrontOfObjects):
    direct = True
    test_thousands_of_one_name_stay_cheap = None  # each free name is looked for from the start
