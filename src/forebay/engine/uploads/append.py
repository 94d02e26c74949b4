"""Receiving the body of one request into a resumable upload that the caller holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.about import about_of
from forebay.engine.transfer.admission import append_too_large
from forebay.engine.transfer.pump import NO_HASHING, BodyWriter, Hashing, Source
from forebay.engine.transfer.reporting import reported
from forebay.engine.uploads import lengths
from forebay.engine.uploads.commits import Commits
from forebay.engine.uploads.rehash import hash_stored
from forebay.errors import (
    InconsistentLength,
    InvalidField,
    LeaseLost,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadError,
)
from forebay.hooks.base import Arrival
from forebay.model import NOTHING_SAID, AppendUpload, Digest, Principal, UploadRecord
from forebay.record import Extra

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.uploads.access import UploadAccess

TrailerDigests = Callable[[], tuple[Digest, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class AppendRequest:
    """One request that brings bytes.

    `context` is what hooks get of it; `on_offset` is called with each committed offset;
    `trailer_digests`, called after the body, gives digests of its content from a trailer.
    """

    command: AppendUpload
    source: Source
    context: Mapping[str, Any] | None = None
    on_offset: Callable[[int], None] | None = None
    trailer_digests: TrailerDigests | None = None


class Appender:
    """Appends to uploads of one engine."""

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine

    async def append(self, access: UploadAccess, request: AppendRequest) -> None:
        """Takes all bytes of a request; they are committed when this returns.

        Raises OffsetMismatch, InconsistentLength, TooLarge, InvalidField, and nothing has changed;
        or what broke it off: then the prefix is committed, unless digests were to be compared or
        a sync failed.
        """
        command = request.command
        length = lengths.validate_length(access.record, command, request.source.length)
        if length is not None:
            await access.change(length=length)
        await _add_digests(access, command.file_digests)
        access.lock.read_from(request.source)
        commits = Commits(self._engine, access, request.on_offset)
        try:
            await self._receive(access, request, commits)
            await commits.finish()
        except BaseException:
            await commits.wait()
            if access.staged.dead:
                await access.fail(SyncFailed())
            raise

    async def _receive(
        self, access: UploadAccess, request: AppendRequest, commits: Commits
    ) -> None:
        engine, record, source = self._engine, access.record, request.source
        command = request.command
        verified = bool(command.expected) or command.digest_in_trailer or source.late is not None
        names = sorted({digest.algorithm for digest in command.expected})
        hashing = Hashing(names) if verified else NO_HASHING
        limit, most = _limits(record, engine.settings.max_append_size)
        writer = BodyWriter(
            access.staged,
            offset=record.offset,
            limit=limit,
            hashing=hashing,
            room=record.offset + source.length if source.length else 0,
        )
        if source.length and not source.arrived:  # refused before its client sends anything
            await engine.workers.run(writer.prepare)
        try:
            arrival = self._arrival(record, request.context)
            async with reported(engine.hooks, arrival, base=record.offset) as feed:
                await engine.pump(source, writer, None if verified else commits.after_turn, feed)
            if verified:
                await self._verify(access, request, hashing)
        except StorageFailed as error:
            await commits.wait()
            await access.fail(error)
            raise
        except BaseException as error:
            await commits.wait()
            await self._keep_prefix(access, commits, error, verified=verified)
            # Not when it is the filesystem that cannot hold so much.
            if isinstance(error, TooLarge) and writer.received == limit:
                if most is not None:
                    refused = append_too_large(most)
                    refused.detail["ended"] = False  # the upload may go on
                    raise refused from error
                if command.completes is not None:
                    raise await self._overrun(access, error) from error
            raise

    def _arrival(self, record: UploadRecord, context: Mapping[str, Any] | None) -> Arrival:
        return Arrival(
            record.id,
            record.name,
            record.length,
            record.media_type,
            Principal(record.principal),
            about=about_of(record) if self._engine.hooks.progresses else NOTHING_SAID,
            context=context,
        )

    async def _keep_prefix(
        self, access: UploadAccess, commits: Commits, error: BaseException, *, verified: bool
    ) -> None:
        """Commits what came before the request broke off; forgets what would need its digest."""
        if verified:
            await access.rollback()
            return
        if not isinstance(error, UploadError) or isinstance(error, LeaseLost):
            return
        if not error.detail.get("misplaced"):
            await commits.finish()

    async def _verify(self, access: UploadAccess, request: AppendRequest, hashing: Hashing) -> None:
        """Compares the digests of this request's content. Raises DigestMismatch."""
        hashing.verify(request.command.expected)
        trailing = request.trailer_digests() if request.trailer_digests is not None else ()
        if trailing:
            names = sorted({digest.algorithm for digest in trailing})
            start = access.record.offset
            (await hash_stored(self._engine, access.staged, names, start)).verify(trailing)

    async def _overrun(self, access: UploadAccess, error: UploadError) -> UploadError:
        """More bytes came than may: the upload is of no use any more."""
        length = access.record.length
        if length is not None:
            error = InconsistentLength(f"More came than the {length} bytes announced.")
        else:
            error.detail |= {"ended": True, "max_size": Extra.of(access.record).limit}
        await access.fail(error)
        return error


async def _add_digests(access: UploadAccess, digests: tuple[Digest, ...]) -> None:
    """Stores digests of the whole file, beside those of earlier requests. Raises InvalidField."""
    if not digests:
        return
    extra = Extra.of(access.record)
    known = {digest.algorithm: digest for digest in extra.expected}
    if any(known.get(digest.algorithm, digest) != digest for digest in digests):
        raise InvalidField("The digest of the file is not the one that was told before.")
    new = tuple(digest for digest in digests if digest.algorithm not in known)
    if new:
        await access.change_extra(dataclasses.replace(extra, expected=(*extra.expected, *new)))


def _limits(record: UploadRecord, most: int | None) -> tuple[int | None, int | None]:
    """The most bytes that may come now; and that again when it is the request's limit, not the
    upload's, which is reached first.
    """
    bound = lengths.bound(record)
    left = None if bound is None else bound - record.offset
    if most is None or (left is not None and left <= most):
        return left, None
    return most, most
