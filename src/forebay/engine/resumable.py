"""Resumable uploads: create, append, ask, cancel, the same for every dialect.

Whoever works on an upload holds the lock of its data (`holders`), loads its state under that
lock, and looks up in the table (`lifecycle`) what a command does in that state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from forebay.engine.commits import Commits, expiry
from forebay.engine.completion import Completion
from forebay.engine.holders import Holders, Holding
from forebay.engine.lifecycle import Answer, Command, answer
from forebay.engine.receive import NO_HASHING, Hashing, Intake, Source
from forebay.errors import (
    DigestMismatch,
    Gone,
    InconsistentLength,
    NotFound,
    OffsetMismatch,
    StorageFailed,
    SyncFailed,
    TooLarge,
    UploadError,
    VerificationRefused,
    WrongState,
)
from forebay.hooks.base import Candidate
from forebay.hooks.base import Completion as Completed
from forebay.model import (
    AppendUpload,
    CreateUpload,
    Digest,
    FileInfo,
    MiB,
    Principal,
    Stored,
    UploadRecord,
    UploadState,
)
from forebay.protocol.names import numbered
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Staged

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

logger = logging.getLogger("forebay")

LateDigests = Callable[[], tuple[Digest, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where an upload stands after a command. `replayed`: the answer was given before."""

    record: UploadRecord
    replayed: bool = False

    @property
    def complete(self) -> bool:
        return self.record.state is UploadState.COMPLETE


class Resumables:
    """The resumable uploads of one engine."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self._engine = engine
        self._sessions = sessions
        self.holders = Holders(sessions)
        self._completion = Completion(engine.store, sessions, engine.workers, numbered)

    # --- create ----------------------------------------------------------------------------------

    async def create(
        self, wish: CreateUpload, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Makes an upload; it exists durably when this returns.

        Raises what authorisation raises, TooLarge, NameTaken (policy refuse), StorageError.
        """
        engine = self._engine
        settings = engine.settings
        principal = await engine.authorise("create", wish.name, context)
        limit = self._limit(wish.max_size)
        if wish.length is not None and limit is not None and wish.length > limit:
            raise TooLarge(
                f"The upload has {wish.length} bytes; at most {limit} are taken (--max-size).",
                limit=limit,
            )
        if engine.draining:
            engine.admission.enter()  # raises ShuttingDown
        now = time.time()
        record = UploadRecord(
            id=secrets.token_urlsafe(24),
            principal=principal.id,
            dialect=wish.dialect,
            state=UploadState.OPEN,
            offset=0,
            length=wish.length,
            name=wish.name,
            created_at=now,
            expires_at=expiry(settings.retention),
            conflict=wish.conflict,
            media_type=wish.media_type,
            metadata=wish.metadata,
            extra=_extra(wish, limit),
        )
        run = engine.workers.run
        if not wish.partial:
            await run(engine.store.check_target, Publication(wish.name, wish.conflict))
        staged = await run(engine.store.create, record.id, undo=_discard)
        try:
            await self._sessions.create(record)
        except BaseException:
            await run(staged.discard)
            raise
        await run(staged.close)
        return record

    def _limit(self, own: int | None) -> int | None:
        limits = [n for n in (own, self._engine.settings.max_size) if n is not None]
        return min(limits, default=None)

    # --- ask -------------------------------------------------------------------------------------

    async def peek(
        self, upload_id: str, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The committed state; disturbs nobody. Raises NotFound."""
        record = await self._sessions.load(upload_id)
        await self._check_owner(record, "read", context)
        return record

    async def offset(
        self, upload_id: str, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The committed state after whoever wrote has let go; the next append fits it.

        An upload that has all its bytes is completed first (invariant 11). Raises NotFound,
        Gone, UploadBusy, and what completion raises.
        """
        async with self._held(upload_id, Command.OFFSET, context) as (record, staged, _, todo):
            if todo is Answer.TELL and staged is not None and self._is_full(record):
                todo = Answer.FINISH
            if todo is Answer.FINISH:
                assert staged is not None
                record = await self._finish(record, staged)
            return record

    @staticmethod
    def _is_full(record: UploadRecord) -> bool:
        """All bytes are here and only completion is missing, as after a crash."""
        return (
            record.state is UploadState.OPEN
            and record.length == record.offset
            and json.loads(record.extra).get("completes_by_length", False)
        )

    async def cancel(
        self, upload_id: str, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Ends an upload: its data goes, a running append is ended first.

        A finished one is only forgotten; its file stays. Raises NotFound, Gone, UploadBusy.
        """
        async with self._held(upload_id, Command.CANCEL, context) as (record, staged, _, todo):
            if todo is Answer.REMOVE and staged is not None:
                await self._engine.workers.run(staged.discard)
            await self._sessions.delete(upload_id)
            return record

    # --- append ----------------------------------------------------------------------------------

    async def append(
        self,
        wish: AppendUpload,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        told: Callable[[int], None] | None = None,
        late: LateDigests | None = None,
    ) -> Standing:
        """Takes a request's bytes; completes the upload when they were the last.

        `told` is called with each committed offset; `late` after the body with the digests
        that came behind it. Raises NotFound, Gone, OffsetMismatch, WrongState,
        InconsistentLength, TooLarge, UploadBusy; then nothing changed. Raises BodyFailed,
        Interrupted or StorageError when it broke off: the prefix is kept and committed,
        unless digests were to be compared.
        """
        async with self._held(wish.upload_id, Command.APPEND, context) as held:
            record, staged, holding, todo = held
            if todo is Answer.FINISH:
                assert staged is not None
                record = await self._finish(record, staged)
                todo = answer(record.state, Command.APPEND)
            if todo is Answer.REPLAY:
                return self._replay(record, wish, source)
            assert staged is not None
            record = await self._settle_length(record, wish, source)
            self._engine.admission.enter()
            try:
                holding.read_from(source)
                record = await self._receive(record, staged, wish, source, told, late)
            finally:
                self._engine.admission.leave()
            if self._ends(record, wish):
                record = await self._finish(record, staged)
            return Standing(record)

    def _replay(self, record: UploadRecord, wish: AppendUpload, source: Source) -> Standing:
        """The last answer was lost: an empty request at the end is told again how it ended."""
        _check_dialect(record, wish)
        if wish.offset != record.offset:
            raise OffsetMismatch(expected=record.offset, provided=wish.offset)
        if source.length != 0:
            raise WrongState("The upload is complete; nothing can be added.", state=record.state)
        return Standing(record, replayed=True)

    async def _settle_length(
        self, record: UploadRecord, wish: AppendUpload, source: Source
    ) -> UploadRecord:
        """Checks what the head says against what is known; records a length told now."""
        _check_dialect(record, wish)
        if wish.offset != record.offset:
            raise OffsetMismatch(expected=record.offset, provided=wish.offset)
        length = wish.length
        if length is None and wish.completes and source.length is not None:
            length = wish.offset + source.length
        if length is not None and record.length is not None and length != record.length:
            raise InconsistentLength
        known = record.length if length is None else length
        limit = json.loads(record.extra).get("limit")
        if known is not None and known < record.offset:
            raise InconsistentLength("The length is less than what has arrived already.")
        if limit is not None and known is not None and known > limit:
            raise TooLarge(limit=limit)
        bound = known if known is not None else limit
        if source.length is not None and bound is not None and wish.offset + source.length > bound:
            raise TooLarge(
                f"At most {bound - wish.offset} more bytes may come.", limit=bound - wish.offset
            )
        if length is not None and record.length is None:
            return await self._sessions.update(record.id, version=record.version, length=length)
        return record

    async def _receive(
        self,
        record: UploadRecord,
        staged: Staged,
        wish: AppendUpload,
        source: Source,
        told: Callable[[int], None] | None,
        late: LateDigests | None,
    ) -> UploadRecord:
        engine = self._engine
        verified = bool(wish.expected) or wish.late
        bound = record.length
        if bound is None:
            bound = json.loads(record.extra).get("limit")
        hashing = Hashing(sorted({d.algorithm for d in wish.expected})) if verified else NO_HASHING
        intake = Intake(
            staged,
            offset=record.offset,
            limit=None if bound is None else bound - record.offset,
            hashing=hashing,
            reserve=source.length is None,
        )
        commits = Commits(
            record.id,
            staged,
            store=engine.store,
            sessions=self._sessions,
            workers=engine.workers,
            committed=record.offset,
            retention=engine.settings.retention,
            told=told,
        )
        if source.length:
            await engine.workers.run(staged.reserve, record.offset + source.length)
        try:
            after = None if verified else commits.after_turn
            await engine.pump(source, intake, after)
            if verified:
                await self._verify_request(record, staged, hashing, wish, late)
        except (SyncFailed, StorageFailed) as error:
            await commits.settle()
            await self._fail(record, staged, error)
            raise
        except BaseException as error:
            await commits.settle()
            if verified:
                await engine.workers.run(staged.truncate, record.offset)
            elif isinstance(error, UploadError):
                await commits.finish()
            if isinstance(error, TooLarge) and wish.completes is not None:
                await self._fail(record, staged, error)
            raise
        await commits.finish()
        return await self._sessions.load(record.id)

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
            await self._engine.workers.run(_verify_stored, staged, behind, record.offset)

    def _ends(self, record: UploadRecord, wish: AppendUpload) -> bool:
        if wish.completes is None:
            return record.length is not None and record.offset == record.length
        if wish.completes and record.length is not None and record.offset != record.length:
            raise InconsistentLength(
                f"The upload was said to be complete at {record.offset} of {record.length} bytes."
            )
        return wish.completes

    # --- the end ---------------------------------------------------------------------------------

    async def _finish(self, record: UploadRecord, staged: Staged) -> UploadRecord:
        """Verifies, publishes, commits, tells. Raises what refuses it.

        Refused by a digest or `on_verify` it has FAILED; on any other error it stays
        COMPLETING, and the next question tries again.
        """
        extra = json.loads(record.extra)
        record = await self._sessions.update(
            record.id,
            version=record.version,
            state=UploadState.COMPLETING,
            length=record.offset,
        )
        if extra.get("partial"):
            return await self._sessions.update(
                record.id, version=record.version, state=UploadState.COMPLETE
            )
        repaired = await self._completion.repair(record)
        if repaired.state is UploadState.COMPLETE:
            return repaired
        try:
            digests = await self._verify(record, staged, extra)
        except (DigestMismatch, VerificationRefused) as error:
            await self._fail(record, staged, error)
            raise
        started = record.created_at
        record = await self._completion.complete(record, staged)
        assert record.final_name is not None
        info = await self._engine.workers.run(self._engine.store.stat, record.final_name)
        await self._tell(record, info, digests, max(0.0, time.time() - started))
        return record

    async def _verify(
        self, record: UploadRecord, staged: Staged, extra: Mapping[str, Any]
    ) -> tuple[Digest, ...]:
        engine = self._engine
        expected = tuple(Digest(a, bytes.fromhex(v)) for a, v in extra.get("expected", ()))
        wanted = tuple(extra.get("wanted", ()))
        digests: tuple[Digest, ...] = ()
        if expected or wanted:
            names = sorted({d.algorithm for d in expected} | set(wanted))
            hashing = await engine.workers.run(_hash_stored, staged, names, 0)
            hashing.verify(expected)
            digests = hashing.digests(wanted)
        if engine.hooks.verifies:

            def reader() -> BinaryIO:
                return os.fdopen(staged.open_read(), "rb")

            await engine.hooks.verify(
                Candidate(
                    record.name,
                    record.offset,
                    record.media_type,
                    digests,
                    Principal(record.principal),
                    reader,
                )
            )
        return digests

    async def _tell(
        self, record: UploadRecord, info: FileInfo, digests: tuple[Digest, ...], duration: float
    ) -> None:
        stored = Stored(info, record.final_name != record.name, False, digests, duration)
        completed = Completed(record.id, stored, record.media_type, Principal(record.principal))
        try:
            await self._engine.hooks.complete(completed)
        except Exception:
            logger.exception("on_complete failed for %r; the file stays", record.final_name)

    async def _fail(self, record: UploadRecord, staged: Staged, error: UploadError) -> None:
        """The upload ends here: its data goes, and whoever comes back is told why."""
        outcome = json.dumps({"code": error.code, "message": error.message}).encode()
        with contextlib.suppress(NotFound):
            await self._sessions.update(record.id, state=UploadState.FAILED, outcome=outcome)
        await self._engine.workers.run(staged.discard)

    # --- holding ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _held(
        self, upload_id: str, command: Command, context: Mapping[str, Any] | None
    ) -> AsyncIterator[tuple[UploadRecord, Staged | None, Holding, Answer]]:
        """Holds an upload and loads its state under the lock. Raises NotFound, Gone."""
        run = self._engine.workers.run
        # Asked first, so that a stranger cannot interrupt anybody.
        await self._check_owner(await self._sessions.load(upload_id), command, context)
        async with self.holders.taken(upload_id, lambda: self._claim(upload_id)) as taken:
            holding, staged = taken
            try:
                record = await self._sessions.load(upload_id)
                self._check_alive(record)
                todo = answer(record.state, command)
                if todo is Answer.GONE:
                    raise _gone(record)
                if staged is None and record.state in (UploadState.OPEN, UploadState.COMPLETING):
                    raise await self._lost(record)
                if staged is not None and record.state is UploadState.OPEN:
                    if staged.offset < record.offset:
                        raise await self._lost(record, staged)
                    if staged.offset > record.offset:
                        await run(staged.truncate, record.offset)
                yield record, staged, holding, todo
            finally:
                if staged is not None:
                    await run(staged.close)

    async def _claim(self, upload_id: str) -> Staged | None:
        try:
            return await self._engine.workers.run(self._engine.store.claim, upload_id, undo=_close)
        except NotFound:
            return None

    def _check_alive(self, record: UploadRecord) -> None:
        """Refused from its moment on, also before the sweeper came."""
        if record.expires_at is not None and record.expires_at <= time.time():
            raise Gone("This upload has expired; start a new one.")

    async def _check_owner(
        self, record: UploadRecord, action: str, context: Mapping[str, Any] | None
    ) -> None:
        principal = await self._engine.authorise(action, record.name, context)
        if principal.id != record.principal:
            raise NotFound  # that it exists is nobody else's business

    async def _lost(self, record: UploadRecord, staged: Staged | None = None) -> UploadError:
        error = StorageFailed("The data of this upload was lost; start a new one.")
        logger.error(
            "upload %s: %d bytes were committed and are not there", record.id, record.offset
        )
        outcome = json.dumps({"code": error.code, "message": error.message}).encode()
        await self._sessions.update(record.id, state=UploadState.FAILED, outcome=outcome)
        if staged is not None:
            await self._engine.workers.run(staged.discard)
        return Gone(error.message)


def _extra(wish: CreateUpload, limit: int | None) -> bytes:
    extra: dict[str, Any] = {"completes_by_length": wish.dialect == "tus"}
    if limit is not None:
        extra["limit"] = limit
    if wish.partial:
        extra["partial"] = True
    if wish.expected:
        extra["expected"] = [(d.algorithm, d.value.hex()) for d in wish.expected]
    if wish.wanted:
        extra["wanted"] = wish.wanted
    return json.dumps(extra).encode()


def _check_dialect(record: UploadRecord, wish: AppendUpload) -> None:
    if record.dialect != wish.dialect:
        raise WrongState(
            f"This upload was begun in the {record.dialect} protocol and goes on in it.",
            state=record.state,
        )


def _gone(record: UploadRecord) -> Gone:
    if record.outcome:
        told = json.loads(record.outcome)
        return Gone(f"This upload has ended: {told['message']}")
    return Gone()


def _hash_stored(staged: Staged, names: list[str], offset: int) -> Hashing:
    """In a thread: digests of what is stored from `offset` on."""
    hashing = Hashing(names)
    with os.fdopen(staged.open_read(), "rb", buffering=0) as reader:
        reader.seek(offset)
        buffer = bytearray(MiB)
        view = memoryview(buffer)
        left = staged.offset - offset
        while left and (got := reader.readinto(view[: min(left, MiB)])):
            hashing.update(view[:got])
            left -= got
    return hashing


def _verify_stored(staged: Staged, expected: tuple[Digest, ...], offset: int) -> None:
    _hash_stored(staged, sorted({d.algorithm for d in expected}), offset).verify(expected)


def _discard(staged: Staged) -> None:
    staged.discard()


def _close(staged: Staged) -> None:
    staged.close()
