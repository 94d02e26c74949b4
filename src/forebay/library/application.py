"""`Forebay`: the engine inside any ASGI application."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Unpack, cast

from forebay.config import load, parse_settings
from forebay.errors import UploadError
from forebay.hooks.base import Access
from forebay.http.allocator import keep_freed_memory
from forebay.library.asgi_request import AsgiRequest, Reply
from forebay.library.callbacks import Callbacks
from forebay.library.contents import Contents
from forebay.library.dispatcher import Dispatcher
from forebay.library.framework_errors import describe_error
from forebay.library.mounts import Places
from forebay.library.options import Files, FormArguments, To, UploadArguments
from forebay.library.receiving import Fields, Receiving
from forebay.library.routes import ResumableRoutes


class Forebay(Receiving, ResumableRoutes, Callbacks, Contents):
    """Receives uploads into one folder, inside an application.

    Args:
        dir: the folder; created when missing.
        authorise: called with an `Access` before a byte of a body is read. It returns a
            `Principal` or an id (text, an int, a UUID; compared as text), or, to let a client in
            without a name, `Principal.anonymous` or True; it returns False or raises to refuse.
            Anything else, such as None, is a mistake and refuses with 500 (HookFailed).
            Without it, every client may do everything.
        files_at, resumable_at: where the two applications are mounted, such as `/files`. Needed
            only when the application's routes do not show that (other frameworks than Starlette).
        tune_allocator: lets glibc keep 16 MiB of freed memory in this process, which makes bodies
            under TLS and on other servers cost less than half of the CPU time (mallopt(3)).
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
        tune_allocator: bool = False,
        **settings: Any,
    ) -> None:
        if tune_allocator:
            keep_freed_memory()
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
        tune_allocator: bool = False,
    ) -> Forebay:
        """Settings from `FOREBAY_*`, then `./forebay.toml`, then the defaults. Raises ConfigError,
        StorageError.
        """
        if tune_allocator:
            keep_freed_memory()
        made = cls.__new__(cls)
        settings = load({}, os.environ, os.getcwd()).settings
        made._set_up(settings, authorise, Places(files_at, resumable_at))
        return made

    # --- for FastAPI, Starlette, Django ----------------------------------------------------------

    def receive(self, to: To | None = None, **options: Unpack[UploadArguments]) -> Any:
        """A FastAPI dependency: the request's body as an `Upload`.

            async def video(upload: Annotated[Upload, uploads.receive(to="videos/")]): ...

        Args:
            to: where it is published: a folder, with a slash at its end, in which it gets the
                client's name; or the path of a file; or a function of the request's head that
                returns one of these. None: it is not published; it is in memory while it is small,
                else in a file, and gone after the handler unless `upload.move_to` published it.
            max_size: bytes, or text such as "2GB"; the smaller of this and `settings.max_size`
                holds.
            types: media types to accept, also `video/*`.
            conflict: what to do when the name is taken: `rename` (the default in a folder),
                `refuse` (the default for the path of a file) or `replace`.
            digest: an algorithm, such as `sha256`, to compute: `upload.digest`.
            threshold: bytes up to which a body without destination may stay in memory.

        The file is published, atomically and after `on_verify`, before the handler runs. When
        the handler raises, it is removed again if it is still the same. Raises ConfigError.
        """
        from forebay.library.fastapi import dependency

        return dependency(self, self.options(to, **options))

    def form(self, files: Files, *, fields: Fields = None, **options: Unpack[FormArguments]) -> Any:
        """A FastAPI dependency: the request's form (multipart/form-data) as a `Form`.

            async def form(form: Annotated[Form, uploads.form(files={"clip": "videos/"})]): ...

        Args:
            files: the destinations of files, by the names of their fields: what `receive` takes
                as `to`, or `uploads.options(...)`; in a list, such as `["videos/"]`, when the
                field may have any number of files. `*` is for all other fields; without it a file
                in another field is refused. A folder alone is for all files.
            fields: the types of the text fields: a pydantic model, whose instance is then
                `form.model`, or a mapping such as `{"title": str, "year": (int, 2000)}`.
            required: names of fields that must be there and not be empty.
            max_size: bytes of the whole form.
            types, conflict, digest, threshold: as in `receive`, for all files.

        A form that is not as declared is answered by FastAPI's validation error (422), and
        nothing of it is published. All files are published, or none, before the handler runs,
        and removed again when it raises. Text is in memory, within `form_max_fields_size`. Raises
        ConfigError.
        """
        from forebay.library.fastapi import form_dependency

        return form_dependency(self, self.form_options(files, fields=fields, **options))

    def form_middleware(self, app: Any) -> Any:
        """Middleware for Starlette and FastAPI: `app.add_middleware(uploads.form_middleware)`.

        The files of `await request.form()` and `UploadFile` are then written once, on the
        filesystem of this folder, not on the event loop; handlers stay as they are.
        """
        from forebay.library.middleware import FormMiddleware

        return FormMiddleware(app, self)

    def in_front_of(self, app: Any, mounts: Mapping[str, Any]) -> Dispatcher:
        """An ASGI application that serves `mounts`, by their paths, and `app` at all other paths.

        For frameworks that read whole bodies themselves, such as Django. A value of `mounts` is
        an ASGI application (`uploads.files`, `uploads.resumable`), or options: then the body is
        received before `app` is called. With `uploads.options(to=...)`, `app` gets an empty
        body, and `uploads.upload_of(request)` is the `Upload`; with `uploads.form_options(...)`
        it gets the text fields as a urlencoded form, and `uploads.form_of(request)` is the
        `Form`. After an answer of 400 or more, what was published is removed again. Starts and
        stops with the server. Raises ConfigError for any other value.
        """
        return Dispatcher(self, app, mounts)

    # --- errors ----------------------------------------------------------------------------------

    def answer_to(self, error: UploadError, scope: MutableMapping[str, Any]) -> Reply:
        """The answer to that request for `error`: `status`, `headers`, `body`.

        A problem document (RFC 9457) with the stable code, or a line of text for a client that
        asks for text. It can be sent as it is: `await reply(scope, receive, send)`.
        """
        return describe_error(error, cast(dict[str, Any], scope))

    def exception_handler(self, request: Any, error: Exception) -> Any:
        """For `exception_handlers={UploadError: ...}` of Starlette, FastAPI and Litestar."""
        assert isinstance(error, UploadError)
        return AsgiRequest.of(request).respond(describe_error(error, request.scope))

    def install(self, app: Any) -> None:
        """Adds the exception handler to a Starlette or FastAPI application, so that every
        UploadError is answered by a problem document, and describes bodies in FastAPI's OpenAPI.
        """
        app.add_exception_handler(UploadError, self.exception_handler)
        self._describe(app)
