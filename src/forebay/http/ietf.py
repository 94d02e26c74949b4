"""Resumable uploads of the IETF draft over HTTP: from `protocol.ietf` to the engine and back.

Sections are those of the draft, as in `forebay.protocol.ietf`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

from forebay.engine.uploads.lengths import whole_length
from forebay.errors import (
    DigestMismatch,
    InconsistentLength,
    InvalidName,
    NameTaken,
    NotAFolder,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    TooLarge,
    UnsupportedCoding,
    UnsupportedMediaType,
    UploadError,
    VerificationRefused,
)
from forebay.http import scope_keys
from forebay.http.answers import Headers, Receive, Send
from forebay.http.body_source import source_of
from forebay.http.created import created
from forebay.http.destination import destination_of, generated_name
from forebay.http.dialect import Creator, UploadDialect
from forebay.http.interim import InterimResponses
from forebay.http.urls import files_link, query_of, upload_location
from forebay.model import AppendUpload, UploadRecord, UploadState
from forebay.protocol import checksums, fields, form_request, ietf, raw
from forebay.protocol.ietf import Limits, UploadFields
from forebay.protocol.status import Answer
from forebay.protocol.upload_ids import refuse_method
from forebay.record import Extra

if TYPE_CHECKING:
    from forebay import model
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.engine.uploads.service import Standing

_FINAL = (NameTaken, NotAFolder, PreconditionFailed, VerificationRefused)
"""Refusals of the file itself, as of a plain PUT or POST: resuming does not help."""
_FINAL_AT_CREATION = (
    *_FINAL,
    InvalidName,
    TooLarge,
    UnsupportedCoding,
    UnsupportedMediaType,
)
"""The same, for a request that creates an upload."""

_NO_STORE = (b"cache-control", b"no-store")
_ACCEPT_PATCH = (b"accept-patch", ietf.PARTIAL_UPLOAD.encode())


class Ietf(UploadDialect, Creator):
    """The draft at `/uploads`, and at `/files` for requests with Upload-Complete."""

    name = ietf.NAME
    answers_get = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _read(self, headers: Headers) -> UploadFields:
        return ietf.read(headers, without_version=self._engine.settings.resumable_without_version)

    # --- the port --------------------------------------------------------------------------------

    def speaks(self, method: str, headers: Headers) -> bool:
        return ietf.speaks(method, headers)

    def offer(self, scope: dict[str, Any]) -> Headers:
        """Section 4.1.4. None to a request with Upload-Complete: it uses the protocol already."""
        if ietf.has_completeness(scope["headers"]) or not self._engine.offered.resumable:
            return []
        return [self._limits().field(), _ACCEPT_PATCH]

    def status_fields(self, record: UploadRecord, scope: dict[str, Any]) -> Headers:
        """Section 4.3.2. The offset is the committed one; an append may be running."""
        if record.state in (UploadState.FAILED, UploadState.CANCELLED):
            return []
        return self._state_fields(self._read(scope["headers"]), record)

    async def handle(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str | None
    ) -> Answer:
        method = scope["method"]
        if upload_id is None:
            if method != "POST":
                raise refuse_method(upload_id, self._engine.offered)
            return await self.create(scope, receive, send, self._plain_command(scope))
        if method == "PATCH":
            return await self._append(scope, receive, send, upload_id)
        if method == "DELETE":
            await self._engine.uploads.cancel(upload_id, context=scope, dialect=self.name)
            return Answer(204, tuple(ietf.version_fields(self._read(scope["headers"]).version)))
        if method in ("HEAD", "GET"):
            return await self._offset(scope, upload_id)
        raise refuse_method(upload_id, self._engine.offered)

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        asked = self._read(scope["headers"])
        found = ietf.version_fields(asked.version)
        detail = error.detail
        appends = scope["method"] == "PATCH"
        if scope["method"] in ("PUT", "POST", "PATCH"):
            final = _FINAL if appends else _FINAL_AT_CREATION
            ended = detail.get("ended", isinstance(error, final))
            found.append(ietf.completeness_field(asked.version, ended))
        if "location" in detail:
            found.append((b"location", detail["location"]))
        if isinstance(error, TooLarge):
            limits = self._limits()
            limits = Limits(
                detail.get("max_size", limits.max_size), max_append_size=limits.max_append_size
            )
            found.append(limits.field(asked.version))
        if isinstance(error, UnsupportedMediaType) and appends:
            found.append(_ACCEPT_PATCH)
        if isinstance(error, OffsetMismatch) and "expected" in detail:
            found.append(ietf.offset_field(detail["expected"]))
            answer = _with_problem(answer, ietf.offset_problem(**detail))
        if isinstance(error, InconsistentLength):
            answer = _with_problem(answer, ietf.length_problem())
        return Answer(answer.status, (*answer.headers, *found), answer.body)

    # --- creation --------------------------------------------------------------------------------

    def wants(self, scope: dict[str, Any]) -> bool:
        """Whether a request to `/files` creates a resumable upload (section 4.2.2). A form never
        does: it is sent whole, and taken apart.
        """
        headers: Headers = scope["headers"]
        return (
            scope["method"] in ("PUT", "POST")
            and ietf.has_completeness(headers)
            and self._engine.offered.resumable
            and scope_keys.UPLOADS in scope
            and self._read(headers).complete is not None
            and not form_request.is_form(scope["method"], headers)
        )

    async def create(
        self, scope: dict[str, Any], receive: Receive, send: Send, command: model.Receive
    ) -> Answer:
        """Creates an upload; `command` is what a plain PUT or POST would be. Raises UploadError."""
        headers: Headers = scope["headers"]
        asked = self._read(headers)
        source = source_of(scope, receive, whole=bool(asked.complete))
        length = whole_length(asked.length, asked.complete, 0, source.length)
        interim = InterimResponses(scope, asked)
        if asked.complete and not interim.possible and length == source.length:
            return await self._receive_whole(scope, command, source, asked)
        first = _with_digests(
            AppendUpload("", self.name, 0, completes=asked.complete), source, headers
        )
        location = b""

        async def announce(record: UploadRecord) -> bool:
            nonlocal location
            location = upload_location(scope, self._engine.settings, record.id)
            return await interim.announce(location, self._limits(record))

        try:
            standing = await self._engine.uploads.create_with(
                ietf.create(command, length, headers),
                first,
                source,
                context=scope,
                announce=announce,
                on_offset=None if first.expected or first.digest_in_trailer else interim.on_offset,
            )
        except UploadError as error:
            if location and interim.possible:
                error.detail["location"] = location
            raise
        finally:
            await interim.finish()
        if standing.complete:
            return self._final(standing, asked, scope)
        state = self._state_fields(asked, standing.record)
        return Answer(201, ((b"location", location), *state, (b"content-length", b"0")))

    def _plain_command(self, scope: dict[str, Any]) -> model.Receive:
        """The command of a POST to the collection of uploads: that of one to `/files/`."""
        settings = self._engine.settings
        query = scope.get("query_string", b"")
        destination = destination_of(scope)
        command = raw.command(
            "POST",
            destination.folder,
            scope["headers"],
            query_of(query) if query else {},
            on_conflict=destination.conflict or settings.on_conflict,
            accept_types=destination.types or settings.accept_types,
            generated=generated_name(),
            begins=True,
        )
        wanted = destination.wanted or command.wanted
        return dataclasses.replace(command, max_size=destination.max_size, wanted=wanted)

    async def _receive_whole(
        self, scope: dict[str, Any], command: model.Receive, source: Source, asked: UploadFields
    ) -> Answer:
        """Stores a whole file without an upload, which section 4.2.2 allows: its client gets no
        104, so it would not know where to resume.
        """
        try:
            stored = await self._engine.receive_file(
                command, source, context=scope, verdict=scope.get(scope_keys.VERDICT)
            )
        except DigestMismatch as error:
            # Content-Digest is of the transfer, which can be tried again; Repr-Digest of the file.
            error.detail["ended"] = fields.first(scope["headers"], b"content-digest") is None
            raise
        answer = created(stored, command.media_type, files_link(scope))
        return _completed(answer, asked, stored.file.size)

    # --- append ----------------------------------------------------------------------------------

    async def _append(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str
    ) -> Answer:
        headers: Headers = scope["headers"]
        asked = self._read(headers)
        source = source_of(scope, receive, whole=False)
        command = _with_digests(ietf.append(asked, upload_id, headers), source, headers)
        interim = InterimResponses(scope, asked)
        try:
            standing = await self._engine.uploads.append(
                command,
                source,
                context=scope,
                on_offset=None
                if command.expected or command.digest_in_trailer
                else interim.on_offset,
            )
        finally:
            await interim.finish()
        if standing.complete:
            return self._final(standing, asked, scope)
        return Answer(204, tuple(self._state_fields(asked, standing.record)))

    # --- answers ---------------------------------------------------------------------------------

    async def _offset(self, scope: dict[str, Any], upload_id: str) -> Answer:
        """Section 4.3.2."""
        asked = self._read(scope["headers"])
        record = await self._engine.uploads.offset(upload_id, context=scope, dialect=self.name)
        return Answer(204, (*self._state_fields(asked, record), _NO_STORE))

    def _state_fields(self, asked: UploadFields, record: UploadRecord) -> Headers:
        return ietf.state_fields(
            asked.version,
            complete=record.state == "complete",
            at=record.offset,
            length=record.length,
            limits=self._limits(record),
        )

    def _final(self, standing: Standing, asked: UploadFields, scope: dict[str, Any]) -> Answer:
        """The answer that a plain PUT or POST of the whole file would get (section 4.4.2)."""
        stored = standing.stored
        if stored is None:
            raise NotFound
        answer = created(stored, standing.record.media_type, files_link(scope))
        return _completed(answer, asked, standing.record.offset)

    def _limits(self, record: UploadRecord | None = None) -> Limits:
        """The limits of an upload, which never shrink (section 4.1.4), or of new ones."""
        settings = self._engine.settings
        most = settings.max_append_size
        if record is None:
            age = int(settings.retention) or None
            return Limits(settings.max_size, age if self._engine.offered.expiration else None, most)
        age = None if record.expires_at is None else int(record.expires_at - time.time())
        return Limits(Extra.of(record).limit, age, most)


def _completed(answer: Answer, asked: UploadFields, size: int) -> Answer:
    version = asked.version
    state = [ietf.completeness_field(version, True), ietf.offset_field(size)]
    headers = (*answer.headers, *state, *ietf.version_fields(version))
    return Answer(answer.status, headers, answer.body)


def _with_problem(answer: Answer, members: dict[str, object]) -> Answer:
    if (b"content-type", b"application/problem+json") not in answer.headers:
        return answer
    body = json.dumps({**json.loads(answer.body), **members}).encode("ascii") + b"\n"
    others = [field for field in answer.headers if field[0] != b"content-length"]
    return Answer(answer.status, (*others, (b"content-length", b"%d" % len(body))), body)


def _with_digests(command: AppendUpload, source: Source, headers: Headers) -> AppendUpload:
    """The command with the digests of the request's content."""
    expected, late = checksums.content_digests(headers), source.late is not None
    return dataclasses.replace(command, expected=expected, digest_in_trailer=late)
