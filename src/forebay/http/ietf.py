"""The IETF's resumable uploads over HTTP: `protocol.ietf` put to the engine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forebay.engine.uploads.lengths import limit_of, whole_length
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
from forebay.http.answers import Field, Headers, Receive, Send
from forebay.http.body_source import source_of
from forebay.http.bypass import cycle_of
from forebay.http.created import created
from forebay.http.destination import destination_of
from forebay.http.urls import files_link, query_of, upload_location
from forebay.model import AppendUpload, MiB, UploadRecord, UploadState
from forebay.protocol import checksums, fields, form_request, ietf, raw
from forebay.protocol.ietf import Limits, UploadFields
from forebay.protocol.status import Answer
from forebay.protocol.upload_ids import refuse_method

if TYPE_CHECKING:
    from forebay import model
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.engine.uploads.service import Standing

_TARGETS = (NameTaken, NotAFolder, PreconditionFailed, VerificationRefused)
_TARGETS_AT_ONCE = (*_TARGETS, InvalidName, TooLarge, UnsupportedCoding, UnsupportedMediaType)
"""Refusals that a plain PUT or POST would have met as well, later or at its head: resuming
does not help.
"""

_NO_STORE = (b"cache-control", b"no-store")
_ACCEPT_PATCH = (b"accept-patch", ietf.PARTIAL_UPLOAD.encode())


class Ietf:
    """See `forebay.http.uploads.Dialect`, and `create` for `/files`."""

    name = ietf.NAME
    always: Sequence[Field] = ()
    answers_get = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _read(self, headers: Headers) -> UploadFields:
        return ietf.read(headers, without_version=self._engine.settings.resumable_without_version)

    # --- the port --------------------------------------------------------------------------------

    def speaks(self, method: str, headers: Headers) -> bool:
        return ietf.speaks(method, headers)

    def method_of(self, method: str, headers: Headers) -> str:
        return method

    def offer(self, scope: dict[str, Any]) -> Headers:
        """Section 4.1.4. To a request with Upload-Complete this would be no offer."""
        if ietf.has_completeness(scope["headers"]) or not self._engine.offered.resumable:
            return []
        return [self._limits().field(), _ACCEPT_PATCH]

    def status_fields(self, record: UploadRecord, scope: dict[str, Any]) -> Headers:
        """Section 4.3.2. The offset is what is committed; an append may be adding to it."""
        if record.state in (UploadState.FAILED, UploadState.CANCELLED):
            return []
        return self._standing(self._read(scope["headers"]), record)

    async def handle(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str | None
    ) -> Answer:
        method = scope["method"]
        if upload_id is None:
            if method != "POST":
                raise refuse_method(upload_id, self._engine.offered)
            return await self.create(scope, receive, send, self._target(scope))
        if method == "PATCH":
            return await self._append(scope, receive, send, upload_id)
        if method == "DELETE":
            await self._engine.uploads.cancel(upload_id, context=scope, dialect=self.name)
            return Answer(204, tuple(ietf.version_fields(self._read(scope["headers"]).version)))
        if method in ("HEAD", "GET"):
            return await self._where(scope, upload_id)
        raise refuse_method(upload_id, self._engine.offered)

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        asked = self._read(scope["headers"])
        found = ietf.version_fields(asked.version)
        detail = error.detail
        appends = scope["method"] == "PATCH"
        if scope["method"] in ("PUT", "POST", "PATCH"):
            targets = _TARGETS if appends else _TARGETS_AT_ONCE
            ended = detail.get("ended", isinstance(error, targets))
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
        """Whether a request to `/files` begins a resumable upload (section 4.2.2). A form never
        does: what is sent whole is taken as any form is.
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
        self, scope: dict[str, Any], receive: Receive, send: Send, target: model.Receive
    ) -> Answer:
        """Answers a request that `wants` an upload; `target` is what it stores in the end."""
        headers: Headers = scope["headers"]
        asked = self._read(headers)
        source = source_of(scope, receive, whole=bool(asked.complete))
        length = whole_length(asked.length, asked.complete, 0, source.length)
        interim = Interim(scope, asked)
        if asked.complete and not interim.possible and length == source.length:
            return await self._plain(scope, target, source, asked)
        begin = AppendUpload("", self.name, 0, completes=asked.complete)
        first = _content(begin, source, headers)
        location = b""

        async def announce(record: UploadRecord) -> bool:
            nonlocal location
            location = upload_location(scope, self._engine.settings, record.id)
            return await interim.announce(location, self._limits(record))

        try:
            standing = await self._engine.uploads.create_with(
                ietf.create(target, length, headers),
                first,
                source,
                context=scope,
                announce=announce,
                told=None if first.expected or first.digest_in_trailer else interim.told,
            )
        except UploadError as error:
            if location and interim.possible:
                error.detail["location"] = location
            raise
        finally:
            await interim.settle()
        if standing.complete:
            return self._final(standing, asked, scope)
        record = standing.record
        told = self._standing(asked, record)
        return Answer(201, ((b"location", location), *told, (b"content-length", b"0")))

    def _target(self, scope: dict[str, Any]) -> model.Receive:
        """What a POST to the collection of uploads stores: the same as one to `/files/`."""
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
            generated=f"upload-{secrets.token_hex(8)}",
            begins=True,
        )
        wanted = destination.wanted or command.wanted
        return dataclasses.replace(command, max_size=destination.max_size, wanted=wanted)

    async def _plain(
        self, scope: dict[str, Any], target: model.Receive, source: Source, asked: UploadFields
    ) -> Answer:
        """The whole file in a request that could never be resumed, since its client cannot be
        told of an upload: no upload is made (section 4.2.2 leaves that open).
        """
        try:
            stored = await self._engine.receive_file(
                target, source, context=scope, verdict=scope.get(scope_keys.VERDICT)
            )
        except DigestMismatch as error:
            # Content-Digest is about the transfer, Repr-Digest about the file.
            error.detail["ended"] = fields.first(scope["headers"], b"content-digest") is None
            raise
        answer = created(stored, target.media_type, files_link(scope))
        return _completed(answer, asked, stored.file.size)

    # --- append ----------------------------------------------------------------------------------

    async def _append(
        self, scope: dict[str, Any], receive: Receive, send: Send, upload_id: str
    ) -> Answer:
        headers: Headers = scope["headers"]
        asked = self._read(headers)
        source = source_of(scope, receive, whole=False)
        wish = _content(ietf.append(asked, upload_id, headers), source, headers)
        interim = Interim(scope, asked)
        try:
            standing = await self._engine.uploads.append(
                wish,
                source,
                context=scope,
                told=None if wish.expected or wish.digest_in_trailer else interim.told,
            )
        finally:
            await interim.settle()
        if standing.complete:
            return self._final(standing, asked, scope)
        return Answer(204, tuple(self._standing(asked, standing.record)))

    # --- answers ---------------------------------------------------------------------------------

    async def _where(self, scope: dict[str, Any], upload_id: str) -> Answer:
        """Section 4.3.2."""
        asked = self._read(scope["headers"])
        record = await self._engine.uploads.offset(upload_id, context=scope, dialect=self.name)
        return Answer(204, (*self._standing(asked, record), _NO_STORE))

    def _standing(self, asked: UploadFields, record: UploadRecord) -> Headers:
        return ietf.state_fields(
            asked.version,
            complete=record.state == "complete",
            at=record.offset,
            length=record.length,
            limits=self._limits(record),
        )

    def _final(self, standing: Standing, asked: UploadFields, scope: dict[str, Any]) -> Answer:
        """What a plain PUT or POST of the whole would have been answered (section 4.4.2)."""
        stored = standing.stored
        if stored is None:
            raise NotFound
        answer = created(stored, standing.record.media_type, files_link(scope))
        return _completed(answer, asked, standing.record.offset)

    def _limits(self, record: UploadRecord | None = None) -> Limits:
        """Those of an upload, or of those to come. They never get narrower (section 4.1.4)."""
        settings = self._engine.settings
        most = settings.max_append_size
        if record is None:
            age = int(settings.retention) or None
            return Limits(settings.max_size, age if self._engine.offered.expiration else None, most)
        age = None if record.expires_at is None else int(record.expires_at - time.time())
        return Limits(limit_of(record), age, most)


def _completed(answer: Answer, asked: UploadFields, size: int) -> Answer:
    version = asked.version
    told = [ietf.completeness_field(version, True), ietf.offset_field(size)]
    headers = (*answer.headers, *told, *ietf.version_fields(version))
    return Answer(answer.status, headers, answer.body)


def _with_problem(answer: Answer, members: dict[str, object]) -> Answer:
    if (b"content-type", b"application/problem+json") not in answer.headers:
        return answer
    body = json.dumps({**json.loads(answer.body), **members}).encode("ascii") + b"\n"
    kept = [field for field in answer.headers if field[0] != b"content-length"]
    return Answer(answer.status, (*kept, (b"content-length", b"%d" % len(body))), body)


# --- digests of a request's content ----------------------------------------------------------


def _content(wish: AppendUpload, source: Source, headers: Headers) -> AppendUpload:
    """Adds what is known of this content's digests."""
    expected, late = checksums.content_digests(headers), source.late is not None
    return dataclasses.replace(wish, expected=expected, digest_in_trailer=late)


# --- interim responses -----------------------------------------------------------------------

STEP = 8 * MiB
INTERVAL = 1.0
"""One progress report after so many bytes or seconds, whichever comes first."""


class Interim:
    """The 104s of one request (section 5): only to who asked for them, where they can be sent."""

    def __init__(self, scope: dict[str, Any], asked: UploadFields) -> None:
        # Not by way of the application's `send`: an interim response is no business of
        # middleware, and some of it fails when the first message is not a response's start.
        cycle: Any = cycle_of(scope)
        self.possible = (
            asked.version.interim and scope.get("http_version") != "1.0" and cycle is not None
        )
        self._version = asked.version
        self._cycle = cycle
        self._last = time.monotonic()
        self._offset = asked.offset or 0
        self._sending: asyncio.Task[None] | None = None

    async def announce(self, location: bytes, limits: Limits) -> bool:
        """Names the upload; whether that could be done."""
        if self.possible:
            await self._write(ietf.announcement_fields(self._version, location, limits))
        return self.possible

    def told(self, offset: int) -> None:
        """Acknowledges what is committed, now and then."""
        now = time.monotonic()
        if not self.possible or (self._sending is not None and not self._sending.done()):
            return
        if offset - self._offset < STEP and now - self._last < INTERVAL:
            return
        self._offset, self._last = offset, now
        fields = ietf.progress_fields(self._version, offset)
        self._sending = asyncio.ensure_future(self._write(fields))

    async def _write(self, headers: Headers) -> None:
        message = {"type": scope_keys.INFORMATIONAL, "status": 104, "headers": headers}
        await self._cycle.send(message)

    async def settle(self) -> None:
        """Nothing is on its way any more: the final answer may go."""
        if self._sending is not None:
            with contextlib.suppress(Exception):
                await self._sending
