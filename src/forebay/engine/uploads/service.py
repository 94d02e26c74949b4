"""Resumable uploads: create, append, ask, cancel, the same for every dialect.

Whoever works on an upload holds the lock of its data (`holders`), loads its state under that
lock, and looks up in the table (`lifecycle`) what a command does in that state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.ids import new_id
from forebay.engine.outbox.durable import DurableOutbox
from forebay.engine.outbox.notifier import Notifier
from forebay.engine.transfer.pump import BodyWriter, Source
from forebay.engine.uploads import lengths, outcome
from forebay.engine.uploads.about import kept
from forebay.engine.uploads.access import UploadAccess, check_alive
from forebay.engine.uploads.append import Appending, LateDigests
from forebay.engine.uploads.at_once import store_at_once
from forebay.engine.uploads.by_name import Bindings, binding_of
from forebay.engine.uploads.commits import expiry
from forebay.engine.uploads.concatenation import (
    Concatenation,
    check_parts,
    is_partial,
    parts_of,
    release_part,
    total,
)
from forebay.engine.uploads.finish import Ending, keep_preconditions
from forebay.engine.uploads.lifecycle import Answer, Command, answer
from forebay.engine.uploads.locking import HeldLock, UploadLocks
from forebay.engine.uploads.unfinished import EndEmpty, Unfinished
from forebay.errors import (
    InvalidField,
    NotFound,
    OffsetMismatch,
    TooLarge,
    UploadError,
    WrongState,
)
from forebay.model import (
    AppendUpload,
    CreateUpload,
    Stored,
    UploadRecord,
    UploadState,
)
from forebay.sessions.base import Sessions
from forebay.stores.base import Publication, Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.files.remove import Removal

__all__ = ["Announce", "LateDigests", "Standing", "UploadService"]

logger = logging.getLogger("forebay")

Announce = Callable[[UploadRecord], Awaitable[bool]]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where an upload stands after a command. `replayed`: the answer was given before."""

    record: UploadRecord
    replayed: bool = False

    @property
    def complete(self) -> bool:
        return self.record.state is UploadState.COMPLETE

    @property
    def stored(self) -> Stored | None:
        """The finished file; None while there is none."""
        return outcome.stored(self.record)


class UploadService:
    """The resumable uploads of one engine."""

    def __init__(
        self, engine: EngineContext, sessions: Sessions, removal: Removal, end_empty: EndEmpty
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self.holders = UploadLocks(sessions, engine.workers)
        self._ending = Ending(engine, sessions, removal)
        self.notifier = Notifier(engine, sessions)
        self.outbox = DurableOutbox(engine, sessions, self.notifier)
        self._unfinished = Unfinished(engine, end_empty)
        self._appending = Appending(engine, sessions, self._ending)
        self._custody = UploadAccess(engine, sessions, self.holders, self._ending)
        self.bindings = Bindings(
            engine, sessions, self.holders, self._custody, self._ending, self.notifier
        )
        self.concatenation = Concatenation(
            engine, sessions, self.holders, self._ending, self._custody.claim, self.notifier
        )

    async def close(self) -> None:
        """Stops copies and calls; lets go of all locks."""
        await self.concatenation.close()
        await self.notifier.close()
        await self.holders.close()

    # --- create ----------------------------------------------------------------------------------

    async def create(
        self, wish: CreateUpload, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Makes an upload; it exists durably when this returns.

        One that is made of parts is being made from then on. Raises what authorisation raises,
        TooLarge, NameTaken (policy refuse), PreconditionFailed, StorageError; NotFound or
        InvalidRequest for its parts; UploadExists for a bound one.
        """
        if wish.parts:
            parts = {i: await self.peek(i, context=context) for i in dict.fromkeys(wish.parts)}
            for part in parts.values():
                check_alive(part)
            check_parts(wish.parts, parts, wish.dialect)
            wish = dataclasses.replace(wish, length=total(parts[i] for i in wish.parts))
        record = await self._new_record(wish, context)
        staged = await self._begin(record, wish, (wish.length or 0) if wish.parts else 0)
        await self._engine.workers.run(staged.close)
        return await self.concatenation.begin(record, context) if wish.parts else record

    async def create_with(
        self,
        wish: CreateUpload,
        first: AppendUpload,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        announce: Announce | None = None,
        told: Callable[[int], None] | None = None,
        late: LateDigests | None = None,
        silent: bool = False,
    ) -> Standing:
        """Makes an upload and takes the first request's bytes, in one hold from start to end.

        `announce` tells the client of the upload before its bytes are read, and returns
        whether it could. What breaks off is kept if the client knows of it, but nothing of a
        bound one that has no byte: its name is all that a client needs. `silent`: nothing is
        told before the answer, so a body that is here already may be stored first. `first` gets
        its `upload_id` here. Raises what `create` and `append` raise.
        """
        engine = self._engine
        run = engine.workers.run
        engine.admission.check_append(source.length)
        with self._engine.admitted():
            record = await self._new_record(wish, context)
            if announce is None or silent:
                done = await store_at_once(engine, self._sessions, record, wish, first, source)
                if done is not None:
                    if announce is not None:
                        await announce(done)
                    return Standing(done)
            staged = await self._begin(record, wish, source.length or 0)

            async def ours() -> Staged:
                return staged

            try:
                async with self.holders.taken(record.id, ours) as (holding, _):
                    known = announce is not None and await announce(record)
                    first = dataclasses.replace(first, upload_id=record.id)
                    try:
                        standing = await self._take(
                            record, staged, holding, first, source, told, late, context
                        )
                    except BaseException:
                        if not known or (wish.by_name and await self._is_empty(record.id)):
                            await self._drop(record.id, staged)
                        raise
            finally:
                await run(staged.close)
        await self.notifier.notify_if_new(standing.record, context)
        return standing

    async def _drop(self, upload_id: str, staged: Staged) -> None:
        """Nobody needs to come back to an upload: it goes, unless it was published already."""
        with contextlib.suppress(UploadError):  # then it stays, for the sweep
            record = await self._ending.settle(await self._sessions.load(upload_id), staged)
            if record.state is not UploadState.COMPLETE:
                await self._ending.remove(upload_id, staged)
            self.notifier.soon(record)

    async def _is_empty(self, upload_id: str) -> bool:
        try:
            return (await self._sessions.load(upload_id)).offset == 0
        except NotFound:
            return True
        except UploadError:  # then it is found empty by whoever comes next
            return False

    async def _begin(self, record: UploadRecord, wish: CreateUpload, size: int) -> Staged:
        """The locked data of a new upload, with room for `size` bytes; its record is kept."""
        engine = self._engine
        run = engine.workers.run
        await self._unfinished.check()
        if not wish.partial:
            target = Publication(wish.name, wish.conflict, wish.preconditions)
            await run(engine.store.check_target, target)
        staged = await run(lambda: engine.store.begin(record, None, sealable=True), undo=_discard)
        try:
            if size:
                await run(staged.reserve, size)
            await self.bindings.enter(record)
            self._unfinished.added()
        except BaseException as error:
            if not isinstance(error, UploadError):  # cancelled while the record was added
                with contextlib.suppress(UploadError):
                    await self._sessions.delete(record.id)
            await run(staged.discard)
            raise
        return staged

    async def _new_record(
        self, wish: CreateUpload, context: Mapping[str, Any] | None
    ) -> UploadRecord:
        engine = self._engine
        about = dataclasses.replace(wish.about, length=wish.length, media_type=wish.media_type)
        principal = await engine.authorise("create", wish.name, context, about=lambda: about)
        limit = engine.limit(wish.max_size)
        if wish.length is not None and limit is not None and wish.length > limit:
            raise TooLarge(
                f"The upload has {wish.length} bytes; at most {limit} are taken (--max-size).",
                limit=limit,
            )
        if engine.admission.draining:
            engine.admission.enter()  # raises ShuttingDown
        return UploadRecord(
            id=new_id(),
            principal=principal.id,
            dialect=wish.dialect,
            state=UploadState.OPEN,
            offset=0,
            length=wish.length,
            name=wish.name,
            created_at=time.time(),
            expires_at=expiry(engine.settings.retention),
            conflict=wish.conflict,
            media_type=wish.media_type,
            metadata=wish.metadata,
            extra=_extra(wish, limit),
            binding=binding_of(principal.id, wish.name) if wish.by_name else None,
        )

    # --- ask -------------------------------------------------------------------------------------

    async def peek(
        self, upload_id: str, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The committed state; disturbs nobody. Raises NotFound."""
        record = await self._sessions.load(upload_id)
        await self._custody.check_owner(record, "read", context)
        return record

    async def offset(
        self,
        upload_id: str,
        *,
        context: Mapping[str, Any] | None = None,
        dialect: str | None = None,
    ) -> UploadRecord:
        """The committed state after whoever wrote has let go; the next append fits it.

        An upload that has all its bytes is completed first (invariant 11). Raises NotFound,
        Gone, UploadBusy, WrongState (begun in another dialect than `dialect`), and what
        completion raises. One that is being made of parts goes on meanwhile.
        """
        record = await self._sessions.load(upload_id)
        if parts_of(record) and record.is_unfinished:
            await self._custody.check_owner(record, Command.OFFSET, context)
            check_alive(record)
            record = await self.concatenation.standing(record, context)
            if record.state is not UploadState.FAILED:
                return record
        async with self._custody.held(upload_id, Command.OFFSET, context, dialect) as (
            record,
            staged,
            _,
            todo,
        ):
            if todo is Answer.TELL and staged is not None and self._is_full(record):
                todo = Answer.FINISH
            if todo is Answer.FINISH:
                assert staged is not None
                record = await self._finish(record, staged, context)
        await self.notifier.notify_if_new(record, context)
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
        self,
        upload_id: str,
        *,
        context: Mapping[str, Any] | None = None,
        dialect: str | None = None,
    ) -> UploadRecord:
        """Ends an upload: its data goes, a running append is ended first.

        A finished one needs `--allow-delete`: its file goes, unless it has changed since.
        Raises NotFound, Gone, Forbidden, UploadBusy (a final upload is being made of it).
        """
        async with self._custody.held(upload_id, Command.CANCEL, context, dialect) as held:
            record, staged, _, _ = held
            if is_partial(record):
                await release_part(self._sessions, record)
            elif record.state is UploadState.COMPLETE:
                try:
                    await self._ending.remove_file(record, context)
                except UploadError:
                    self.notifier.soon(record)
                    raise
            await self._ending.forget(record, staged)
        self.notifier.soon(record)
        self.concatenation.part_ended(upload_id)
        return record

    async def cancel_unfinished(self, upload_id: str) -> UploadRecord:
        """The same for whoever runs the server, of anybody's upload; a finished one stays.

        Raises NotFound, Gone, WrongState (it has ended), UploadBusy.
        """
        held = self._custody.held(upload_id, Command.CANCEL, None, own=False)
        async with held as (record, staged, _, _):
            if not record.is_unfinished:
                raise WrongState(
                    "This upload has ended; only one that is under way can be cancelled.",
                    state=record.state,
                )
            if is_partial(record):
                await release_part(self._sessions, record)
            await self._ending.remove(upload_id, staged)
        self.concatenation.part_ended(upload_id)
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
        self._engine.admission.check_append(source.length)
        custody = self._custody.held(wish.upload_id, Command.APPEND, context, wish.dialect)
        async with custody as (record, staged, holding, todo):
            if todo is Answer.FINISH:
                assert staged is not None
                record = await self._finish(record, staged, context)
                todo = answer(record.state, Command.APPEND)
            if todo is Answer.REPLAY:
                self.notifier.soon(record)  # whatever becomes of this request
                standing = await self._replay(record, wish, source)
            else:
                assert staged is not None
                with self._engine.admitted():
                    standing = await self._take(
                        record, staged, holding, wish, source, told, late, context
                    )
            if standing.record.state is UploadState.OPEN:  # more is likely to come soon
                holding.record = standing.record
        await self.notifier.notify_if_new(standing.record, context)
        return standing

    async def _take(
        self,
        record: UploadRecord,
        staged: Staged,
        holding: HeldLock,
        wish: AppendUpload,
        source: Source,
        told: Callable[[int], None] | None,
        late: LateDigests | None,
        context: Mapping[str, Any] | None,
    ) -> Standing:
        """One request's bytes into an upload that is held, and its end if they were the last."""
        length = lengths.settle(record, wish, source.length)
        if length is not None:
            record = await self._sessions.update(record.id, version=record.version, length=length)
        record = await self._keep_digests(record, wish)
        holding.read_from(source)
        record = await self._appending.receive(record, staged, wish, source, told, late, context)
        if lengths.ends(record.offset, record.length, wish.completes):
            record = await self._finish(record, staged, context)
        return Standing(record)

    async def _keep_digests(self, record: UploadRecord, wish: AppendUpload) -> UploadRecord:
        """Those of the whole file, with what earlier requests told. Raises InvalidField."""
        if not wish.file_digests:
            return record
        extra = json.loads(record.extra)
        known = [tuple(pair) for pair in extra.get("expected", ())]
        told = [(digest.algorithm, digest.value.hex()) for digest in wish.file_digests]
        if any(one[0] == two[0] and one != two for one in known for two in told):
            raise InvalidField("The digest of the file is not the one that was told before.")
        if not set(told) - set(known):
            return record
        extra["expected"] = [*known, *(pair for pair in told if pair not in known)]
        kept = json.dumps(extra).encode()
        return await self._sessions.update(record.id, version=record.version, extra=kept)

    async def _finish(
        self, record: UploadRecord, staged: Staged, context: Mapping[str, Any] | None
    ) -> UploadRecord:
        record = await self._ending.finish(record, staged, context)
        self.concatenation.part_ended(record.id)
        return record

    async def _replay(self, record: UploadRecord, wish: AppendUpload, source: Source) -> Standing:
        """The last answer was lost: whoever asks to end the upload again is told how it ended.

        That is an empty request at the end, or the last one as it was. No byte is taken.
        """
        size = source.length
        at_end = wish.offset == record.offset
        if wish.completes is not None and size is not None and wish.offset + size == record.offset:
            lengths.agree(wish.length, record.length)
            if wish.completes:
                return Standing(record, replayed=True)
        if not at_end:
            raise OffsetMismatch(expected=record.offset, provided=wish.offset)
        lengths.agree(wish.length, record.length)
        if size is None and wish.completes is None:
            await self._engine.pump(source, BodyWriter(_Nowhere(), limit=0))  # raises TooLarge
        elif size != 0 or wish.completes is not None:
            raise WrongState("The upload is complete; nothing can be added.", state=record.state)
        return Standing(record, replayed=True)


class _Nowhere:
    """The sink of a body that must turn out to be empty."""

    def write(self, data: memoryview, offset: int) -> None:
        raise AssertionError("its limit is 0")

    def reserve(self, size: int) -> None:
        raise AssertionError("its limit is 0")


def _extra(wish: CreateUpload, limit: int | None) -> bytes:
    extra: dict[str, Any] = {
        **kept(wish.about),
        **dict(wish.extra),
        "completes_by_length": wish.dialect != "ietf",
    }
    if limit is not None:
        extra["limit"] = limit
    if wish.partial:
        extra["partial"] = True
    if wish.parts:
        extra["parts"] = wish.parts
    if wish.preconditions:
        extra["preconditions"] = keep_preconditions(wish.preconditions)
    if wish.expected:
        extra["expected"] = [(d.algorithm, d.value.hex()) for d in wish.expected]
    if wish.wanted:
        extra["wanted"] = wish.wanted
    return json.dumps(extra).encode()


def _discard(staged: Staged) -> None:
    staged.discard()
