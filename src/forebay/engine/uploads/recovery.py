"""What a crash or a cancelled request left between two steps of a completion (invariant 11).

The final name is recorded before the file gets it, so a COMPLETING upload whose file is there was
published: it is recorded as COMPLETE. Otherwise its bytes are there, and completion can be tried
again. Requests and the sweep recover by this one rule, and only what they hold.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forebay.engine.files.publish import published_file
from forebay.engine.lifecycle import completed
from forebay.model import UploadState
from forebay.record import is_published

if TYPE_CHECKING:
    from forebay.engine.transfer.workers import Workers
    from forebay.engine.uploads.access import UploadAccess
    from forebay.stores.base import Store

_WITHOUT_DATA = (UploadState.FAILED, UploadState.CANCELLED)


class Recovery:
    """Recovers uploads of one store that the caller holds."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store = store
        self._workers = workers

    async def recover(self, access: UploadAccess) -> None:
        """Ends what was interrupted. The data of an upload that is published or has failed goes."""
        record = access.record
        if record.state is UploadState.OPEN:
            return
        if record.state is UploadState.COMPLETING:
            found = await published_file(self._store, self._workers, record)
            if found is not None:
                await access.change(**completed(record, found, time.time()))
        if is_published(access.record) or access.record.state in _WITHOUT_DATA:
            await access.drop_data()
