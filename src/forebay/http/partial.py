"""Partial uploads by Content-Range over HTTP: from `protocol.partial` to the engine and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.engine.lifecycle import Command
from forebay.engine.uploads import lengths
from forebay.errors import (
    InconsistentLength,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    UploadError,
    UploadExists,
)
from forebay.http import scope_keys
from forebay.http.answers import Headers, Receive, Send, json_answer
from forebay.http.body_source import source_of
from forebay.http.created import created
from forebay.http.destination import generated_name
from forebay.http.dialect import FilesDialect, UploadDialect
from forebay.http.uploads import describe
from forebay.http.urls import files_link, link_base, upload_location
from forebay.model import AppendUpload, CreateUpload, UploadRecord, UploadState
from forebay.protocol import checksums, fields, names, partial, raw
from forebay.protocol.partial import OffsetQuery, Part
from forebay.protocol.status import Answer
from forebay.protocol.upload_ids import refuse_plain
from forebay.record import stored_of

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source

_NO_STORE = (b"cache-control", b"no-store")


class Partial(UploadDialect, FilesDialect):
    """Parts of files, at the address of the file and at that of its upload."""

    name = partial.NAME

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def speaks(self, method: str, headers: Headers) -> bool:
        return partial.speaks(method, headers)

    def wants(self, scope: dict[str, Any]) -> bool:
        if not self._engine.offered.resumable:
            return False
        method, headers = scope["method"], scope["headers"]
        return method == "PATCH" or (
            method == "PUT" and fields.first(headers, b"content-range") is not None
        )

    # --- requests to an upload -------------------------------------------------------------------

    async def handle(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str | None
    ) -> Answer:
        method = scope["method"]
        if upload_id is None:
            message = "A partial upload begins with a PUT or PATCH of /files/NAME."
            raise refuse_plain(method, None, self._engine.offered, message)
        if method == "HEAD":
            record = await self._engine.uploads.offset(upload_id, context=scope, dialect=self.name)
            return Answer(200, (*partial.received_range(record.offset), _NO_STORE))
        if method == "DELETE":
            await self._engine.uploads.cancel(upload_id, context=scope, dialect=self.name)
            return Answer(204)
        source = source_of(scope, receive)
        asked = partial.read(scope["headers"], source.length)
        return await self._resume(upload_id, asked, source, scope)

    # --- requests to a file's own name -----------------------------------------------------------

    async def store(
        self, scope: dict[str, Any], receive: Receive, segments: list[str], folder: bool
    ) -> Answer:
        if folder:
            raise MethodNotAllowed("A part needs the name of a file to belong to.")
        source = source_of(scope, receive)
        asked = partial.read(scope["headers"], source.length)
        if isinstance(asked, Part) and asked.start == 0:
            return await self._begin(scope, segments, asked, source)
        name = names.validate_path(segments)
        action = Command.APPEND if isinstance(asked, Part) else Command.OFFSET
        try:
            record = await self._engine.uploads.by_name.find(name, action, scope)
        except NotFound:
            if isinstance(asked, OffsetQuery):
                raise NotFound("No upload of that name is under way; begin at byte 0.") from None
            raise OffsetMismatch(
                "No upload of that name is under way; begin at byte 0.",
                expected=0,
                provided=asked.start,
            ) from None
        return await self._resume(record.id, asked, source, scope)

    async def _begin(
        self, scope: dict[str, Any], segments: list[str], part: Part, source: Source
    ) -> Answer:
        first = self._append("", part, scope)

        async def announce(_: UploadRecord) -> bool:
            return True  # the client finds it by its name

        command = self._creation(scope, segments, part)
        try:
            standing = await self._engine.uploads.create_with(
                command, first, source, context=scope, announce=announce
            )
        except UploadExists as error:
            offset = error.detail.get("expected", 0)
            goes_on = f"go on at byte {offset} (curl -C {offset} -T FILE)" if offset else "wait"
            raise UploadExists(
                f"An upload of that name is under way: {goes_on}, or cancel it first (DELETE its "
                "Location).",
                **error.detail,
            ) from error
        return self._answer(standing.record, scope)

    def _creation(self, scope: dict[str, Any], segments: list[str], part: Part) -> CreateUpload:
        settings = self._engine.settings
        headers: Headers = scope["headers"]
        whole = [field for field in headers if field[0] != b"content-range"]
        plain = raw.command(
            "PUT",
            segments,
            whole,
            {},
            on_conflict=settings.on_conflict,
            accept_types=settings.accept_types,
            generated=generated_name(),
            sent=scope["method"],
            own_path=True,
        )
        return partial.create(plain, part.total, headers)

    def _append(self, upload_id: str, part: Part, scope: dict[str, Any]) -> AppendUpload:
        return AppendUpload(
            upload_id,
            self.name,
            part.start,
            length=part.total,
            completes=part.completes,
            expected=checksums.content_digests(scope["headers"]),
            # RFC 9530, section 3: digests of the whole file, also in a request with a part
            file_digests=checksums.file_digests(scope["headers"]),
        )

    # --- both ------------------------------------------------------------------------------------

    async def _resume(
        self, upload_id: str, asked: Part | OffsetQuery, source: Source, scope: dict[str, Any]
    ) -> Answer:
        try:
            if isinstance(asked, OffsetQuery):
                return await self._answer_query(upload_id, asked, source, scope)
            command = self._append(upload_id, asked, scope)
            standing = await self._engine.uploads.append(command, source, context=scope)
        except OffsetMismatch as error:
            error.detail["upload"] = upload_id
            raise
        return self._answer(standing.record, scope)

    async def _answer_query(
        self, upload_id: str, asked: OffsetQuery, source: Source, scope: dict[str, Any]
    ) -> Answer:
        """Answers with the offset. A total that is given only now may complete the upload."""
        uploads = self._engine.uploads
        record = await uploads.offset(upload_id, context=scope, dialect=self.name)
        lengths.agree(asked.total, record.length)
        if asked.total is not None and record.state is UploadState.OPEN:
            if asked.total < record.offset:
                raise InconsistentLength(f"{record.offset} bytes have arrived already.")
            if asked.total == record.offset:
                last = Part(record.offset, record.offset, asked.total)
                command = self._append(upload_id, last, scope)
                record = (await uploads.append(command, source, context=scope)).record
        return self._answer(record, scope)

    # --- answers ---------------------------------------------------------------------------------

    def _answer(self, record: UploadRecord, scope: dict[str, Any]) -> Answer:
        """The answer that a PUT of the whole file would get, or 308 with the offset."""
        if record.state is not UploadState.COMPLETE:
            link = self._link(scope, record.id)
            place = [] if link is None else [(b"content-location", link)]
            headers = (*partial.received_range(record.offset), *place, _NO_STORE)
            return json_answer(partial.INCOMPLETE, describe(record), headers)
        stored = stored_of(record)
        if stored is None:
            raise NotFound
        base = files_link(scope) or link_base(scope)
        return created(stored, record.media_type, base)

    def _link(self, scope: dict[str, Any], upload_id: str) -> bytes | None:
        """The URL of the upload, or None where no uploads are mounted."""
        if scope_keys.UPLOADS not in scope:
            return None
        return upload_location(scope, self._engine.settings, upload_id)

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        if not isinstance(error, OffsetMismatch | UploadExists):
            return answer
        extra = partial.received_range(error.detail.get("expected", 0))
        upload_id = error.detail.get("upload")
        link = None if upload_id is None else self._link(scope, upload_id)
        if link is not None:
            extra.append((b"location", link))
        return Answer(answer.status, (*answer.headers, *extra), answer.body)
