"""What a crash or a cancelled request left between two steps of a completion (invariant 11).

The final name is recorded before the file gets it, so a COMPLETING upload whose file is there was
published: it is recorded as COMPLETE. Otherwise its bytes are there, and completion can be tried
again. Requests and the sweep recover by this one rule, and only what they hold.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forebay.engine.lifecycle import completed
from forebay.model import FileInfo, UploadRecord, UploadState
from forebay.record import Outcome, is_published
from forebay.stores.base import Resumable

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.engine.uploads.access import UploadAccess
    from forebay.stores.base import Store

_WITHOUT_DATA = (UploadState.FAILED, UploadState.CANCELLED)


class Recovery:
    """Recovers uploads of one store that the caller holds."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store = store
        self._run = workers.run

    async def recover(self, access: UploadAccess) -> bool:
        """Ends what was interrupted; whether the file turned out to be published.

        The data of an upload that is published, or has failed, goes.
        """
        record = access.record
        if record.state is UploadState.OPEN:
            return False
        found = None
        if record.state is UploadState.COMPLETING:
            found = await self.published_file(record)
            if found is not None:
                await access.change(**completed(record, found, time.time()))
        if is_published(access.record) or access.record.state in _WITHOUT_DATA:
            await access.drop_data()
        return found is not None

    async def published_file(self, record: UploadRecord) -> FileInfo | None:
        """The file that a COMPLETING upload was published as; None when it was not."""
        if record.final_name is None:
            return None
        identity = Outcome.of(record).identity
        assert isinstance(self._store, Resumable)
        return await self._run(self._store.published_from, record.id, record.final_name, identity)
