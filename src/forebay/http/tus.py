"""tus 1.0 over HTTP: the wire rules of `protocol.tus` put to the engine's resumable uploads."""

from __future__ import annotations

import dataclasses
import secrets
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
from forebay.http.destination import ANYWHERE, destination_of
from forebay.http.urls import upload_location, uploads_mount
from forebay.model import AppendUpload, CreateUpload, UploadRecord, UploadState
from forebay.protocol import tus, tus_checksum
from forebay.protocol.status import Answer, restated
from forebay.protocol.upload_ids import refuse_method

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.engine.uploads.service import LateDigests

CHECKSUM_MISMATCH = 460


class Tus:
    """See `forebay.http.dialect.UploadDialect`."""

    name = "tus"
    always = (tus.RESUMABLE,)
    answers_get = False

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

    def status_fields(self, record: UploadRecord, scope: dict[str, Any]) -> Headers:
        return []

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
        """Answers a request that begins an upload. Raises UploadError."""
        headers: Headers = scope["headers"]
        tus.check_offered(headers, self._engine.offered)
        settings = self._engine.settings
        destination = destination_of(scope)
        wish = tus.create(
            headers,
            mount=uploads_mount(scope),
            generated=f"upload-{secrets.token_hex(8)}",
            on_conflict=destination.conflict or settings.on_conflict,
            accept_types=destination.types or settings.accept_types,
        )
        if not wish.partial and destination is not ANYWHERE:
            name = destination.below(wish.name)
            wish = dataclasses.replace(
                wish, name=name, max_size=destination.max_size, wanted=destination.wanted
            )
        source = source_of(scope, receive, whole=False)
        content = self._content(wish, source, scope)
        told: Headers = [(b"content-length", b"0")]

        async def announce(made: UploadRecord) -> bool:
            location = upload_location(scope, self._engine.settings, made.id)
            told.append((b"location", location))
            return True

        try:
            if content is not None:
                late = self._late(content, scope) if content.digest_in_trailer else None
                standing = await self._engine.uploads.create_with(
                    wish, content, source, context=scope, announce=announce, late=late, silent=True
                )
                record = standing.record
                told.append((b"upload-offset", b"%d" % record.offset))
            else:
                record = await self._engine.uploads.create(wish, context=scope)
                await announce(record)
                if record.length == 0:
                    record = await self._engine.uploads.offset(record.id, context=scope)
        except UploadError as error:
            # What was kept can be gone on with, so the client is told where (item 67).
            error.detail["fields"] = [field for field in told if field[0] == b"location"]
            raise
        return Answer(201, (*told, *tus.expires(record)))

    def _content(
        self, wish: CreateUpload, source: Source, scope: dict[str, Any]
    ) -> AppendUpload | None:
        return tus.content_of_creation(
            scope["headers"],
            wish,
            source.length,
            self._sizes,
            max_size=self._engine.settings.max_size,
            trailers=_reads_trailers(scope),
        )

    # --- append ----------------------------------------------------------------------------------

    async def _append(self, scope: dict[str, Any], receive: Receive, upload_id: str) -> Answer:
        trailers = _reads_trailers(scope)
        tus.check_offered(scope["headers"], self._engine.offered)
        wish = tus.append(scope["headers"], upload_id, self._sizes, trailers=trailers)
        record = await self._take(wish, source_of(scope, receive, whole=False), scope)
        offset = (b"upload-offset", b"%d" % record.offset)
        return Answer(204, (offset, *tus.expires(record)))

    async def _take(
        self, wish: AppendUpload, source: Source, scope: dict[str, Any]
    ) -> UploadRecord:
        late = self._late(wish, scope) if wish.digest_in_trailer else None
        try:
            standing = await self._engine.uploads.append(wish, source, context=scope, late=late)
        except WrongState as error:
            if error.detail.get("state") == UploadState.COMPLETE:  # item 33
                raise TooLarge("The upload is complete; nothing can be added.", limit=0) from error
            raise
        return standing.record

    def _late(self, wish: AppendUpload, scope: dict[str, Any]) -> LateDigests:
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
    """Whether the trailers of a chunked body can be seen: on our own server, TLS or not."""
    return cycle_of(scope) is not None


__all__ = ["Tus"]
