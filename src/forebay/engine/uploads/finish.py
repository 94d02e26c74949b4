"""The end of a resumable upload: verified and published; or failed for good."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.engine.uploads import outcome
from forebay.engine.uploads.about import about_of
from forebay.engine.uploads.publish import Completion
from forebay.engine.uploads.rehash import hash_stored
from forebay.errors import (
    DigestMismatch,
    DiskFull,
    Forbidden,
    NameTaken,
    NotAFolder,
    NotFound,
    PreconditionFailed,
    SyncFailed,
    UploadError,
    VerificationRefused,
)
from forebay.hooks.base import Candidate
from forebay.model import Digest, Principal, UploadRecord, UploadState
from forebay.sessions.base import Sessions
from forebay.sessions.records import is_unnotified
from forebay.stores.base import Publication, Staged
from forebay.stores.reading import as_file

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.files.remove import Removal

logger = logging.getLogger("forebay")

_FINAL = (DigestMismatch, VerificationRefused)
_TARGETS = (*_FINAL, NameTaken, NotAFolder, PreconditionFailed)
"""Refusals of the finished file itself: to send its bytes again would not help."""


class Ending:
    """Ends uploads whose lock the caller holds. Callbacks are the caller's to call then."""

    def __init__(self, engine: EngineContext, sessions: Sessions, removal: Removal) -> None:
        self._engine = engine
        self._removal = removal
        self._sessions = sessions
        self.completion = Completion(
            engine.store,
            sessions,
            engine.workers,
            notifies=lambda: engine.hooks.completes,
        )

    async def finish(
        self, record: UploadRecord, staged: Staged, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Verifies, publishes, commits. Raises what refuses it. `context`: of the request at hand.

        What an earlier request left was settled (`settle`).

        Refused by a digest or `on_verify`, or when a sync failed, it has FAILED; on any other
        error it stays COMPLETING, and the next question tries again. `detail["ended"]` of an
        error is True when the file itself was refused, not the sending of it.
        """
        extra = json.loads(record.extra)
        if staged.offset > record.offset:  # as a crash may leave it
            await self._engine.workers.run(staged.rollback, record.offset)
        if extra.get("partial"):
            return await self._advance(record, UploadState.COMPLETE)
        if self._engine.hooks.verifies or extra.get("expected") or extra.get("wanted"):
            # That may take long, and a crash meanwhile is no reason to ask for bytes again.
            record = await self._advance(record, UploadState.COMPLETING)
        conditions = preconditions_of(extra)
        target = Publication(record.name, record.conflict, conditions)
        digests: tuple[Digest, ...] | None = None
        try:
            # First: all that it takes to verify a file is in vain while its name is taken.
            await self._check_target(record, target)
            digests = await self._verify(record, staged, extra, context)
            return await self.completion.complete(record, staged, conditions, digests)
        except _TARGETS as error:
            await self._remember(record, extra, digests)
            error.detail["ended"] = True
            if isinstance(error, _FINAL):
                await self.fail(record, staged, error)
            raise
        except BaseException:
            if staged.dead:
                await self.fail(record, staged, SyncFailed())
            raise

    async def _check_target(self, record: UploadRecord, target: Publication) -> None:
        try:
            await self._engine.workers.run(self._engine.store.check_target, target)
        except UploadError:
            if record.state is UploadState.OPEN:  # it has all its bytes: the next question ends it
                state, length = UploadState.COMPLETING, record.offset
                await self._sessions.update(record.id, state=state, length=length)
            raise

    async def settle(self, record: UploadRecord, staged: Staged) -> UploadRecord:
        """As `Completion.settle`; the data of an upload that failed goes, too.

        The sweep does the same, and leaves to us what it finds in our hands.
        """
        record = await self.completion.settle(record, staged)
        if record.state in (UploadState.FAILED, UploadState.CANCELLED):
            await self._engine.workers.run(staged.discard)
        return record

    async def forget(self, record: UploadRecord, staged: Staged | None) -> None:
        """As `remove`, of one that was cancelled: when a callback has yet to be called about the
        file that it was, the record stays until that is done.
        """
        if not is_unnotified(record):
            await self.remove(record.id, staged)
            return
        await self._sessions.update(record.id, state=UploadState.CANCELLED)
        if staged is not None:
            await self._engine.workers.run(staged.discard)

    async def remove(self, upload_id: str, staged: Staged | None) -> None:
        """Nothing of it stays. The record goes first: without its data it would look lost to
        another process that is asked just then.
        """
        try:
            await self._sessions.delete(upload_id)
        except DiskFull:
            if staged is None:
                raise
            await self._engine.workers.run(staged.discard)  # which makes room
            await self._sessions.delete(upload_id)
        if staged is not None:
            await self._engine.workers.run(staged.discard)

    async def _advance(self, record: UploadRecord, state: UploadState) -> UploadRecord:
        return await self._sessions.update(
            record.id, version=record.version, state=state, length=record.offset
        )

    async def _remember(
        self, record: UploadRecord, extra: dict[str, Any], digests: tuple[Digest, ...] | None
    ) -> None:
        """Keeps that the digests were right, so that they are computed once however often
        somebody asks for an upload that cannot be published.
        """
        if digests is None or "verified" in extra:
            return
        if not (extra.get("expected") or extra.get("wanted")):
            return
        extra["verified"] = [(digest.algorithm, digest.value.hex()) for digest in digests]
        with contextlib.suppress(UploadError):  # then they are computed again
            await self._sessions.update(record.id, extra=json.dumps(extra).encode())

    async def _verify(
        self,
        record: UploadRecord,
        staged: Staged,
        extra: Mapping[str, Any],
        context: Mapping[str, Any] | None,
    ) -> tuple[Digest, ...]:
        engine = self._engine
        expected = tuple(Digest(a, bytes.fromhex(v)) for a, v in extra.get("expected", ()))
        wanted = tuple(extra.get("wanted", ()))
        digests: tuple[Digest, ...] = ()
        if "verified" in extra:  # by an earlier request, which could not publish it
            digests = tuple(Digest(a, bytes.fromhex(v)) for a, v in extra["verified"])
        elif expected or wanted:
            names = sorted({d.algorithm for d in expected} | set(wanted))
            hashing = await hash_stored(engine, staged, names, 0)
            hashing.verify(expected)
            digests = hashing.digests(wanted)
        if engine.hooks.verifies:

            def reader() -> BinaryIO:
                return as_file(staged.seal())

            await engine.hooks.verify(
                Candidate(
                    record.name,
                    record.offset,
                    record.media_type,
                    digests,
                    Principal(record.principal),
                    reader,
                    record.id,
                    about_of(record),
                    context,
                )
            )
        return digests

    async def remove_file(self, record: UploadRecord, context: Mapping[str, Any] | None) -> None:
        """Removes what a complete upload published, if it is still that. Raises Forbidden."""
        engine = self._engine
        if not engine.settings.allow_delete:
            raise Forbidden("Finished uploads are removed only where the server allows it.")
        stored = outcome.stored(record)
        if stored is None:
            return
        principal = await engine.authorise("delete", stored.file.name, context)
        with contextlib.suppress(NotFound, PreconditionFailed):
            await self._removal.remove_published(stored.file, principal=principal, context=context)

    async def fail(self, record: UploadRecord, staged: Staged, error: UploadError) -> None:
        """The upload ends here: its data goes, and whoever comes back is told why."""
        told = outcome.refused(error.code, error.message)
        try:
            with contextlib.suppress(NotFound):
                await self._sessions.update(record.id, state=UploadState.FAILED, outcome=told)
        except BaseException:
            if staged.dead:  # whatever is known of it
                await self._engine.workers.run(staged.discard)
            raise
        await self._engine.workers.run(staged.discard)


# --- preconditions, which hold again at publication (invariant 3) ----------------------------


def keep_preconditions(given: Preconditions) -> dict[str, Any]:
    """As part of a record's `extra`."""

    def tags(entries: tuple[EntityTag, ...] | None) -> list[tuple[str, bool]] | None:
        return None if entries is None else [(entry.opaque, entry.weak) for entry in entries]

    return {
        "if_match": tags(given.if_match),
        "if_none_match": tags(given.if_none_match),
        "if_unmodified_since": given.if_unmodified_since,
    }


def preconditions_of(extra: Mapping[str, Any]) -> Preconditions:
    kept = extra.get("preconditions")
    if not kept:
        return NO_PRECONDITIONS

    def tags(name: str) -> tuple[EntityTag, ...] | None:
        entries = kept[name]
        return None if entries is None else tuple(EntityTag(*entry) for entry in entries)

    return Preconditions(
        if_match=tags("if_match"),
        if_none_match=tags("if_none_match"),
        if_unmodified_since=kept["if_unmodified_since"],
    )
