"""The end of a resumable upload: verified and published, and no crash loses it.

The order (invariant 11): the final name is recorded, and that a callback has to be called; then
the data is published under that name, then the upload is recorded as complete, and only then does
its data go. The callback is called next, by the outbox.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.about import about_of
from forebay.engine.files.publish import OTHERS_WAIT, publish_noted
from forebay.engine.lifecycle import Event, completed
from forebay.engine.uploads.rehash import hash_stored
from forebay.errors import (
    DigestMismatch,
    Forbidden,
    NameTaken,
    NotAFolder,
    NotFound,
    PreconditionFailed,
    SyncFailed,
    UploadError,
    VerificationRefused,
    WrongState,
)
from forebay.hooks.base import Candidate
from forebay.model import Digest, Principal, UploadRecord, UploadState
from forebay.record import Extra, Outcome, stored_of
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Publication
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.files.remove import Removal
    from forebay.engine.uploads.access import UploadAccess

_FINAL = (DigestMismatch, VerificationRefused)
_REFUSALS = (*_FINAL, NameTaken, NotAFolder, PreconditionFailed)
"""Refusals of the finished file itself: to send its bytes again would not help."""


class Finisher:
    """Ends uploads that the caller holds. Callbacks are the caller's to call then."""

    def __init__(self, engine: EngineContext, removal: Removal) -> None:
        self._engine = engine
        self._removal = removal

    async def finish(self, access: UploadAccess, context: Mapping[str, Any] | None = None) -> None:
        """Verifies and publishes an upload that has all its bytes. Raises what refuses it.

        Refused by a digest or `on_verify`, or when a sync failed, it has FAILED; on any other
        error it stays COMPLETING, and the next request tries again. `detail["ended"]` of an error
        is True when the file itself was refused, and not the sending of it. `context`: of the
        request at hand.
        """
        await access.rollback()  # what a crash may have left beyond the offset
        extra = Extra.of(access.record)
        if extra.partial:
            await access.change(Event.PART_WHOLE, length=access.record.offset)
            return
        if self._engine.hooks.verifies or extra.expected or extra.wanted:
            # That may take long, and a crash meanwhile is no reason to ask for bytes again.
            await self._has_all_bytes(access)
        digests: tuple[Digest, ...] | None = None
        try:
            digests = await self._verify(access, extra, context)
            await self._publish(access, extra, digests)
        except _REFUSALS as error:
            await self._remember(access, extra, digests)
            error.detail["ended"] = True
            if isinstance(error, _FINAL):
                await access.fail(error)
            else:
                await self._note_all_bytes(access)
            raise
        except BaseException as error:
            if access.staged.dead:
                await access.fail(SyncFailed())
            elif isinstance(error, UploadError):
                await self._note_all_bytes(access)
            raise
        await access.drop_data()

    async def _has_all_bytes(self, access: UploadAccess) -> None:
        """The next request for it completes it."""
        if access.record.state is not UploadState.COMPLETING:
            await access.change(Event.ALL_BYTES, length=access.record.offset)

    async def _note_all_bytes(self, access: UploadAccess) -> None:
        """The same after an error, which is the one to tell."""
        with contextlib.suppress(UploadError):
            await self._has_all_bytes(access)

    async def _publish(
        self, access: UploadAccess, extra: Extra, digests: tuple[Digest, ...]
    ) -> None:
        engine = self._engine
        prepared = Outcome(digests)
        notify_at = time.time() + OTHERS_WAIT if engine.hooks.completes else None

        async def note(name: str, identity: str) -> None:
            await access.change(
                Event.ALL_BYTES,
                length=access.record.offset,
                final_name=name,
                outcome=dataclasses.replace(prepared, identity=identity).encode(),
                notify_at=notify_at,
            )

        record = access.record
        wanted = Publication(record.name, record.conflict, extra.preconditions)
        published = await publish_noted(engine, access.staged, wanted, note)
        done = completed(access.record, published.file, time.time(), replaced=published.replaced)
        await access.change(**done)

    async def _remember(
        self, access: UploadAccess, extra: Extra, digests: tuple[Digest, ...] | None
    ) -> None:
        """Stores that the digests were right, so that they are computed once however often
        somebody asks for an upload that cannot be published.
        """
        if digests is None or extra.verified is not None or not (extra.expected or extra.wanted):
            return
        with contextlib.suppress(UploadError):  # then they are computed again
            await access.change_extra(dataclasses.replace(extra, verified=digests))

    async def _verify(
        self, access: UploadAccess, extra: Extra, context: Mapping[str, Any] | None
    ) -> tuple[Digest, ...]:
        """Has the file checked by digests and `on_verify`; the digests to answer with."""
        engine, record, staged = self._engine, access.record, access.staged
        # First: all that it takes to verify a file is in vain while its name is taken.
        target = Publication(record.name, record.conflict, extra.preconditions)
        await engine.workers.run(engine.store.check_target, target)
        digests = extra.verified
        if digests is None:  # else an earlier request verified it and could not publish it
            digests = ()
            if extra.expected or extra.wanted:
                names = sorted({d.algorithm for d in extra.expected} | set(extra.wanted))
                hashing = await hash_stored(engine, staged, names, 0)
                hashing.verify(extra.expected)
                digests = hashing.digests(extra.wanted)
        if engine.hooks.verifies:
            candidate = Candidate(
                record.name,
                record.offset,
                record.media_type,
                digests,
                Principal(record.principal),
                lambda: as_file(staged.seal()),
                record.id,
                about_of(record),
                context,
            )
            await engine.hooks.verify(candidate)
        return digests

    async def forget(self, access: UploadAccess) -> None:
        """Removes a cancelled upload. When a callback is pending about the file that it was, the
        record stays until that returned.
        """
        while is_unnotified(access.record):
            version = access.record.version
            try:
                await access.change(Event.CANCELLED)
            except WrongState:  # a call has ended meanwhile
                await access.reload()
                if access.record.version == version:
                    raise
            else:
                await access.drop_data()
                return
        await access.remove()

    async def remove_file(self, record: UploadRecord, context: Mapping[str, Any] | None) -> None:
        """Removes what a complete upload published, if it is still that. Raises Forbidden."""
        engine = self._engine
        if not engine.settings.allow_delete:
            raise Forbidden("Finished uploads are removed only where the server allows it.")
        stored = stored_of(record)
        if stored is None:
            return
        principal = await engine.authorise("delete", stored.file.name, context)
        with contextlib.suppress(NotFound, PreconditionFailed):
            await self._removal.remove_published(stored.file, principal=principal, context=context)
