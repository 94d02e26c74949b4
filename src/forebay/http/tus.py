"""tus 1.0 over HTTP: from `protocol.tus` to the engine and back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from forebay.engine.transfer.hashes import known
from forebay.errors import (
    DigestMismatch,
    OffsetMismatch,
    PreconditionFailed,
    TooLarge,
    UploadError,
    WrongState,
)
from forebay.http.answers import Headers, Receive, Send
from forebay.http.body_source import source_of
from forebay.http.bypass import cycle_of
from forebay.http.destination import ANYWHERE, destination_of, generated_name
from forebay.http.dialect import UploadDialect
from forebay.http.urls import upload_location, uploads_mount
from forebay.model import AppendUpload, CreateUpload, UploadRecord, UploadState
from forebay.protocol import tus, tus_checksum
from forebay.protocol.status import Answer, restated
from forebay.protocol.upload_ids import refuse_method

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.engine.uploads.append import TrailerDigests

CHECKSUM_MISMATCH = 460
"""A status of tus alone (extension checksum)."""


class Tus(UploadDialect):
    """tus at `/uploads`."""

    name = "tus"
    always = (tus.RESUMABLE,)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sizes = {
            name: known()[name][1] for name in tus_checksum.ALGORITHMS if name in known()
        }

    def speaks(self, method: str, headers: Headers) -> bool:
        return tus.speaks(method, headers)

    def method_of(self, method: str, headers: Headers) -> str:
        return tus.method_of(method, headers)

    def offer(self, scope: dict[str, Any]) -> Headers:
        max_size = self._engine.settings.max_size
        offered = self._engine.offered
        return tus.offer(self._sizes, max_size, offered, trailers=_reads_trailers(scope))

    async def handle(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str | None
    ) -> Answer:
        headers: Headers = scope["headers"]
        method: str = scope["method"]
        tus.check_version(method, headers)
        if upload_id is None:
            if method == "POST":
                return await self.create(scope, receive)
        elif method == "HEAD":
            record = await self._engine.uploads.offset(upload_id, context=scope, dialect=self.name)
            return Answer(200, tuple(tus.head(record)))
        elif method == "PATCH":
            return await self._append(scope, receive, upload_id)
        elif method == "DELETE":
            await self._engine.uploads.cancel(upload_id, context=scope, dialect=self.name)
            return Answer(204)
        raise refuse_method(upload_id, self._engine.offered)  # item 118

    # --- creation --------------------------------------------------------------------------------

    async def create(self, scope: dict[str, Any], receive: Receive) -> Answer:
        """Answers a request that creates an upload. Raises UploadError."""
        headers: Headers = scope["headers"]
        tus.check_offered(headers, self._engine.offered)
        settings = self._engine.settings
        destination = destination_of(scope)
        command = tus.create(
            headers,
            mount=uploads_mount(scope),
            generated=generated_name(),
            on_conflict=destination.conflict or settings.on_conflict,
            accept_types=destination.types or settings.accept_types,
        )
        if not command.partial and destination is not ANYWHERE:
            command = dataclasses.replace(
                command,
                name=destination.below(command.name),
                max_size=destination.max_size,
                wanted=destination.wanted,
            )
        source = source_of(scope, receive, whole=False)
        first = self._content(command, source, scope)
        found: Headers = [(b"content-length", b"0")]

        async def announce(made: UploadRecord) -> bool:
            location = upload_location(scope, self._engine.settings, made.id)
            found.append((b"location", location))
            return True

        try:
            if first is not None:
                late = self._late(first, scope) if first.digest_in_trailer else None
                standing = await self._engine.uploads.create_with(
                    command,
                    first,
                    source,
                    context=scope,
                    announce=announce,
                    trailer_digests=late,
                    silent=True,
                )
                record = standing.record
                found.append((b"upload-offset", b"%d" % record.offset))
            else:
                record = await self._engine.uploads.create(command, context=scope)
                await announce(record)
                if record.length == 0:
                    record = await self._engine.uploads.offset(record.id, context=scope)
        except UploadError as error:
            # The upload can be resumed, so the answer says where it is (item 67).
            error.detail["fields"] = [field for field in found if field[0] == b"location"]
            raise
        return Answer(201, (*found, *tus.expires(record)))

    def _content(
        self, command: CreateUpload, source: Source, scope: dict[str, Any]
    ) -> AppendUpload | None:
        return tus.content_of_creation(
            scope["headers"],
            command,
            source.length,
            self._sizes,
            max_size=self._engine.settings.max_size,
            trailers=_reads_trailers(scope),
        )

    # --- append ----------------------------------------------------------------------------------

    async def _append(self, scope: dict[str, Any], receive: Receive, upload_id: str) -> Answer:
        trailers = _reads_trailers(scope)
        tus.check_offered(scope["headers"], self._engine.offered)
        command = tus.append(scope["headers"], upload_id, self._sizes, trailers=trailers)
        source = source_of(scope, receive, whole=False)
        record = await self._receive(command, source, scope)
        offset = (b"upload-offset", b"%d" % record.offset)
        return Answer(204, (offset, *tus.expires(record)))

    async def _receive(
        self, command: AppendUpload, source: Source, scope: dict[str, Any]
    ) -> UploadRecord:
        late = self._late(command, scope) if command.digest_in_trailer else None
        try:
            standing = await self._engine.uploads.append(
                command, source, context=scope, trailer_digests=late
            )
        except WrongState as error:
            if error.detail.get("state") == UploadState.COMPLETE:  # item 33
                raise TooLarge("The upload is complete; nothing can be added.", limit=0) from error
            raise
        return standing.record

    def _late(self, command: AppendUpload, scope: dict[str, Any]) -> TrailerDigests:
        cycle = cycle_of(scope)
        expected = tus_checksum.content_checksums(scope["headers"], self._sizes)
        return lambda: tus_checksum.trailer_checksums(
            cycle.body.framing.trailers, expected, self._sizes
        )

    # --- errors ----------------------------------------------------------------------------------

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        if isinstance(error, DigestMismatch):
            answer = restated(answer, CHECKSUM_MISMATCH)
        extra: Headers = []
        if isinstance(error, PreconditionFailed):
            extra.append((b"tus-version", tus.VERSION))
        if isinstance(error, OffsetMismatch) and "expected" in error.detail:
            extra.append((b"upload-offset", b"%d" % error.detail["expected"]))
        extra += error.detail.get("fields", ())
        return dataclasses.replace(answer, headers=(*answer.headers, *extra))


def _reads_trailers(scope: dict[str, Any]) -> bool:
    """Whether the trailers of a chunked body can be read: only on our own server."""
    return cycle_of(scope) is not None


__all__ = ["Tus"]
