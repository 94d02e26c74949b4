"""`/uploads`: resumable uploads. Passes each request to its dialect.

What the dialects share is here: Host and Origin, errors, and the JSON status.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forebay.errors import NotOffered, UploadError
from forebay.http import origin_check
from forebay.http.answers import (
    Field,
    Headers,
    Receive,
    Send,
    answer_error,
    json_answer,
    send_answer,
)
from forebay.http.dialect import UploadDialect
from forebay.http.urls import path_below
from forebay.protocol import origin, partial
from forebay.protocol.status import Answer
from forebay.protocol.upload_ids import methods_of, refuse_method, refuse_plain, upload_id_of
from forebay.record import Outcome

if TYPE_CHECKING:
    from forebay.engine.engine import Engine
from forebay.model import UploadRecord

_BARE_METHODS = ("HEAD", "DELETE")
_ALL = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
"""Methods that a preflight allows a page; those that an upload does not have get 405."""
_SPOKEN = (
    "Resumable uploads speak tus 1.0 (Tus-Resumable: 1.0.0), the IETF draft (Upload-Complete), or "
    "Content-Range."
)


class UploadsApp:
    """Resumable uploads, in every dialect. Its routes are at its own root.

    Args:
        engine: with `resumables` open by the time of the first request.
        dialects: asked in this order.
    """

    def __init__(
        self,
        engine: Engine,
        dialects: Sequence[UploadDialect],
        *,
        listening_on_loopback: bool = False,
    ) -> None:
        self.engine = engine
        self.dialects = tuple(dialects)
        self.listening_on_loopback = listening_on_loopback

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Forebay serves http, not {scope['type']}.")
        await send_answer(send, await self.answer(scope, receive, send))

    async def answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> Answer:
        """The final answer to a request, also for errors; the caller sends it."""
        headers: Headers = scope["headers"]
        if origin.is_preflight(scope["method"], headers):
            return self._preflight(scope)
        sent: str = scope["method"]
        dialect = self._dialect(sent, headers)
        try:
            self._check_origin(scope)
            scope = self._as_meant(scope, dialect)
            if scope["method"] == "OPTIONS":  # whatever the id looks like
                return self._options(scope)
            if not self.engine.offered.resumable:
                raise NotOffered("Resumable uploads are not offered here; send the file whole.")
            upload_id = upload_id_of(path_below(scope))
            if dialect is None and upload_id is not None and scope["method"] in _BARE_METHODS:
                dialect = await self._dialect_of(upload_id, scope)
            answer = await self._answer(scope, receive, send, dialect, upload_id)
        except UploadError as error:
            answer = answer_error(error, scope)
            if dialect is not None:
                answer = dialect.decorate(error, answer, scope)
        if dialect is not None and scope["method"] != "OPTIONS":
            answer = _with(answer, dialect.always)
        body = b"" if sent == "HEAD" else answer.body
        return Answer(answer.status, answer.headers, body)

    def _as_meant(self, scope: dict[str, Any], dialect: UploadDialect | None) -> dict[str, Any]:
        """The request with the method that its dialect takes it for. Raises InvalidField,
        OriginRefused.
        """
        method = scope["method"]
        if dialect is None or method == (meant := dialect.method_of(method, scope["headers"])):
            return scope
        scope = scope | {"method": meant}
        self._check_origin(scope)
        return scope

    def _check_origin(self, scope: dict[str, Any]) -> None:
        loopback = self.listening_on_loopback
        origin_check.check(scope, self.engine.settings, listening_on_loopback=loopback)

    def _dialect(self, method: str, headers: Headers) -> UploadDialect | None:
        return next((d for d in self.dialects if d.speaks(method, headers)), None)

    async def _dialect_of(self, upload_id: str, scope: dict[str, Any]) -> UploadDialect | None:
        """The dialect of the upload, for a HEAD or DELETE without a field of any dialect."""
        record = await self.engine.uploads.peek(upload_id, context=scope)
        return next((d for d in self.dialects if d.name == record.dialect), None)

    async def _answer(
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        dialect: UploadDialect | None,
        upload_id: str | None,
    ) -> Answer:
        method: str = scope["method"]
        asked = dialect is not None and dialect.answers_get
        if method == "GET" and upload_id is not None and not asked:
            return await self._status(scope, upload_id)
        if dialect is None:
            raise refuse_plain(method, upload_id, self.engine.offered, _SPOKEN)
        if method == "DELETE" and not self.engine.offered.termination:
            raise refuse_method(upload_id, self.engine.offered)
        if dialect.name != partial.NAME:
            partial.check_absent(method, scope["headers"])
        return await dialect.handle(scope, receive, send, upload_id)

    def _preflight(self, scope: dict[str, Any]) -> Answer:
        """Allows any id and any Host: a client of an upload that is gone must be able to read the
        404, to create another.
        """
        allowed = origin.preflight(scope["headers"], self.engine.settings.allow_origin, _ALL)
        # 200, since old browsers refuse a preflight answered by 204 (tus, item 39)
        return Answer(200, (*allowed.headers, *self._offered(scope), (b"content-length", b"0")))

    def _options(self, scope: dict[str, Any]) -> Answer:
        methods = methods_of(_looked_for(scope), self.engine.offered)
        allow = (b"allow", ", ".join(methods).encode())
        return Answer(200, (allow, *self._offered(scope), (b"content-length", b"0")))

    def _offered(self, scope: dict[str, Any]) -> Headers:
        return [field for dialect in self.dialects for field in dialect.offer(scope)]

    async def _status(self, scope: dict[str, Any], upload_id: str) -> Answer:
        """The committed state as JSON; does not disturb a writer (invariant 10)."""
        record = await self.engine.uploads.peek(upload_id, context=scope)
        dialect = next((d for d in self.dialects if d.name == record.dialect), None)
        own = dialect.status_fields(record, scope) if dialect is not None else []
        return json_answer(200, describe(record), (*own, (b"cache-control", b"no-store")))


def describe(record: UploadRecord) -> dict[str, Any]:
    """The JSON status of an upload."""
    value: dict[str, Any] = {
        "id": record.id,
        "protocol": record.dialect,
        "state": str(record.state),
        "offset": record.offset,
        "length": record.length,
        "name": record.final_name if record.state == "complete" else record.name,
        "type": record.media_type,
        "created": record.created_at,
        "expires": record.expires_at,
    }
    outcome = Outcome.of(record)
    if record.state == "failed" and outcome.code:
        value["error"] = {"code": outcome.code, "message": outcome.message}
    return value


def _looked_for(scope: dict[str, Any]) -> str | None:
    """The part of the path that may be the id of an upload."""
    return path_below(scope).strip(b"/").decode("latin-1") or None


def _with(answer: Answer, fields: Sequence[Field]) -> Answer:
    """The answer with those of `fields` that it does not have."""
    there = {name for name, _ in answer.headers}
    missing = tuple(field for field in fields if field[0] not in there)
    return dataclasses.replace(answer, headers=(*answer.headers, *missing)) if missing else answer
