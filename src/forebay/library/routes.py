"""The part of `Forebay` that answers requests of resumable uploads on the application's own
routes.
"""

from __future__ import annotations

from typing import Any, Unpack

from forebay.errors import UploadError
from forebay.hooks.request import PATH
from forebay.http import scope_keys
from forebay.http.answers import Message, Receive
from forebay.http.cors import with_cors
from forebay.library.asgi_request import AsgiRequest
from forebay.library.framework_errors import describe_error
from forebay.library.lifecycle import Lifecycle
from forebay.library.mounts import Places
from forebay.library.options import To, UploadArguments, UploadOptions, make_options
from forebay.protocol import names
from forebay.protocol.status import Answer
from forebay.protocol.upload_ids import validate_upload_id


class ResumableRoutes(Lifecycle):
    """A method for each request of tus and the IETF protocol. Each returns the framework's
    response; errors are responses too.
    """

    async def create_resumable_upload(
        self,
        request: Any,
        to: To | UploadOptions = "",
        *,
        receive: Receive | None = None,
        location: str | None = None,
        **options: Unpack[UploadArguments],
    ) -> Any:
        """Answers a POST that creates a resumable upload.

        `to` must be a folder; `max_size`, `types` and `conflict` are as in `receive`. `location`
        is the path below which the application serves its uploads, each at `location/ID`; the
        request's own path when left out.
        """
        return await self._answer(request, receive, None, location, make_options(to, **options))

    async def append_to_upload(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers a PATCH that appends bytes to an upload; the last one completes it."""
        return await self._answer(request, receive, upload_id)

    async def get_upload_status(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers HEAD, which stops a running append and returns the offset, or GET, which returns
        the state as JSON and does not stop an append.
        """
        return await self._answer(request, receive, upload_id)

    async def cancel_upload(
        self, request: Any, upload_id: str, *, receive: Receive | None = None
    ) -> Any:
        """Answers a DELETE, which removes the upload and its bytes."""
        return await self._answer(request, receive, upload_id)

    async def _answer(
        self,
        request: Any,
        receive: Receive | None,
        upload_id: str | None,
        location: str | None = None,
        options: UploadOptions | None = None,
    ) -> Any:
        asgi = AsgiRequest.of(request, receive)
        runtime = await self._started()
        await runtime.open_uploads()
        body = asgi.limited_receive()
        asgi.scope[scope_keys.SETTINGS] = runtime.engine.settings
        try:
            scope = await _as_mounted(asgi.scope, upload_id, location, options, self._places)
        except UploadError as error:
            answer: Answer = describe_error(error, asgi.scope)
        else:
            answer = await runtime.resumable.answer(scope, body, _no_send)
        allowed = self.settings.allow_origin
        fields = with_cors(answer.status, answer.headers, asgi.scope["headers"], allowed)
        return asgi.respond(Answer(answer.status, tuple(fields), answer.body))


async def _as_mounted(
    scope: dict[str, Any],
    upload_id: str | None,
    location: str | None,
    options: UploadOptions | None,
    places: Places,
) -> dict[str, Any]:
    """The request's scope as if the application of resumable uploads were mounted there.

    Raises NotFound for an invalid id, and what a function for `to` raises.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    here = (path if path.startswith(root) else root + path).rstrip("/")
    if upload_id is not None:
        here = here.removesuffix("/" + validate_upload_id(upload_id))
    elif location is not None:
        here = scope.get("app_root_path", root).rstrip("/") + "/" + location.strip("/")
    below = "/" + upload_id if upload_id is not None else "/"
    quoted = names.quote_path(here)
    found = scope | {
        "root_path": here,
        "path": here + below,
        PATH: path,
        "raw_path": (quoted + below).encode(),
        scope_keys.UPLOADS: quoted,
        scope_keys.BASE: names.quote_path(scope.get("app_root_path", root).rstrip("/")),
    }
    files = places.path_of(places.files, scope)
    if files is not None:
        found[scope_keys.FILES] = names.quote_path(scope.get("app_root_path", root) + files)
    if options is not None:
        found[scope_keys.DESTINATION] = await options.destination(scope)
    return found


async def _no_send(message: Message) -> None:
    raise AssertionError("the answer is returned, not sent")
