"""What every way of publishing a file has in common."""

from __future__ import annotations

from forebay.engine.transfer.workers import Workers
from forebay.stores.base import Staged


async def prepare(workers: Workers, staged: Staged, name: str) -> None:
    """Does what is slow about publishing `staged` as `name` (compressing it), in turns that are
    fair to others. Never needed: `Staged.publish` does the rest at one go.
    """
    if staged.prepare_waits:
        while not await workers.run(staged.prepare, name):
            pass
