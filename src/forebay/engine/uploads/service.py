"""Resumable uploads: create, append, ask, cancel, the same for every dialect.

A request that works on an upload has exclusive access to it (`access`) and looks up in the table
(`lifecycle`) what its command does in the state that the upload is in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.lifecycle import Action, Command, action
from forebay.engine.outbox.durable import DurableOutbox
from forebay.engine.outbox.notifier import Notifier
from forebay.engine.transfer.pump import BodyWriter, Source
from forebay.engine.uploads import lengths
from forebay.engine.uploads.access import UploadAccess
from forebay.engine.uploads.accesses import Accesses, check_alive
from forebay.engine.uploads.append import Appender, AppendRequest, TrailerDigests
from forebay.engine.uploads.at_once import store_at_once
from forebay.engine.uploads.by_name import UploadsByName
from forebay.engine.uploads.concatenation import Concatenation
from forebay.engine.uploads.create import Creator
from forebay.engine.uploads.finish import Finisher
from forebay.engine.uploads.parts import check_parts, release_part, total
from forebay.engine.uploads.unfinished import Unfinished
from forebay.errors import OffsetMismatch, UploadError, WrongState
from forebay.model import AppendUpload, CreateUpload, Stored, UploadRecord, UploadState
from forebay.record import Extra, stored_of

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.files.remove import Removal

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
        return stored_of(self.record)


class UploadService:
    """The resumable uploads of one engine."""

    def __init__(
        self,
        engine: EngineContext,
        accesses: Accesses,
        removal: Removal,
    ) -> None:
        self._engine = engine
        self.accesses = accesses
        self._sessions = sessions = accesses.sessions
        self.notifier = Notifier(engine, sessions)
        self.outbox = DurableOutbox(engine, sessions, self.notifier)
        self._finisher = Finisher(engine, removal)
        self._appender = Appender(engine)
        self.by_name = UploadsByName(engine, sessions, self.accesses, self.notifier)
        unfinished = Unfinished(engine, accesses)
        self._creator = Creator(engine, self.accesses, self.by_name, unfinished)
        self.concatenation = Concatenation(
            engine, sessions, self.accesses, self._finisher, self.notifier
        )

    async def close(self) -> None:
        """Stops copies and calls; releases all locks."""
        await self.concatenation.close()
        await self.notifier.close()
        await self.accesses.locks.close()

    # --- create ----------------------------------------------------------------------------------

    async def create(
        self, command: CreateUpload, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """Makes an upload; it exists durably when this returns.

        A final upload is being made of its parts from then on. Raises what authorisation raises,
        TooLarge, NameTaken (policy refuse), PreconditionFailed, StorageError; NotFound or
        InvalidRequest for its parts; UploadExists for one that is found by its name.
        """
        if command.parts:
            parts = {i: await self.peek(i, context=context) for i in dict.fromkeys(command.parts)}
            for part in parts.values():
                check_alive(part)
            check_parts(command.parts, parts, command.dialect)
            length = total(parts[i] for i in command.parts)
            command = dataclasses.replace(command, length=length)
        record = await self._creator.new_record(command, context)
        size = (command.length or 0) if command.parts else 0
        await self.accesses.claims.release(await self._creator.begin(record, size))
        return await self.concatenation.begin(record, context) if command.parts else record

    async def create_with(
        self,
        command: CreateUpload,
        first: AppendUpload,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        announce: Announce | None = None,
        on_offset: Callable[[int], None] | None = None,
        trailer_digests: TrailerDigests | None = None,
        silent: bool = False,
    ) -> Standing:
        """Makes an upload and takes the first request's bytes, under one lock from start to end.

        `announce` tells the client of the upload before its bytes are read, and returns whether
        it could. What breaks off stays if the client knows of it; but an upload without a byte
        that is found by its name goes: its name is all that a client needs. `silent`: nothing is
        sent before the answer, so a body that is here already may be stored first. `first` gets
        its `upload_id` here. Raises what `create` and `append` raise.
        """
        engine = self._engine
        engine.admission.check_append(source.length)
        with engine.admitted():
            record = await self._creator.new_record(command, context)
            if announce is None or silent:
                done = await store_at_once(engine, self._sessions, record, command, first, source)
                if done is not None:
                    if announce is not None:
                        await announce(done)
                    return Standing(done)
            create = functools.partial(self._creator.begin, record, source.length or 0)
            async with self.accesses.locks.hold_new(record.id, create) as lock:
                access = UploadAccess(engine.workers, self.accesses.claims, lock)
                known = announce is not None and await announce(record)
                first = dataclasses.replace(first, upload_id=record.id)
                request = AppendRequest(first, source, context, on_offset, trailer_digests)
                try:
                    await self._take(access, request)
                except BaseException:
                    if not known or (command.by_name and access.record.offset == 0):
                        await self._drop(access)
                    raise
                record = access.record
        await self.notifier.notify_if_new(record, context)
        return Standing(record)

    async def _drop(self, access: UploadAccess) -> None:
        """Nobody needs to come back to an upload: it goes, unless it was published already."""
        with contextlib.suppress(UploadError):  # then it stays, for the sweep
            await self.accesses.recovery.recover(access)
            record = access.record
            if record.state is not UploadState.COMPLETE:
                await access.remove()
            self.notifier.soon(record)

    # --- ask -------------------------------------------------------------------------------------

    async def peek(
        self, upload_id: str, *, context: Mapping[str, Any] | None = None
    ) -> UploadRecord:
        """The committed state; disturbs nobody. Raises NotFound."""
        record = await self._sessions.load(upload_id)
        await self.accesses.check_owner(record, "read", context)
        return record

    async def offset(
        self,
        upload_id: str,
        *,
        context: Mapping[str, Any] | None = None,
        dialect: str | None = None,
    ) -> UploadRecord:
        """The committed state after a running append has ended; the next append fits it.

        An upload that has all its bytes is completed first (invariant 11). Raises NotFound,
        Gone, UploadBusy, WrongState (begun in another dialect than `dialect`), and what
        completion raises. One that is being made of parts goes on meanwhile.
        """
        record = await self._sessions.load(upload_id)
        if record.is_unfinished and Extra.of(record).parts:
            await self.accesses.check_owner(record, Command.OFFSET, context)
            check_alive(record)
            record = await self.concatenation.standing(record, context)
            if record.state is not UploadState.FAILED:
                return record
        async with self.accesses.open(upload_id, Command.OFFSET, context, dialect) as access:
            if access.action is Action.FINISH or _is_full(access.record):
                await self._finish(access, context)
            record = access.record
        await self.notifier.notify_if_new(record, context)
        return record

    # --- cancel ----------------------------------------------------------------------------------

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
        async with self.accesses.open(upload_id, Command.CANCEL, context, dialect) as access:
            record = access.record
            if Extra.of(record).partial:
                await release_part(self._sessions, access)
            elif record.state is UploadState.COMPLETE:
                try:
                    await self._finisher.remove_file(record, context)
                except UploadError:
                    self.notifier.soon(record)
                    raise
            await self._finisher.forget(access)
        self.notifier.soon(record)
        self.concatenation.part_ended(upload_id)
        return record

    async def cancel_unfinished(self, upload_id: str) -> UploadRecord:
        """The same for the operator, of anybody's upload; a finished one stays.

        Raises NotFound, Gone, WrongState (it has ended), UploadBusy.
        """
        access_to = self.accesses.open(upload_id, Command.CANCEL, None, as_owner=False)
        async with access_to as access:
            record = access.record
            if not record.is_unfinished:
                raise WrongState(
                    "This upload has ended; only one that is under way can be cancelled.",
                    state=record.state,
                )
            if Extra.of(record).partial:
                await release_part(self._sessions, access)
            await access.remove()
        self.concatenation.part_ended(upload_id)
        return record

    # --- append ----------------------------------------------------------------------------------

    async def append(
        self,
        command: AppendUpload,
        source: Source,
        *,
        context: Mapping[str, Any] | None = None,
        on_offset: Callable[[int], None] | None = None,
        trailer_digests: TrailerDigests | None = None,
    ) -> Standing:
        """Takes a request's bytes; completes the upload when they were the last.

        `on_offset` is called with each committed offset; `trailer_digests` after the body, for
        digests from a trailer. Raises NotFound, Gone, OffsetMismatch, WrongState,
        InconsistentLength, TooLarge, UploadBusy; then nothing changed. Raises BodyFailed,
        Interrupted or StorageError when it broke off: the prefix is committed then, unless
        digests were to be compared.
        """
        self._engine.admission.check_append(source.length)
        request = AppendRequest(command, source, context, on_offset, trailer_digests)
        access_to = self.accesses.open(command.upload_id, Command.APPEND, context, command.dialect)
        async with access_to as access:
            if access.action is Action.FINISH:
                await self._finish(access, context)
                access.action = action(access.record.state, Command.APPEND)
            replayed = access.action is Action.REPLAY
            if replayed:
                self.notifier.soon(access.record)  # whatever becomes of this request
                await self._replay(access.record, command, source)
            else:
                with self._engine.admitted():
                    await self._take(access, request)
            record = access.record
            access.lock.lingers = record.state is UploadState.OPEN  # more is likely to come soon
        await self.notifier.notify_if_new(record, context)
        return Standing(record, replayed)

    async def _take(self, access: UploadAccess, request: AppendRequest) -> None:
        """Takes one request's bytes, and finishes the upload if they were the last."""
        await self._appender.append(access, request)
        record = access.record
        if lengths.ends(record.offset, record.length, request.command.completes):
            await self._finish(access, request.context)

    async def _finish(self, access: UploadAccess, context: Mapping[str, Any] | None) -> None:
        await self._finisher.finish(access, context)
        self.concatenation.part_ended(access.record.id)

    async def _replay(self, record: UploadRecord, command: AppendUpload, source: Source) -> None:
        """The last answer was lost: a request to end the upload again gets it once more.

        That is an empty request at the end, or the last one as it was. No byte is taken.
        """
        size, end = source.length, record.offset
        is_last = size is not None and command.offset + size == end
        if command.completes is not None and is_last:
            lengths.agree(command.length, record.length)
            if command.completes:
                return
        if command.offset != end:
            raise OffsetMismatch(expected=end, provided=command.offset)
        lengths.agree(command.length, record.length)
        if size is None and command.completes is None:
            await self._engine.pump(source, BodyWriter(_Nowhere(), limit=0))  # raises TooLarge
        elif size != 0 or command.completes is not None:
            raise WrongState("The upload is complete; nothing can be added.", state=record.state)


def _is_full(record: UploadRecord) -> bool:
    """All bytes are here and only completion is missing, as after a crash."""
    return (
        record.state is UploadState.OPEN
        and record.length == record.offset
        and Extra.of(record).ends_by_length
    )


class _Nowhere:
    """The sink of a body that must turn out to be empty."""

    def write(self, data: memoryview, offset: int) -> None:
        raise AssertionError("its limit is 0")

    def reserve(self, size: int) -> None:
        raise AssertionError("its limit is 0")


__all__ = ["Announce", "Standing", "UploadService"]
