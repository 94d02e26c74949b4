"""An ASGI application in front of another: for frameworks that read whole bodies themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from forebay.errors import ConfigError, UploadError
from forebay.http.answers import Message, Receive, Send
from forebay.http.cors import CorsSend
from forebay.http.verdicts import VerdictMiddleware
from forebay.library.calls import Call, describe_error
from forebay.library.foreign import answer_of
from forebay.library.forms import Form
from forebay.library.options import FormWish, UploadOptions
from forebay.library.upload import Upload
from forebay.protocol import names

if TYPE_CHECKING:
    from forebay.library.application import Forebay

_BODIES = frozenset({"POST", "PUT", "PATCH"})


class Front:
    """Made by `Forebay.in_front_of`."""

    def __init__(self, uploads: Forebay, app: Any, mounts: Mapping[str, Any]) -> None:
        self._uploads = uploads
        self._app = app
        # The longest first: /files/own before /files.
        self._mounts = sorted(
            (
                ("/" + path.strip("/") if path.strip("/") else "", app)
                for path, app in mounts.items()
            ),
            key=lambda m: -len(m[0]),
        )
        for path, mounted in self._mounts:
            if not isinstance(mounted, UploadOptions | FormWish) and not callable(mounted):
                raise ConfigError(
                    f"{mounted!r} cannot be mounted at {path or '/'!r}. Give an ASGI application "
                    "(uploads.files, uploads.resumable), uploads.wish(...) or "
                    "uploads.form_wish(...)."
                )
            if not isinstance(mounted, UploadOptions | FormWish):
                uploads.mounted_at(mounted, path)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http":
            path = _path(scope)
            for mount, app in self._mounts:
                if isinstance(app, UploadOptions | FormWish):
                    if path.rstrip("/") == mount and scope["method"] in _BODIES:
                        await self._receive(scope, receive, send, app)
                        return
                elif path == mount or path.startswith(mount + "/"):
                    root = scope.get("root_path", "")
                    await app(
                        scope | {"root_path": root + mount, "app_root_path": root}, receive, send
                    )
                    return
        await self._app(scope, receive, send)

    async def _receive(
        self, scope: dict[str, Any], receive: Receive, send: Send, wish: UploadOptions | FormWish
    ) -> None:
        async def judged(scope: Any, receive: Any, send: Any) -> None:
            await self._hand_over(scope, receive, send, wish)

        await VerdictMiddleware(judged)(scope, receive, send)

    async def _hand_over(
        self, scope: dict[str, Any], receive: Receive, send: Send, wish: UploadOptions | FormWish
    ) -> None:
        """The application is called with what was received; whoever sees its answer leave takes
        the file back for an error.
        """
        answer = _Instead(receive, send)
        # For answers of ours: what the application answers is its own affair.
        leaving = CorsSend(send, scope["headers"], self._uploads.settings.allow_origin)
        try:
            async with self._received(Call.of(scope, receive), wish) as given:
                await self._app(answer.instead_of(scope, given), answer.receive, answer.send)
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
        self, call: Call, wish: UploadOptions | FormWish
    ) -> contextlib.AbstractAsyncContextManager[Upload | Form]:
        if isinstance(wish, FormWish):
            return self._uploads.received_form_by(call, wish)
        return self._uploads.received_by(call, wish)

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


_OF_THE_BODY = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class _Instead:
    """What the application is given in place of `receive` and `send`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._given = False
        self._body = b""
        self.started = False

    def instead_of(self, scope: dict[str, Any], given: Upload | Form) -> dict[str, Any]:
        """The request that the application is given: what was received, and a small body."""
        headers = [field for field in scope["headers"] if field[0] not in _OF_THE_BODY]
        if isinstance(given, Form):
            pairs = given.fields.multi_items()
            self._body = urlencode(pairs, errors="surrogateescape").encode("ascii")
            headers = [field for field in headers if field[0] != b"content-type"]
            headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        headers.append((b"content-length", b"%d" % len(self._body)))
        key = "forebay.form" if isinstance(given, Form) else "forebay.upload"
        return scope | {key: given, "headers": headers}

    async def receive(self) -> Message:
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        message = await self._receive()
        while message["type"] == "http.request":  # the end of the body that was received
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
