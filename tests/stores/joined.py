"""All contracts that a store on this machine keeps."""

from __future__ import annotations

from .contract import StagingContract
from .lockable import LockableContract
from .publishing import LastingContract, PublishingContract
from .reading import ReadingContract
from .resuming import ResumableContract
from .sweepable import RoomyContract, SweepableContract


class LocalStoreContract(
    LockableContract,  # before StagingContract: it adds to its test of leaks
    StagingContract,
    PublishingContract,
    ReadingContract,
    LastingContract,
    ResumableContract,
    SweepableContract,
    RoomyContract,
):
    """Files and memory: all of them but `GuardedContract`."""
