"""`await request.form()` and `UploadFile` of Starlette and FastAPI, by the engine.

For applications whose handlers stay as they are. A pure ASGI middleware marks requests that have
a form. `Request.form` then lets the engine receive the form of a marked request. Files are written
once, on the filesystem of Forebay's folder, by worker threads; `UploadFile.file` reads them.

`docs/guides/migrate-from-uploadfile.md` lists the limits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from starlette._utils import AwaitableOrContextManagerWrapper
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from forebay.engine.forms.parts import AsField, AsFile, FormFile, Placement
from forebay.engine.forms.request import FormRequest, limits_of
from forebay.errors import UploadError
from forebay.http.answers import Receive, Send
from forebay.library.asgi_request import AsgiRequest
from forebay.library.framework_errors import as_framework_errors
from forebay.library.lifecycle import Lifecycle
from forebay.library.receive_form import check_head, upload_of
from forebay.library.upload import Upload
from forebay.model import FormPolicy, Principal
from forebay.protocol import checksums
from forebay.protocol.content_type import is_form_data
from forebay.protocol.multipart_head import PartHead
from forebay.protocol.multipart_limits import FormLimits
from forebay.protocol.status import status_of

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

_KEY = "forebay.form_receiver"
_original = Request.form


class StoredUploadFile(UploadFile):
    """An `UploadFile` that Forebay can publish without copying it."""

    upload: Upload

    async def move_to(self, to: str, **how: Any) -> Upload:
        """`Upload.move_to`: publishes it; nothing is copied."""
        return await self.upload.move_to(to, **how)


class FormMiddleware:
    """Made by `app.add_middleware(uploads.form_middleware)`."""

    def __init__(self, app: Any, uploads: Lifecycle) -> None:
        self._app = app
        self._uploads = uploads
        Request.form = _form  # type: ignore[method-assign,assignment]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_form_data(scope["headers"]):
            await self._app(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as stack:
            scope[_KEY] = _FormReceiver(self._uploads, stack)
            await self._app(scope, receive, send)


class _FormReceiver:
    """Receives the form of one request, once; its files stay until `stack` is closed."""

    def __init__(self, uploads: Lifecycle, stack: contextlib.AsyncExitStack) -> None:
        self._uploads = uploads
        self._stack = stack
        self._form: FormData | None = None

    async def form(self, request: Request, limits: dict[str, Any]) -> FormData:
        """What `request.form(**limits)` returns."""
        if self._form is None:
            asgi = AsgiRequest(cast(dict[str, Any], request.scope), request.receive, "starlette")
            engine = await self._uploads.started_engine()
            try:
                with as_framework_errors(asgi, engine.settings):
                    self._form = await self._receive(engine, asgi, limits)
            except UploadError as error:  # the application has a handler for it
                _make_http_exception(error)
                raise
        request._form = self._form
        return self._form

    async def _receive(
        self, engine: Engine, request: AsgiRequest, limits: dict[str, Any]
    ) -> FormData:
        content_type, coding = check_head(request.scope, engine.settings)
        wanted = FormRequest(
            content_type,
            coding=coding,
            expected=checksums.all_digests(request.scope["headers"]),
            limits=_limits(limits_of(engine.settings), limits),
            place=_place,
            empty_inputs=True,
            policy=FormPolicy.ALL,
            context=request.scope,
            authorises=False,
        )
        received = await self._stack.enter_async_context(
            engine.receive_form(request.source(), wanted)
        )
        items: list[tuple[str, str | UploadFile]] = list(received.fields.multi_items())
        for field, file in received.files.multi_items():
            reader = await engine.workers.run(file.open)
            upload = upload_of(engine, file, None, Principal())
            items.append((field, _upload_file(upload, file, reader)))
        return FormData(items)


def _make_http_exception(error: UploadError) -> None:
    """Makes the error an HTTPException, too.

    FastAPI turns any other exception that is raised while it parses a form into a 400 without a
    reason. The error must keep its class as well, by which the application's handlers are found:
    so each class of errors needs a subclass of both.
    """
    kind: Any = type(error)
    vars(error).update(status_code=status_of(error), headers=None)
    error.__class__ = _http_class(kind)


@functools.cache
def _http_class(kind: type) -> Any:
    return type(kind.__name__, (kind, HTTPException), {"__str__": kind.__str__})


def _place(head: PartHead) -> Placement:
    return AsFile() if head.is_file else AsField()


def _limits(own: FormLimits, asked: dict[str, Any]) -> FormLimits:
    """The smaller of each limit: that of the settings, and that which is given to `form(...)`."""
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
    """Replaces `Request.form`; only for a marked request whose body is not read yet."""
    receiver: _FormReceiver | None = self.scope.get(_KEY)
    read = getattr(self, "_stream_consumed", False) or hasattr(self, "_body")
    if receiver is None or read or getattr(self, "_form", None) is not None:
        return _original(self, **limits)
    receiving: Coroutine[Any, Any, FormData] = receiver.form(self, limits)
    return AwaitableOrContextManagerWrapper(receiving)
