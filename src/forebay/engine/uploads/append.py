"""Receiving one request's bytes into a resumable upload that the caller holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.transfer.admission import append_too_large
from forebay.engine.transfer.pump import NO_HASHING, BodyWriter, Hashing, Source
from forebay.engine.transfer.reporting import reported
from forebay.engine.uploads import lengths
from forebay.engine.uploads.about import about_of
from forebay.engine.uploads.commits import Commits
from forebay.engine.uploads.finish import Ending
from forebay.engine.uploads.rehash import hash_stored
from forebay.errors import (
    InconsistentLength,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadError,
)
from forebay.hooks.base import Arrival
from forebay.model import NOTHING_SAID, AppendUpload, Digest, Principal, UploadRecord
from forebay.sessions.base import Sessions
from forebay.stores.base import Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

LateDigests = Callable[[], tuple[Digest, ...]]


class Appending:
    def __init__(self, engine: EngineContext, sessions: Sessions, ending: Ending) -> None:
        self._engine = engine
        self._sessions = sessions
        self._ending = ending

    async def receive(
        self,
        record: UploadRecord,
        staged: Staged,
        wish: AppendUpload,
        source: Source,
        told: Callable[[int], None] | None,
        late: LateDigests | None,
        context: Mapping[str, Any] | None = None,
    ) -> UploadRecord:
        """The record as it is when all of the body is committed. Raises what broke it off;
        the prefix is kept then, unless digests were to be compared or a sync failed.
        """
        commits = self._commits(record, staged, told)
        try:
            await self._receive(commits, record, staged, wish, source, late, context)
            await commits.finish()
        except BaseException:
            await commits.settle()
            if staged.dead:
                await self._ending.fail(record, staged, SyncFailed())
            raise
        return commits.record

    async def _receive(
        self,
        commits: Commits,
        record: UploadRecord,
        staged: Staged,
        wish: AppendUpload,
        source: Source,
        late: LateDigests | None,
        context: Mapping[str, Any] | None,
    ) -> None:
        engine = self._engine
        verified = bool(wish.expected) or wish.digest_in_trailer or source.late is not None
        hashing = Hashing(sorted({d.algorithm for d in wish.expected})) if verified else NO_HASHING
        limit, most = _limits(record, engine.settings.max_append_size)
        intake = BodyWriter(
            staged,
            offset=record.offset,
            limit=limit,
            hashing=hashing,
            room=record.offset + source.length if source.length else 0,
        )
        if source.length and not source.arrived:  # its client is told before it sends anything
            await engine.workers.run(intake.prepare)
        try:
            after = None if verified else commits.after_turn
            about = Arrival(
                record.id,
                record.name,
                record.length,
                record.media_type,
                Principal(record.principal),
                about=about_of(record) if engine.hooks.progresses else NOTHING_SAID,
                context=context,
            )
            async with reported(engine.hooks, about, base=record.offset) as feed:
                await engine.pump(source, intake, after, feed)
            if verified:
                await self._verify_request(record, staged, hashing, wish, late)
        except StorageFailed as error:
            await commits.settle()
            await self._ending.fail(record, staged, error)
            raise
        except BaseException as error:
            await commits.settle()
            if verified:
                await engine.workers.run(staged.rollback, record.offset)
            elif isinstance(error, UploadError) and not error.detail.get("misplaced"):
                await commits.finish()
            # Not when it is the filesystem that cannot hold so much.
            over = isinstance(error, TooLarge) and intake.received == limit
            if over and most is not None:
                refused = append_too_large(most)
                refused.detail["ended"] = False  # the upload may go on
                raise refused from error
            if isinstance(error, TooLarge) and over and wish.completes is not None:
                raise await self._overrun(record, staged, error) from error
            raise

    def _commits(
        self, record: UploadRecord, staged: Staged, told: Callable[[int], None] | None
    ) -> Commits:
        engine = self._engine
        return Commits(
            record,
            staged,
            sessions=self._sessions,
            workers=engine.workers,
            retention=engine.settings.retention,
            told=told,
        )

    async def _verify_request(
        self,
        record: UploadRecord,
        staged: Staged,
        hashing: Hashing,
        wish: AppendUpload,
        late: LateDigests | None,
    ) -> None:
        """Compares the digests of this request's content. Raises DigestMismatch."""
        hashing.verify(wish.expected)
        behind = late() if late is not None else ()
        if behind:
            names = sorted({d.algorithm for d in behind})
            (await hash_stored(self._engine, staged, names, record.offset)).verify(behind)

    async def _overrun(
        self, record: UploadRecord, staged: Staged, error: UploadError
    ) -> UploadError:
        """More bytes came than may: the upload is of no use any more."""
        if record.length is not None:
            error = InconsistentLength(f"More came than the {record.length} bytes announced.")
        else:
            error.detail |= {"ended": True, "max_size": lengths.limit_of(record)}
        await self._ending.fail(record, staged, error)
        return error


def _limits(record: UploadRecord, most: int | None) -> tuple[int | None, int | None]:
    """The most bytes that may come now; and that again when it is the request's limit, not the
    upload's, which is reached first.
    """
    bound = lengths.bound(record)
    left = None if bound is None else bound - record.offset
    if most is None or (left is not None and left <= most):
        return left, None
    return most, most
