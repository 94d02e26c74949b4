"""Whole answers over ASGI, and errors as answers and log lines."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from forebay.errors import OutOfMemory, StorageError, UploadError
from forebay.http.setting_names import with_setting_names
from forebay.protocol import fields
from forebay.protocol.status import Answer, render, status_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Field = tuple[bytes, bytes]
Headers = list[Field]

logger = logging.getLogger("forebay")


class InternalError(UploadError):
    """A bug in Forebay or in a callback. Its traceback is logged with the same id."""

    code = "FB_INTERNAL"
    default = "The server failed; its log says why."


async def send_answer(send: Send, answer: Answer) -> None:
    """Sends a whole answer."""
    headers = [*answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def json_answer(status: int, value: object, extra: Iterable[Field] = ()) -> Answer:
    """An answer with `value` as JSON, and `extra` fields."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
    return json_bytes(status, body, extra)


def json_bytes(status: int, body: bytes, extra: Iterable[Field] = ()) -> Answer:
    """An answer with JSON that is encoded already, and `extra` fields."""
    return Answer(
        status,
        (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-content-type-options", b"nosniff"),
            *extra,
        ),
        body,
    )


def text_answer(status: int, text: str, extra: Iterable[Field] = ()) -> Answer:
    """An answer with plain text, and `extra` fields."""
    body = text.encode()
    return Answer(
        status,
        (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *extra,
        ),
        body,
    )


def answer_error(error: Exception, scope: dict[str, Any]) -> Answer:
    """The answer to a failed request; logs the error with the same id (invariant 13)."""
    upload_id = secrets.token_hex(8)
    if isinstance(error, MemoryError):  # only this request fails
        logger.error("no memory for %s", describe(scope))
        error = OutOfMemory(retry_after=5)
    elif not isinstance(error, UploadError):
        logger.error("internal error in %s", describe(scope), exc_info=error)
        error = InternalError()
    error = with_setting_names(error, scope)
    status = status_of(error)
    level = logging.ERROR if isinstance(error, StorageError) or status == 500 else logging.INFO
    cause = error.__cause__
    logger.log(
        level,
        "refused %s: %d %s %s%s",
        describe(scope),
        status,
        error.code,
        error.message,
        f" ({cause})" if isinstance(cause, OSError) else "",
        extra={"upload": upload_id, "code": error.code, "status": status},
    )
    accept = fields.first(scope["headers"], b"accept")
    return render(error, accept, upload_id=upload_id)


def describe(scope: dict[str, Any]) -> str:
    """Method and path for a log line, still percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    return f"{scope['method']} {path.decode('ascii', 'backslashreplace')}"
