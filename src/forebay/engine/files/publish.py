"""What all ways of publishing a file share (invariant 11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from forebay.engine.transfer.workers import Workers
from forebay.errors import NameTaken
from forebay.model import Conflict, FileInfo, UploadRecord
from forebay.record import Outcome
from forebay.stores.base import Publication, Published, Resumable, Staged, Store

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext


OTHERS_WAIT = 5.0
"""Seconds for which other processes leave the first call of a callback to the publishing one."""
_ATTEMPTS = 100
"""Names that are tried: others may be quicker, but a store that always refuses must not hang us."""
Note = Callable[[str, str], Awaitable[object]]


async def prepare(workers: Workers, staged: Staged, name: str) -> None:
    """Does what is slow about publishing `staged` as `name`, such as compressing it, in turns that
    are fair to others. Optional: otherwise `Staged.publish` does it in one go.
    """
    if staged.prepare_waits:
        while not await workers.run(staged.prepare, name):
            pass


async def publish_noted(
    engine: EngineContext, staged: Staged, wanted: Publication, note: Note
) -> Published:
    """Publishes `staged` under the first free name that `wanted` allows. `note` records each name,
    and the identity that the file will have, before it is tried.

    Raises NameTaken, NotAFolder, PreconditionFailed, a StorageError, and what `note` raises. It is
    not published then; after StorageUnavailable that is not known.
    """
    run = engine.workers.run
    # A name is chosen here, and recorded; the store must not choose another.
    renames = wanted.conflict is Conflict.RENAME
    conflict = Conflict.REFUSE if renames else wanted.conflict
    for _ in range(_ATTEMPTS):
        name = await run(engine.store.free_name, wanted)
        await prepare(engine.workers, staged, name)
        await note(name, await run(_identity, staged))
        try:
            return await run(staged.publish, Publication(name, conflict, wanted.preconditions))
        except NameTaken:
            if not renames:
                raise
    raise NameTaken


async def published_file(store: Store, workers: Workers, record: UploadRecord) -> FileInfo | None:
    """The file that a COMPLETING upload was published as, by the name and the identity that were
    recorded; None when it was not. Raises StorageError.
    """
    if record.final_name is None:
        return None
    assert isinstance(store, Resumable)
    identity = Outcome.of(record).identity
    return await workers.run(store.published_from, record.id, record.final_name, identity)


def _identity(staged: Staged) -> str:
    """In a thread."""
    return staged.identity
