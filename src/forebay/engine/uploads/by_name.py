"""Uploads that are found by their name: one living upload for each name and principal.

The session store sees to it that of many creations one wins, in whatever process. Here is what
a creation does about an upload that is only in its way: one that has expired, or one whose
process died before a byte of it was committed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.clock import is_expired
from forebay.engine.uploads import outcome
from forebay.errors import NotAFolder, NotFound, UploadBusy, UploadExists
from forebay.model import Stored, UploadRecord, UploadState
from forebay.sessions.base import Sessions

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.outbox.notifier import Notifier
    from forebay.engine.uploads.access import UploadAccess
    from forebay.engine.uploads.finish import Ending
    from forebay.engine.uploads.locking import UploadLocks


__all__ = ["Bindings", "binding_of"]


def binding_of(principal: str, name: str) -> str:
    """What an upload of `name` by `principal` is found by."""
    return json.dumps([principal, name])


class Bindings:
    """Finds bound uploads, and enters new ones."""

    def __init__(
        self,
        engine: EngineContext,
        sessions: Sessions,
        holders: UploadLocks,
        custody: UploadAccess,
        ending: Ending,
        notifier: Notifier,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._holders = holders
        self._custody = custody
        self._ending = ending
        self._notifier = notifier

    async def find(
        self, name: str, action: str, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The asker's own upload of that name: the one under way, else the last that ended,
        if its file is still there.

        Raises NotFound, and what authorisation raises.
        """
        principal = await self._engine.authorise(action, name, context)
        record = await self._sessions.load_bound(binding_of(principal.id, name))
        stored = outcome.stored(record)
        if stored is not None and not await self._engine.workers.run(self._is_there, stored):
            raise NotFound("The file of that upload is not there any more.")
        return record

    def _is_there(self, stored: Stored) -> bool:
        try:
            if stored.file.identity:
                return self._engine.store.identity(stored.file.name) == stored.file.identity
            return self._engine.store.stat(stored.file.name).tag == stored.file.tag
        except (NotFound, NotAFolder):
            return False

    async def enter(self, record: UploadRecord) -> None:
        """Adds a new upload. Raises UploadExists, with `expected` and `upload` in its detail,
        when its binding has a living one that is of use.
        """
        try:
            await self._sessions.create(record)
        except UploadExists:
            assert record.binding is not None
            await self._make_way(record.binding)
            await self._sessions.create(record)

    async def _make_way(self, binding: str) -> None:
        try:
            other = await self._sessions.load_bound(binding)
        except NotFound:
            return
        if not other.is_unfinished:
            return  # it has just ended
        if not _is_of_no_use(other):
            raise _exists(other)
        run = self._engine.workers.run
        try:
            taken = self._holders.taken(other.id, lambda: self._custody.claim(other.id), ask=False)
            async with taken as (_, staged):
                try:
                    other = await self._sessions.load(other.id)  # now under its lock
                    if staged is not None:
                        other = await self._ending.settle(other, staged)
                        self._notifier.soon(other)
                    if not other.is_unfinished:
                        return
                    if not _is_of_no_use(other):
                        raise _exists(other)
                    await self._ending.remove(other.id, staged)
                finally:
                    if staged is not None:
                        await run(staged.close)
        except NotFound:
            return
        except UploadBusy:
            raise _exists(other) from None


def _is_of_no_use(record: UploadRecord) -> bool:
    if is_expired(record):
        return True
    return record.state is UploadState.OPEN and record.offset == 0


def _exists(record: UploadRecord) -> UploadExists:
    return UploadExists(
        expected=record.offset,
        upload=record.id,
        length=record.length,
    )
