"""Giving up on callbacks whose files are gone."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from forebay.errors import NotFound, UploadError
from forebay.locks.base import Locks, release_lock
from forebay.model import UploadRecord
from forebay.record import stored_of
from forebay.sessions.base import Sessions
from forebay.stores.base import Store

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers

logger = logging.getLogger("forebay")

_MOST_DROPPED = 10_000


async def drop_gone(
    store: Store, sessions: Sessions, workers: Workers, locks: Locks, now: float
) -> int:
    """Drops pending calls about files that are gone and whose uploads have expired: the callbacks
    could not succeed. How many those were.
    """
    dropped = 0
    for record in await sessions.unnotified(math.inf, _MOST_DROPPED):
        if record.expires_at is not None and record.expires_at <= now:
            dropped += await _drop_gone(store, sessions, workers, locks, record)
    return dropped


async def _drop_gone(
    store: Store, sessions: Sessions, workers: Workers, locks: Locks, record: UploadRecord
) -> bool:
    stored = stored_of(record)
    if stored is None or await workers.run(_is_there, store, stored.file.name):
        return False
    lock = await workers.run(locks.try_acquire, record.id, undo=release_lock)
    if lock is None:
        return False
    try:
        await sessions.delete(record.id)
    finally:
        await workers.run(lock.release)
    logger.error(
        "%r is gone and its upload has expired: on_complete is not called again", record.final_name
    )
    return True


def _is_there(store: Store, name: str) -> bool:
    try:
        store.stat(name)
    except NotFound:
        return False
    except UploadError:  # that is not known now
        return True
    return True
