"""Creating resumable uploads: admitted, recorded, and found by their name where that is wanted."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebay.engine.about import stored_fields
from forebay.engine.ids import new_id
from forebay.engine.uploads.by_name import binding_of
from forebay.engine.uploads.commits import expiry
from forebay.errors import TooLarge, UploadError
from forebay.model import CreateUpload, UploadRecord, UploadState
from forebay.record import Extra
from forebay.stores.base import Publication

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext
    from forebay.engine.uploads.accesses import Accesses
    from forebay.engine.uploads.by_name import UploadsByName
    from forebay.engine.uploads.claims import Claim
    from forebay.engine.uploads.unfinished import Unfinished


class Creator:
    """Makes records and data of new uploads."""

    def __init__(
        self,
        engine: EngineContext,
        accesses: Accesses,
        by_name: UploadsByName,
        unfinished: Unfinished,
    ) -> None:
        self._engine = engine
        self._sessions = accesses.sessions
        self._claims = accesses.claims
        self._by_name = by_name
        self._unfinished = unfinished

    async def new_record(
        self, command: CreateUpload, context: Mapping[str, Any] | None
    ) -> UploadRecord:
        """The record of an upload that may be created; it is not stored yet.

        Raises what authorisation raises, TooLarge, ShuttingDown.
        """
        engine = self._engine
        about = dataclasses.replace(
            command.about, length=command.length, media_type=command.media_type
        )
        principal = await engine.authorise("create", command.name, context, about=lambda: about)
        limit = engine.limit(command.max_size)
        if command.length is not None and limit is not None and command.length > limit:
            raise TooLarge(
                f"The upload has {command.length} bytes; at most {limit} are taken (--max-size).",
                limit=limit,
            )
        if engine.admission.draining:
            engine.admission.enter()  # raises ShuttingDown
        extra = Extra(
            limit=limit,
            ends_by_length=command.dialect != "ietf",
            partial=command.partial,
            parts=command.parts,
            preconditions=command.preconditions,
            expected=command.expected,
            wanted=command.wanted,
            filename=command.about.filename,
            fields=stored_fields(command.about),
            values=dict(command.extra),
        )
        return UploadRecord(
            id=new_id(),
            principal=principal.id,
            dialect=command.dialect,
            state=UploadState.OPEN,
            offset=0,
            length=command.length,
            name=command.name,
            created_at=time.time(),
            expires_at=expiry(engine.settings.retention),
            conflict=command.conflict,
            media_type=command.media_type,
            metadata=command.metadata,
            extra=extra.encode(),
            binding=binding_of(principal.id, command.name) if command.by_name else None,
        )

    async def begin(self, record: UploadRecord, size: int) -> Claim:
        """Stores a new upload, with room for `size` bytes; the caller holds it.

        Raises NameTaken, NotAFolder, PreconditionFailed, TooManyUnfinished, UploadExists, a
        StorageError; then nothing of it is stored.
        """
        engine, extra = self._engine, Extra.of(record)
        await self._unfinished.check()
        if not extra.partial:
            target = Publication(record.name, record.conflict, extra.preconditions)
            await engine.workers.run(engine.store.check_target, target)
        sealable = engine.hooks.verifies or bool(extra.expected or extra.wanted)
        try:
            claim = await self._by_name.create(
                record, lambda: self._claims.create(record, size, sealable=sealable)
            )
        except BaseException as error:
            if not isinstance(error, UploadError):  # cancelled while the record was added
                with contextlib.suppress(UploadError):
                    await self._sessions.delete(record.id)
            raise
        self._unfinished.added()
        return claim
