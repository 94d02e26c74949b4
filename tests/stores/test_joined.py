"""Which contracts each store keeps. What is not joined it does not offer: nothing is skipped."""

from __future__ import annotations

import pytest

from . import test_compressed, test_files, test_memory, test_objects
from .contract import StagingContract
from .lockable import LockableContract
from .publishing import GuardedContract, LastingContract, PublishingContract
from .reading import ReadingContract
from .resuming import ResumableContract
from .sweepable import RoomyContract, SweepableContract

EVERY = {
    GuardedContract,
    LastingContract,
    LockableContract,
    PublishingContract,
    ReadingContract,
    ResumableContract,
    RoomyContract,
    StagingContract,
    SweepableContract,
}
LOCAL = EVERY - {GuardedContract}
OBJECTS = EVERY - {LastingContract, LockableContract}
BOUND = OBJECTS - {PublishingContract, ResumableContract, SweepableContract}
JOINED = {
    test_files.TestStrict: LOCAL,
    test_files.TestRelaxed: LOCAL,
    test_files.TestNamed: LOCAL,
    test_compressed.TestContract: LOCAL,
    test_compressed.TestContractStrictNamed: LOCAL,
    test_memory.TestMemory: LOCAL,
    test_memory.TestUnlimitedMemory: LOCAL,
    test_objects.TestPieces: OBJECTS,
    test_objects.TestDirect: BOUND,
}


@pytest.mark.parametrize("store", JOINED, ids=lambda store: f"{store.__module__}-{store.__name__}")
def test_each_store_joins_what_it_offers(store: type) -> None:
    assert {contract for contract in EVERY if issubclass(store, contract)} == JOINED[store]
