"""`Forebay`: the engine inside any ASGI application."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from forebay.config import load, parse_settings
from forebay.engine.bodies.body import Body
from forebay.engine.transfer.decoding import offered
from forebay.engine.transfer.progress import ProgressFeed
from forebay.errors import UploadError
from forebay.hooks.base import Access
from forebay.http import scope_keys
from forebay.http.answers import Receive
from forebay.http.cors import with_cors
from forebay.library import declared, forms
from forebay.library import hook_adapters as told
from forebay.library import manual as by_hand
from forebay.library import routes as steps
from forebay.library.calls import Call, Reply, describe_error
from forebay.library.contents import Contents
from forebay.library.forms import Form
from forebay.library.front import Front
from forebay.library.mounts import Places
from forebay.library.options import (
    Bytes,
    Files,
    FormWanted,
    FormWish,
    To,
    UploadOptions,
    Wanted,
    make_form_wish,
    make_wish,
)
from forebay.library.runtime import warn_of
from forebay.library.upload import Upload
from forebay.model import Conflict
from forebay.protocol import checksums, content_codings, content_type, whole_file
from forebay.protocol import fields as header_fields
from forebay.protocol.status import Answer

if TYPE_CHECKING:
    from forebay.library.manual import IncomingUpload

Fields = Mapping[str, Any] | type | None
"""The types of text fields, by their names, or a pydantic model."""

M = TypeVar("M")
Callback = TypeVar("Callback", bound=Callable[..., Any])


class Forebay(Contents):
    """Takes uploads into one folder, inside an application of yours.

    Args:
        dir: the folder; made when missing.
        authorise: called with an `Access` before a byte of a body is read; returns a
            `Principal` or an id (text, an int, a UUID; compared as text), or, to let somebody in
            without a name, `Principal.anonymous` or True; returns False or raises to refuse.
            Anything else, None above all, is a mistake and refuses with 500 (HookFailed).
            Without it, everybody may do everything.
        files_at, resumable_at: where the two applications are mounted, as `/files`. Needed
            only where that cannot be seen from the application's routes (not Starlette).
        settings: any setting of `forebay serve` by its name, such as `max_size=5 * GB` or
            `max_size="5GB"`.

    Raises ConfigError for a wrong setting, StorageError when the folder cannot be used.

        uploads = Forebay("data/", max_size=5 * GB)
        app = FastAPI(lifespan=uploads.lifespan)
        app.mount("/uploads", uploads.resumable)
        app.mount("/files", uploads.files)
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],  # noqa: A002 (the setting's name)
        *,
        authorise: Callable[[Access], Any] | None = None,
        files_at: str | None = None,
        resumable_at: str | None = None,
        **settings: Any,
    ) -> None:
        self._set_up(
            parse_settings({"dir": os.fspath(dir), **settings}),
            authorise,
            Places(files_at, resumable_at),
        )

    @classmethod
    def from_env(
        cls,
        *,
        authorise: Callable[[Access], Any] | None = None,
        files_at: str | None = None,
        resumable_at: str | None = None,
    ) -> Forebay:
        """Settings from `FOREBAY_*`, then `./forebay.toml`, then the defaults."""
        made = cls.__new__(cls)
        settings = load({}, os.environ, os.getcwd()).settings
        made._set_up(settings, authorise, Places(files_at, resumable_at))
        return made

    def in_front_of(
        self,
        app: Any,
        mounts: Mapping[str, Any],
    ) -> Front:
        """An ASGI application that serves `mounts`, by their paths, and leaves the rest to `app`.

        A value is an ASGI application (`uploads.files`, `uploads.resumable`), or a wish: then the
        body is received before `app` is called. With `uploads.wish(to=...)` that gets an empty
        body, and `uploads.upload_of(request)` is the `Upload`; with `uploads.form_wish(...)` it
        gets the text fields as a urlencoded form, and `uploads.form_of(request)` is the `Form`.
        An answer of 400 or more takes back what was published. For frameworks that read bodies
        themselves, such as Django. Starts and stops with the server.
        """
        return Front(self, app, mounts)

    def mounted_at(self, mounted: object, path: str) -> None:
        """Tells where `files` or `resumable` is mounted, as `Forebay(files_at=...)` does."""
        self._places.set(mounted, path)

    # --- declared --------------------------------------------------------------------------------

    def wish(
        self,
        to: To | None = None,
        *,
        max_size: Bytes | None = None,
        types: Iterable[str] = (),
        conflict: Conflict | str | None = None,
        digest: str | None = None,
        threshold: Bytes | None = None,
    ) -> UploadOptions:
        """What a route takes; the arguments are those of `receive`. Raises ConfigError."""
        wish = make_wish(
            to,
            max_size=max_size,
            types=types,
            conflict=conflict,
            digest=digest,
            threshold=threshold,
        )
        self._register(wish)
        return wish

    def _register(self, wish: UploadOptions) -> None:
        if wish.doubtful_name:
            self._doubtful.add(wish.doubtful_name)
        if wish.static_folder:
            self._register_folder(wish.static_folder)

    def _look_at_name(self, wish: UploadOptions) -> None:
        """What the start does for wishes that were declared; once for each name."""
        name = wish.doubtful_name
        if name is not None and name not in self._doubtful:
            self._doubtful.add(name)
            warn_of(name)

    def _register_folder(self, folder: str) -> None:
        if folder not in self._folders:
            if not self._running.closed:  # else the next start does it
                self._running.check_destinations([folder])
            self._folders.add(folder)

    def receive(self, to: To | None = None, **wanted: Unpack[Wanted]) -> Any:
        """A FastAPI dependency: the request's body as an `Upload`.

            async def video(upload: Annotated[Upload, uploads.receive(to="videos/")]): ...

        Args:
            to: where it is published: a folder with a slash at its end, in which it gets the
                name that the client gives, or a file's name; or a function of the request's
                head that says it. None: nowhere; it is in memory while it is small, else in a
                file, and gone after the handler unless `upload.move_to` kept it.
            max_size: bytes, or text such as "2GB"; the smaller of this and `settings.max_size`
                holds.
            types: media types to take, `video/*` too.
            conflict: what to do when the name is taken: `rename` (the default in a folder),
                `refuse` (the default for a file's name) or `replace`.
            digest: an algorithm, such as `sha256`, to compute on the way: `upload.digest`.
            threshold: bytes up to which a body without destination may stay in memory.

        The file is published, atomically and after `on_verify`, before the handler runs. When
        the handler raises, it is taken back if it is still the same. Raises ConfigError.
        """
        from forebay.library.fastapi import dependency

        return dependency(self, self.wish(to, **wanted))

    @contextlib.asynccontextmanager
    async def received(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        to: To | UploadOptions | None = None,
        **wanted: Unpack[Wanted],
    ) -> AsyncIterator[Upload]:
        """The same for any framework: the body of `request`, for the block.

        `request` is one of Starlette or Litestar, or an ASGI scope, with its `receive`. The
        other arguments are those of `receive`; or `to` is a `uploads.wish(...)`, made before the
        start, which then checks its folder.

            async with uploads.received(request, to="videos/") as upload:
                ...
        """
        async with self.received_by(Call.of(request, receive), make_wish(to, **wanted)) as upload:
            yield upload

    @contextlib.asynccontextmanager
    async def received_by(self, call: Call, wish: UploadOptions) -> AsyncIterator[Upload]:
        """The same by a wish that was made before."""
        running = await self._run()
        self._look_at_name(wish)
        with call.in_own_terms(running.engine.settings):
            async with declared.received(running.engine, call, wish) as upload:
                yield upload

    # --- forms -----------------------------------------------------------------------------------

    def form_wish(
        self, files: Files, *, fields: Fields = None, **wanted: Unpack[FormWanted]
    ) -> FormWish:
        """What a route takes as a form; the arguments are those of `form`. Raises ConfigError."""
        wish = make_form_wish(files, fields=fields, **wanted)
        for one in wish.files.values():
            self._register(one)
        return wish

    def form(self, files: Files, *, fields: Fields = None, **wanted: Unpack[FormWanted]) -> Any:
        """A FastAPI dependency: the request's form (multipart/form-data) as a `Form`.

            async def form(form: Annotated[Form, uploads.form(files={"clip": "videos/"})]): ...

        Args:
            files: where files go, by the names of their fields: what `receive` takes as `to`,
                or a `uploads.wish(...)`; in a list, as `["videos/"]`, where the field may have
                any number of files. `*` is any other field; a file in a field that is not named
                is refused. Just a folder is for all files.
            fields: the types of the text fields: a pydantic model, whose instance is then
                `form.model`, or a mapping such as `{"title": str, "year": (int, 2000)}`.
            required: names of fields that must be there, and not empty.
            max_size: bytes of the whole form.
            wanted: `types`, `conflict`, `digest` and `threshold` of `receive`, for all files.

        A form that is not as declared is answered by FastAPI's validation error (422), and
        nothing of it is published. All files are published, or none, before the handler runs,
        and taken back when it raises. Text is in memory, within `form_max_fields_size`. Raises
        ConfigError.
        """
        from forebay.library.fastapi import form_dependency

        return form_dependency(self, self.form_wish(files, fields=fields, **wanted))

    @overload
    def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormWish,
        fields: type[M],
        **wanted: Unpack[FormWanted],
    ) -> contextlib.AbstractAsyncContextManager[Form[M]]: ...

    @overload
    def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormWish,
        fields: Mapping[str, Any] | None = None,
        **wanted: Unpack[FormWanted],
    ) -> contextlib.AbstractAsyncContextManager[Form]: ...

    @contextlib.asynccontextmanager
    async def received_form(
        self,
        request: Any,
        receive: Receive | None = None,
        *,
        files: Files | FormWish,
        fields: Any = None,
        **wanted: Unpack[FormWanted],
    ) -> AsyncIterator[Form[Any]]:
        """The same for any framework: the form of `request`, for the block. See `received`."""
        call, wish = Call.of(request, receive), make_form_wish(files, fields=fields, **wanted)
        async with self.received_form_by(call, wish) as form:
            yield form

    @contextlib.asynccontextmanager
    async def received_form_by(self, call: Call, wish: FormWish) -> AsyncIterator[Form]:
        """The same by a wish that was made before."""
        running = await self._run()
        with call.in_own_terms(running.engine.settings):
            async with forms.received(running.engine, call, wish) as form:
                yield form

    def form_middleware(self, app: Any) -> Any:
        """Middleware for Starlette and FastAPI: `app.add_middleware(uploads.form_middleware)`.

        `await request.form()` and `UploadFile` then have their files written once, on the
        filesystem of this folder, off the event loop; handlers stay as they are.
        """
        from forebay.library.middleware import FormMiddleware

        return FormMiddleware(app, self)

    @staticmethod
    def form_of(request: Any) -> Form:
        """The form that was received in front of a framework. Raises LookupError."""
        found: Form | None = _scope_of(request).get("forebay.form")
        if found is None:
            raise LookupError("No form was received for this request; see uploads.in_front_of.")
        return found

    @staticmethod
    def upload_of(request: Any) -> Upload:
        """The upload that was received in front of a framework. Raises LookupError."""
        found: Upload | None = _scope_of(request).get("forebay.upload")
        if found is None:
            raise LookupError("No upload was received for this request; see uploads.in_front_of.")
        return found

    # --- by hand ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def create_upload(
        self,
        request: Any,
        to: To | UploadOptions,
        *,
        receive: Receive | None = None,
        **wanted: Unpack[Wanted],
    ) -> AsyncIterator[IncomingUpload]:
        """An upload of which no byte is read yet: look at its head, then let the body flow.

        It is published when the block ends well and the body was received (`stream`, `chunks`
        or `body`); an exception or `reject` leaves nothing. A block that is left without the
        whole body raises RuntimeError. Without a destination it is gone unless `move_to` kept it.
        Limits, free space, name and type are settled before the block. `request` and the other
        arguments are those of `received`.

            async with uploads.create_upload(request, "videos/", max_size=1 * GB) as upload:
                if not allowed(upload.head):
                    return await upload.reject(403, "not yours")
                async for received in upload.stream():
                    ...
        """
        call, wish = Call.of(request, receive), make_wish(to, **wanted)
        running = await self._run()
        self._look_at_name(wish)
        with call.in_own_terms(running.engine.settings):
            async with by_hand.created(running.engine, call, wish) as upload:
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
        """The body of an ASGI request, in memory or in a file, whichever its size asks for.

        It is gone when the block ends, unless `move_to` kept it. Sizes are in bytes; without
        `max_size` only `settings.max_size` limits it. With `settings.decode_request` its content
        coding is taken off, without it left on. Raises an UploadError, also for a form.

            async with uploads.body(scope, receive) as body:
                await body.move_to("videos/clip.mp4")
        """
        running = await self._run()
        headers = scope["headers"]
        whole_file.check(scope["method"], headers)
        content_type.file_type(headers, "Take a form by `received_form`.")
        media_type = header_fields.first(headers, b"content-type")
        decodable = offered(running.engine.settings)
        async with running.engine.receive_body(
            Call.of(scope, receive).source(),
            media_type=media_type.decode("latin-1") if media_type is not None else None,
            max_size=max_size,
            threshold=threshold,
            progress=progress,
            expected=checksums.all_digests(headers),
            coding=content_codings.to_decode(headers, decodable) if decodable else None,
        ) as body:
            yield body

    # --- resumable uploads, step by step ---------------------------------------------------------

    async def create_resumable_upload(
        self,
        request: Any,
        to: To | UploadOptions = "",
        *,
        receive: Receive | None = None,
        location: str | None = None,
        **wanted: Unpack[Wanted],
    ) -> Any:
        """Answers a POST that begins a resumable upload, by tus or the IETF's protocol.

        `to` must be a folder; `max_size`, `types` and `conflict` as in `receive`. `location` is
        the path under which the application serves the uploads, the request's own when left
        out; the upload is at `location/ID`. Returns the response of the framework, errors
        included.
        """
        wish = make_wish(to, **wanted)
        return await self._step(request, receive, None, location, wish)

    async def append_to_upload(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers a PATCH that adds bytes to an upload, and completes it with the last one."""
        return await self._step(request, receive, upload_id)

    async def get_upload_status(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers HEAD, which ends a running append and tells the offset, or GET, which disturbs
        nobody and tells the state as JSON.
        """
        return await self._step(request, receive, upload_id)

    async def cancel_upload(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers a DELETE: the upload and its bytes are gone."""
        return await self._step(request, receive, upload_id)

    async def _step(
        self,
        request: Any,
        receive: Receive | None,
        upload_id: str | None,
        location: str | None = None,
        wish: UploadOptions | None = None,
    ) -> Any:
        call = Call.of(request, receive)
        running = await self._run()
        await running.open_uploads()
        body = call.limited_receive()
        call.scope[scope_keys.SETTINGS] = running.engine.settings
        try:
            scope = await steps.scope_of(call.scope, upload_id, location, wish, self._places)
        except UploadError as error:
            answer: Answer = describe_error(error, call.scope)
        else:
            answer = await running.resumable.answer(scope, body, steps.no_send)
        allowed = self.settings.allow_origin
        fields = with_cors(answer.status, answer.headers, call.scope["headers"], allowed)
        return call.respond(Answer(answer.status, tuple(fields), answer.body))

    # --- callbacks and errors --------------------------------------------------------------------

    def on_verify(self, function: Callback) -> Callback:
        """Decorator: `function(upload)` is asked before a file is published; it refuses by
        raising VerificationRefused, or by returning False. Plain functions run in threads, here
        and everywhere.
        """
        self._hooks.verifiers.append(told.verifier(function, lambda: self.engine))
        return function

    def on_complete(self, function: Callback) -> Callback:
        """Decorator: `function(upload)` is told after a file was published, at least once, with
        the same `upload.id` each time.
        """
        self._hooks.completers.append(told.completer(function, lambda: self.engine))
        return function

    def on_progress(self, function: Callback) -> Callback:
        """Decorator: `function(upload, received)` is told while a body arrives, at most ten times
        a second, and when it has arrived. A slow one misses reports; only the last is waited for,
        five seconds at most.
        """
        self._hooks.watchers.append(told.watcher(function, lambda: self.engine))
        return function

    def on_delete(self, function: Callback) -> Callback:
        """Decorator: `function(upload)` is told after a file was removed, by a client or by the
        application: `name`, `size`, `principal` and, of a client's, `head`; its content is gone.

        Told once, and not again after a crash. What was never told of, as a file that is taken
        back, is not told of here either. What it raises is logged.
        """
        self._hooks.deleters.append(told.deleter(function, lambda: self.engine))
        return function

    def answer_to(self, error: UploadError, scope: MutableMapping[str, Any]) -> Reply:
        """What the client of that request is told of `error`: `status`, `headers`, `body`.

        A problem document (RFC 9457) with the stable code, or a line of text for who asks for
        that. It can be sent as it is: `await reply(scope, receive, send)`.
        """
        return describe_error(error, cast(dict[str, Any], scope))

    def exception_handler(self, request: Any, error: Exception) -> Any:
        """For `exception_handlers={UploadError: ...}` of Starlette, FastAPI and Litestar."""
        assert isinstance(error, UploadError)
        return Call.of(request).respond(describe_error(error, request.scope))

    def install(self, app: Any) -> None:
        """Gives a Starlette or FastAPI application the handler of errors, so that every
        UploadError is answered by a problem document, and FastAPI's documents the bodies.
        """
        app.add_exception_handler(UploadError, self.exception_handler)
        self._describe(app)


def _scope_of(request: Any) -> dict[str, Any]:
    found = request if isinstance(request, MutableMapping) else request.scope
    return cast(dict[str, Any], found)
