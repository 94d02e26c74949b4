"""Dependencies for FastAPI. Imported when one is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Depends, Request

from forebay.library.asgi_request import AsgiRequest
from forebay.library.fastapi_routes import OPTIONS
from forebay.library.forms import Form
from forebay.library.options import FormOptions, UploadOptions
from forebay.library.receiving import Receiving
from forebay.library.upload import Upload


def dependency(uploads: Receiving, options: UploadOptions) -> Any:
    """`Depends` on a request's body as an `Upload`."""

    async def upload(request: Request) -> AsyncIterator[Upload]:
        async with uploads.received_by(AsgiRequest.of(request), options) as received:
            yield received

    return depends_on(upload, options)


def form_dependency(uploads: Receiving, options: FormOptions) -> Any:
    """`Depends` on a request's form as a `Form`."""

    async def form(request: Request) -> AsyncIterator[Form]:
        async with uploads.received_form_by(AsgiRequest.of(request), options) as received:
            yield received

    return depends_on(form, options)


def depends_on(call: Callable[..., Any], options: UploadOptions | FormOptions) -> Any:
    """`Depends(call)`, whose exit code runs before the response is sent: a client that has its
    answer can rely on the file.
    """
    setattr(call, OPTIONS, options)
    try:
        return Depends(call, scope="function")
    except TypeError:  # before FastAPI 0.121
        return Depends(call)
