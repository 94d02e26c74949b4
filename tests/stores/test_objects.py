"""A store on an object service (`objects.store`), under the contracts that it can keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forebay.errors import StorageFailed
from objects.service import ObjectService
from objects.store import ObjectStore

from .contract import StagingContract
from .publishing import GuardedContract, PublishingContract
from .reading import ReadingContract
from .resuming import ResumableContract
from .samples import get
from .sweepable import RoomyContract, SweepableContract


class ObjectsContract(StagingContract, ReadingContract, GuardedContract, RoomyContract):
    direct = False
    cycles = 50

    def make(self, folder: Path, **options: Any) -> Any:
        service = ObjectService(least_part=1024)
        return ObjectStore(service, direct=self.direct, inline=500, orphan_age=0, **options)


class TestPieces(ObjectsContract, PublishingContract, ResumableContract, SweepableContract):
    many = 200

    def get_meanwhile(self, store: Any, name: str) -> bytes:
        while True:
            try:
                return get(store, name)
            except StorageFailed:  # it was replaced: a client asks again
                pass


class TestDirect(ObjectsContract):
    """Names are bound when data is begun, so what a name does while it is taken is the engine's
    to see to; what only this layout does is in `objects.test_store`.
    """

    direct = True
