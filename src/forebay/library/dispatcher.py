"""Receives bodies in front of another ASGI application: for frameworks, such as Django, that read
whole bodies themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from forebay.errors import ConfigError, UploadError
from forebay.http.answers import Message, Receive, Send
from forebay.http.cors import CorsSend
from forebay.http.verdicts import VerdictMiddleware
from forebay.library.asgi_request import AsgiRequest
from forebay.library.forms import Form
from forebay.library.framework_errors import answer_of, describe_error
from forebay.library.options import FormOptions, UploadOptions
from forebay.library.receiving import Receiving
from forebay.library.upload import Upload
from forebay.protocol import names

Options = UploadOptions | FormOptions

_BODIES = frozenset({"POST", "PUT", "PATCH"})


class Dispatcher:
    """Serves each request by the longest mount that its path is below, else by `app`. Made by
    `Forebay.in_front_of`.
    """

    def __init__(self, uploads: Receiving, app: Any, mounts: Mapping[str, Any]) -> None:
        self._uploads = uploads
        self._app = app
        # The longest first: /files/own before /files.
        self._mounts = sorted(
            (
                ("/" + path.strip("/") if path.strip("/") else "", mounted)
                for path, mounted in mounts.items()
            ),
            key=lambda m: -len(m[0]),
        )
        for path, mounted in self._mounts:
            if isinstance(mounted, Options):
                continue
            if not callable(mounted):
                raise ConfigError(
                    f"{mounted!r} cannot be mounted at {path or '/'!r}. Give an ASGI application "
                    "(uploads.files, uploads.resumable), uploads.options(...) or "
                    "uploads.form_options(...)."
                )
            uploads.mounted_at(mounted, path)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http":
            path = _path(scope)
            for mount, mounted in self._mounts:
                if isinstance(mounted, Options):
                    if path.rstrip("/") == mount and scope["method"] in _BODIES:
                        await self._receive(scope, receive, send, mounted)
                        return
                elif path == mount or path.startswith(mount + "/"):
                    root = scope.get("root_path", "")
                    below = scope | {"root_path": root + mount, "app_root_path": root}
                    await mounted(below, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _receive(
        self, scope: dict[str, Any], receive: Receive, send: Send, options: Options
    ) -> None:
        async def receive_first(scope: Any, receive: Any, send: Any) -> None:
            await self._hand_over(scope, receive, send, options)

        await VerdictMiddleware(receive_first)(scope, receive, send)

    async def _hand_over(
        self, scope: dict[str, Any], receive: Receive, send: Send, options: Options
    ) -> None:
        """Receives the body and calls the application. `VerdictMiddleware` sees its answer, and
        removes the file again for an error.
        """
        answer = _Replaced(receive, send)
        # Only our own answers get CORS fields; the application is responsible for its own.
        leaving = CorsSend(send, scope["headers"], self._uploads.settings.allow_origin)
        try:
            async with self._received(AsgiRequest.of(scope, receive), options) as received:
                await self._app(answer.scope_for(scope, received), answer.receive, answer.send)
        except UploadError as error:
            if answer.started:
                raise
            await describe_error(error, scope)(scope, receive, leaving)
        except Exception as error:
            reply = None if answer.started else answer_of(error, scope)
            if reply is None:
                raise
            await reply(scope, receive, leaving)

    def _received(
        self, request: AsgiRequest, options: Options
    ) -> contextlib.AbstractAsyncContextManager[Upload | Form]:
        if isinstance(options, FormOptions):
            return self._uploads.received_form_by(request, options)
        return self._uploads.received_by(request, options)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._uploads.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._uploads.stop()
        await send({"type": "lifespan.shutdown.complete"})


_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class _Replaced:
    """What the application gets instead of the request: its scope, `receive` and `send`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._sent = False
        self._body = b""
        self.started = False

    def scope_for(self, scope: dict[str, Any], received: Upload | Form) -> dict[str, Any]:
        """The scope with what was received, and with the head of a small body."""
        headers = [field for field in scope["headers"] if field[0] not in _BODY_FIELDS]
        if isinstance(received, Form):
            pairs = received.fields.multi_items()
            self._body = urlencode(pairs, errors="surrogateescape").encode("ascii")
            headers = [field for field in headers if field[0] != b"content-type"]
            headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        headers.append((b"content-length", b"%d" % len(self._body)))
        key = "forebay.form" if isinstance(received, Form) else "forebay.upload"
        return scope | {key: received, "headers": headers}

    async def receive(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        message = await self._receive()
        while message["type"] == "http.request":  # the end of the body, which we received
            message = await self._receive()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
        await self._send(message)


def _path(scope: dict[str, Any]) -> str:
    raw: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    if raw is not None:
        path = names.unescape(raw.partition(b"?")[0]).decode("utf-8", "surrogateescape")
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path
