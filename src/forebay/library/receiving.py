"""The part of `Forebay` that receives uploads and forms for handlers of an application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import Any, TypeVar, Unpack, cast, overload

from forebay import model
from forebay.engine.bodies.body import Body
from forebay.engine.transfer.decoding import offered
from forebay.engine.transfer.progress import ProgressFeed
from forebay.http.answers import Receive
from forebay.library import manual
from forebay.library.asgi_request import AsgiRequest
from forebay.library.forms import Form
from forebay.library.framework_errors import as_framework_errors
from forebay.library.lifecycle import Lifecycle
from forebay.library.options import (
    Files,
    FormArguments,
    FormOptions,
    To,
    UploadArguments,
    UploadOptions,
    make_form_options,
    make_options,
)
from forebay.library.receive_form import receive_form
from forebay.library.receive_upload import receive_upload
from forebay.library.runtime import warn_of
from forebay.library.upload import Upload
from forebay.model import Conflict
from forebay.protocol import checksums, content_codings, content_type, fields, whole_file

Fields = Mapping[str, Any] | type | None
"""The types of text fields, by their names, or a pydantic model."""

M = TypeVar("M")


class Receiving(Lifecycle):
    """See `forebay.library.application.Forebay`."""

    # --- options of routes -----------------------------------------------------------------------

    def options(self, to: To | None = None, **options: Unpack[UploadArguments]) -> UploadOptions:
        """The options of an upload, made once and checked at the start; the arguments are those of
        `receive`. Raises ConfigError.
        """
        made = make_options(to, **options)
        self._register(made)
        return made

    def form_options(
        self, files: Files, *, fields: Fields = None, **options: Unpack[FormArguments]
    ) -> FormOptions:
        """The options of a form, made once and checked at the start; the arguments are those of
        `form`. Raises ConfigError.
        """
        made = make_form_options(files, fields=fields, **options)
        for one in made.files.values():
            self._register(one)
        return made

    wish, form_wish = options, form_options  # deprecated names, for this release only

    def _register(self, options: UploadOptions) -> None:
        """Has the destination checked at the start, or now when it runs already."""
        if options.doubtful_name:
            self._doubtful.add(options.doubtful_name)
        folder = options.static_folder
        if folder and folder not in self._folders:
            if not self._runtime.closed:  # else the next start does it
                self._runtime.check_destinations([folder])
            self._folders.add(folder)

    def _check_name(self, options: UploadOptions) -> None:
        """Warns of a doubtful name in options that were not registered; once for each name."""
        name = options.doubtful_name
        if name is not None and name not in self._doubtful:
            self._doubtful.add(name)
            warn_of(name)

    # --- uploads ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def received(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        to: To | UploadOptions | None = None,
        **options: Unpack[UploadArguments],
    ) -> AsyncIterator[Upload]:
        """The body of `request` as an `Upload`, for the block, in any framework.

        `request` is one of Starlette or Litestar, or an ASGI scope with its `receive`. The other
        arguments are those of `receive`; or `to` is `uploads.options(...)`, made before the
        start, which then checks its folder. Raises UploadError, as the framework's HTTPException
        when the application has no handler for UploadError.

            async with uploads.received(request, to="videos/") as upload:
                ...
        """
        asgi = AsgiRequest.of(request, receive)
        async with self.received_by(asgi, make_options(to, **options)) as upload:
            yield upload

    @contextlib.asynccontextmanager
    async def received_by(
        self, request: AsgiRequest, options: UploadOptions
    ) -> AsyncIterator[Upload]:
        """As `received`, with options that are made already."""
        engine = await self.started_engine()
        self._check_name(options)
        with as_framework_errors(request, engine.settings):
            async with receive_upload(engine, request, options) as upload:
                yield upload

    @staticmethod
    def upload_of(request: Any) -> Upload:
        """The upload that `in_front_of` received for this request. Raises LookupError."""
        found: Upload | None = _scope_of(request).get("forebay.upload")
        if found is None:
            raise LookupError("No upload was received for this request; see uploads.in_front_of.")
        return found

    # --- forms -----------------------------------------------------------------------------------

    @overload
    def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormOptions,
        fields: type[M],
        **options: Unpack[FormArguments],
    ) -> contextlib.AbstractAsyncContextManager[Form[M]]: ...

    @overload
    def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormOptions,
        fields: Mapping[str, Any] | None = None,
        **options: Unpack[FormArguments],
    ) -> contextlib.AbstractAsyncContextManager[Form]: ...

    @contextlib.asynccontextmanager
    async def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormOptions,
        fields: Any = None,
        **options: Unpack[FormArguments],
    ) -> AsyncIterator[Form[Any]]:
        """The form of `request`, for the block, in any framework. `request` is as in `received`,
        the other arguments are those of `form`; or `files` is `uploads.form_options(...)`.
        """
        asgi = AsgiRequest.of(request, receive)
        form_options = make_form_options(files, fields=fields, **options)
        async with self.received_form_by(asgi, form_options) as form:
            yield form

    @contextlib.asynccontextmanager
    async def received_form_by(
        self, request: AsgiRequest, options: FormOptions
    ) -> AsyncIterator[Form]:
        """As `received_form`, with options that are made already."""
        engine = await self.started_engine()
        with as_framework_errors(request, engine.settings):
            async with receive_form(engine, request, options) as form:
                yield form

    @staticmethod
    def form_of(request: Any) -> Form:
        """The form that `in_front_of` received for this request. Raises LookupError."""
        found: Form | None = _scope_of(request).get("forebay.form")
        if found is None:
            raise LookupError("No form was received for this request; see uploads.in_front_of.")
        return found

    # --- step by step ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def create_upload(
        self,
        request: Any,
        to: To | UploadOptions,
        *,
        receive: Receive | None = None,
        **options: Unpack[UploadArguments],
    ) -> AsyncIterator[manual.IncomingUpload]:
        """An upload whose body is not read yet: look at its head, decide, then receive the body.

        It is published when the block ends well and the body was received (`stream`, `chunks`
        or `body`); after an exception or `reject` nothing of it stays. A block that ends without
        the whole body raises RuntimeError. Without a destination it is gone after the block
        unless `move_to` published it. Limits, free space, name and type are checked before the
        block. `request` and the other arguments are those of `received`.

            async with uploads.create_upload(request, "videos/", max_size=1 * GB) as upload:
                if not allowed(upload.head):
                    return await upload.reject(403, "not yours")
                async for received in upload.stream():
                    ...
        """
        asgi, upload_options = AsgiRequest.of(request, receive), make_options(to, **options)
        engine = await self.started_engine()
        self._check_name(upload_options)
        with as_framework_errors(asgi, engine.settings):
            async with manual.create_upload(engine, asgi, upload_options) as upload:
                yield upload

    @contextlib.asynccontextmanager
    async def body(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        *,
        max_size: int | None = None,
        threshold: int | None = None,
        progress: ProgressFeed | None = None,
    ) -> AsyncIterator[Body]:
        """The body of an ASGI request, in memory when it is small, else in a file.

        It is gone after the block, unless `move_to` published it. Sizes are in bytes; without
        `max_size` only `settings.max_size` limits it. With `settings.decode_request` its content
        coding is decoded. Raises UploadError, also for a form.

            async with uploads.body(scope, receive) as body:
                await body.move_to("videos/clip.mp4")
        """
        engine = await self.started_engine()
        headers = scope["headers"]
        whole_file.check(scope["method"], headers)
        content_type.file_type(headers, "Take a form by `received_form`.")
        media_type = fields.first(headers, b"content-type")
        decodable = offered(engine.settings)
        command = model.Receive(
            "",
            Conflict.REFUSE,
            media_type=media_type.decode("latin-1") if media_type is not None else None,
            expected=checksums.all_digests(headers),
            max_size=max_size,
            coding=content_codings.to_decode(headers, decodable) if decodable else None,
        )
        source = AsgiRequest.of(scope, receive).source()
        async with engine.receive_body(
            source, command, threshold=threshold, progress=progress
        ) as body:
            yield body


def _scope_of(request: Any) -> dict[str, Any]:
    found = request if isinstance(request, MutableMapping) else request.scope
    return cast(dict[str, Any], found)
