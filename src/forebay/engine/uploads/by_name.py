"""Uploads that are found by their name: one unfinished upload for each name and principal.

The session store sees to it that of many creations one wins, in whatever process. Here is what
a creation does about an upload that is only in its way: one that has expired, or one whose
process died before a byte of it was committed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.clock import is_expired
from forebay.errors import NotAFolder, NotFound, UploadBusy, UploadExists
from forebay.model import Stored, UploadRecord, UploadState
from forebay.record import stored_of

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.notifier import Notifier
    from forebay.engine.uploads.accesses import Accesses
    from forebay.engine.uploads.claims import Claim
    from forebay.sessions.base import Sessions


def binding_of(principal: str, name: str) -> str:
    """The key by which an upload of `name` by `principal` is found."""
    return json.dumps([principal, name])


class UploadsByName:
    """Finds uploads by their name, and lets new ones in."""

    def __init__(
        self, engine: EngineContext, sessions: Sessions, accesses: Accesses, notifier: Notifier
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._accesses = accesses
        self._notifier = notifier

    async def find(
        self, name: str, action: str, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The client's own upload of that name: the unfinished one, else the last that ended, if
        its file is still there.

        Raises NotFound, and what authorisation raises.
        """
        principal = await self._engine.authorise(action, name, context)
        record = await self._sessions.load_bound(binding_of(principal.id, name))
        stored = stored_of(record)
        if stored is not None and not await self._engine.workers.run(self._is_there, stored):
            raise NotFound("The file of that upload is not there any more.")
        return record

    def _is_there(self, stored: Stored) -> bool:
        store, file = self._engine.store, stored.file
        try:
            if file.identity:
                return store.identity(file.name) == file.identity
            return store.stat(file.name).tag == file.tag
        except (NotFound, NotAFolder):
            return False

    async def create(self, record: UploadRecord, create: Callable[[], Awaitable[Claim]]) -> Claim:
        """What `create` returns. Raises UploadExists, with `expected` and `upload` in its detail,
        when there is an unfinished upload of that name that is of use.
        """
        try:
            return await create()
        except UploadExists:
            assert record.binding is not None
            await self._make_way(record.binding)
            return await create()

    async def _make_way(self, binding: str) -> None:
        """Removes the upload of that name if it is of no use. Raises UploadExists."""
        try:
            other = await self._sessions.load_bound(binding)
            if not other.is_unfinished:
                return  # it has just ended
            if not _is_of_no_use(other):
                raise _exists(other)
            async with self._accesses.open_idle(other.id) as access:
                self._notifier.soon(access.record)
                if not access.record.is_unfinished:
                    return
                if not _is_of_no_use(access.record):
                    raise _exists(access.record)
                await access.remove()
        except NotFound:
            return
        except UploadBusy:
            raise _exists(other) from None


def _is_of_no_use(record: UploadRecord) -> bool:
    if is_expired(record):
        return True
    return record.state is UploadState.OPEN and record.offset == 0


def _exists(record: UploadRecord) -> UploadExists:
    return UploadExists(expected=record.offset, upload=record.id, length=record.length)
