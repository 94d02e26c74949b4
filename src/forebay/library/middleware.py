"""`await request.form()` and `UploadFile` of Starlette and FastAPI, by the engine.

For applications whose handlers are to stay as they are. A pure ASGI middleware marks the
requests with a form; `Request.form`, for those alone, has the engine receive it when the
application asks for it. Files are written once, on the filesystem of Forebay's folder, by
worker threads, and `UploadFile.file` is a reader of that.

What it cannot do is in `docs/guides/migrate-from-uploadfile.md`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from starlette._utils import AwaitableOrContextManagerWrapper
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from forebay.engine.forms.form import limits_of
from forebay.engine.forms.parts import AsField, AsFile, FormFile, Placement
from forebay.errors import UploadError
from forebay.http.answers import Receive, Send
from forebay.library.calls import Call
from forebay.library.forms import check_head, upload_of
from forebay.library.upload import Upload
from forebay.model import FormPolicy, Principal
from forebay.protocol import checksums
from forebay.protocol.content_type import is_form_data
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.status import status_of

if TYPE_CHECKING:
    from forebay.library.application import Forebay

_KEY = "forebay.form_taker"
_original = Request.form


class StoredUploadFile(UploadFile):
    """An `UploadFile` whose content is where Forebay can publish it without a copy."""

    upload: Upload

    async def move_to(self, to: str, **how: Any) -> Upload:
        """`Upload.move_to`: publishes it; nothing is copied."""
        return await self.upload.move_to(to, **how)


class FormMiddleware:
    """Made by `app.add_middleware(uploads.form_middleware)`."""

    def __init__(self, app: Any, uploads: Forebay) -> None:
        self._app = app
        self._uploads = uploads
        Request.form = _form  # type: ignore[method-assign,assignment]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_form_data(scope["headers"]):
            await self._app(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as kept:
            scope[_KEY] = _Taker(self._uploads, kept)
            await self._app(scope, receive, send)


class _Taker:
    """Receives the form of one request, once, and keeps it until the request has ended."""

    def __init__(self, uploads: Forebay, kept: contextlib.AsyncExitStack) -> None:
        self._uploads = uploads
        self._kept = kept
        self._form: FormData | None = None

    async def take(self, request: Request, limits: dict[str, Any]) -> FormData:
        if self._form is None:
            call = Call(cast(dict[str, Any], request.scope), request.receive, "starlette")
            engine = await self._uploads.running_engine()
            try:
                with call.in_own_terms(engine.settings):
                    self._form = await self._receive(call, limits)
            except UploadError as error:  # which the application handles by itself
                raise _http_exception(error) from error
        request._form = self._form
        return self._form

    async def _receive(self, call: Call, limits: dict[str, Any]) -> FormData:
        engine = await self._uploads.running_engine()
        content_type, coding = check_head(call.scope, engine.settings)
        received = await self._kept.enter_async_context(
            engine.receive_form(
                call.source(),
                content_type,
                coding=coding,
                expected=checksums.all_digests(call.scope["headers"]),
                limits=_limits(limits_of(engine.settings), limits),
                place=_place,
                empty_inputs=True,
                policy=FormPolicy.ALL,
                context=call.scope,
                authorises=False,
            )
        )
        items: list[tuple[str, str | UploadFile]] = list(received.fields.multi_items())
        for field, file in received.files.multi_items():
            reader = await engine.workers.run(file.open)
            items.append(
                (field, _upload_file(upload_of(engine, file, None, Principal()), file, reader))
            )
        return FormData(items)


def _http_exception(error: UploadError) -> UploadError:
    """The same error, that is an HTTPException too: of any other that comes while a form is
    parsed FastAPI makes a 400 without a reason.
    """
    kind = type(error)
    both = type(kind.__name__, (kind, HTTPException), {"__str__": kind.__str__})
    made = both.__new__(both, *error.args)
    made.args = error.args
    made.__dict__.update(vars(error), status_code=status_of(error), headers=None)
    assert isinstance(made, UploadError)
    return made


def _place(head: PartHead) -> Placement:
    return AsFile() if head.is_file else AsField()


def _limits(own: FormLimits, asked: dict[str, Any]) -> FormLimits:
    """The settings', and what the application gives to `form(...)`, the smaller of each."""
    names = {
        "max_files": "max_files",
        "max_fields": "max_fields",
        "max_part_size": "max_field_size",
    }
    changes = {}
    for argument, name in names.items():
        value = asked.get(argument)
        if value is not None and value != math.inf:
            changes[name] = min(int(value), getattr(own, name))
    return dataclasses.replace(own, **changes)


def _upload_file(upload: Upload, file: FormFile, reader: Any) -> StoredUploadFile:
    headers = Headers(raw=list(file.headers))
    made = StoredUploadFile(reader, size=file.size, filename=file.filename, headers=headers)
    made.upload = upload
    return made


def _form(self: Request, **limits: Any) -> Any:
    """In the place of `Request.form`: for a marked request whose body nobody has read yet."""
    taker: _Taker | None = self.scope.get(_KEY)
    read = getattr(self, "_stream_consumed", False) or hasattr(self, "_body")
    if taker is None or read or getattr(self, "_form", None) is not None:
        return _original(self, **limits)
    taking: Coroutine[Any, Any, FormData] = taker.take(self, limits)
    return AwaitableOrContextManagerWrapper(taking)
