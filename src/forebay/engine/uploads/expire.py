"""Removing uploads that nobody needs: expired ones, and empty ones when there are too many."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from forebay.engine.uploads.parts import release_part
from forebay.errors import LeaseLost, NotFound, StorageError, UploadBusy, WrongState
from forebay.model import UploadRecord, UploadState
from forebay.record import Extra, is_whole
from forebay.sessions.records import is_unnotified

if TYPE_CHECKING:
    from forebay.engine.uploads.accesses import Accesses

_STEP = 500
IN_USE = (UploadBusy, LeaseLost, WrongState)
"""A request works on the upload, another node took it over, or a final upload is made of it."""


async def end_expired(accesses: Accesses, upload_id: str, now: float) -> UploadRecord | None:
    """Removes an upload that has expired at the time `now`, in seconds since the epoch; its last
    record, None when there is nothing to do. One whose callback is pending stays.

    Raises one of `IN_USE`, StorageError.
    """
    with contextlib.suppress(NotFound):
        async with accesses.open_idle(upload_id) as access:
            # Judged under the lock: its client may have come back.
            record = access.record
            if record.expires_at is None or record.expires_at > now or is_whole(record):
                return None  # the record of a whole upload goes when its callback was called
            if Extra.of(record).partial:
                await release_part(accesses.sessions, access)
            if not is_unnotified(record):  # a crash may be long ago, and yet it was not called
                await access.remove()
            return record
    return None


async def end_empty(accesses: Accesses, before: float) -> int:
    """Ends some uploads without a byte that were created before that time, the first to expire
    first; how many.
    """
    ended = 0
    for record in await accesses.sessions.expired(math.inf, _STEP):
        unused = record.state is UploadState.OPEN and not record.offset
        if not unused or record.created_at >= before:
            continue
        with contextlib.suppress(*IN_USE, StorageError):  # then others may give way
            if not Extra.of(record).parts:
                # Under its lock it has to expire as it did: with a byte it would later.
                assert record.expires_at is not None
                ended += await end_expired(accesses, record.id, record.expires_at) is not None
    return ended
