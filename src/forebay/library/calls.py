"""A request of any framework, as ASGI has it; and answers and errors in the framework's terms.

No framework is imported here before one of its own requests was seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

from forebay.errors import InvalidForm, UploadError
from forebay.http import scope_keys
from forebay.http.answers import Field, Receive, answer_error
from forebay.http.asgi_source import BODY_WAS_READ
from forebay.http.body_source import source_of
from forebay.http.setting_names import with_setting_names
from forebay.library import in_litestar
from forebay.protocol.status import Answer, problems_of

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.transfer.pump import Source

Framework = Literal["asgi", "starlette", "litestar"]

_TAKEN = "forebay.taken"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply(Answer):
    """A whole response. It is an ASGI application, too: `await reply(scope, receive, send)`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": self.status, "headers": [*self.headers]}
        await send(head)
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    scope: dict[str, Any]
    receive: Receive
    framework: Framework
    read: bool = False
    """Whether the framework's request has read its body already."""

    @classmethod
    def of(cls, request: Any, receive: Receive | None = None) -> Call:
        """Of a framework's request, or of an ASGI scope and its `receive`.

        Raises TypeError for what is neither.
        """
        if isinstance(request, MutableMapping):
            if receive is None:
                raise TypeError("Give both scope and receive of the ASGI request.")
            return cls(cast(dict[str, Any], request), receive, "asgi")
        scope = getattr(request, "scope", None)
        found = receive or getattr(request, "receive", None)
        if isinstance(scope, dict) and callable(found):
            framework = _framework_of(request)
            return cls(scope, found, framework, _READ[framework](request))
        if isinstance(scope, dict):
            raise TypeError(
                "Django has read the body before its view runs. Have Forebay receive it in front "
                "of Django: uploads.in_front_of(get_asgi_application(), ...)."
            )
        raise TypeError(f"{type(request).__name__} is no request that Forebay knows.")

    def source(self) -> Source:
        """The request's body, which comes once. Raises RuntimeError for who asks again: to wait
        for it would be to wait for ever.
        """
        if self.read or self.scope.get(_TAKEN):
            raise RuntimeError(BODY_WAS_READ)
        self.scope[_TAKEN] = True
        return source_of(self.scope, self.limited_receive())

    def limited_receive(self) -> Receive:
        """`receive` with the limit that the framework keeps in its request, if it does."""
        if self.framework == "litestar":
            return in_litestar.limited(self.scope, self.receive)
        return self.receive

    def respond(self, answer: Answer) -> Any:
        """The answer as the framework's own response; for plain ASGI a `Reply`."""
        if self.framework == "starlette":
            from starlette.responses import Response

            response = Response(answer.body, answer.status)
            response.raw_headers = list(answer.headers)
            return response
        if self.framework == "litestar":
            import litestar

            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in answer.headers}
            media_type = headers.pop("content-type", "text/plain")
            headers.pop("content-length", None)
            return litestar.Response(
                answer.body, status_code=answer.status, headers=headers, media_type=media_type
            )
        return Reply(answer.status, answer.headers, answer.body)

    @contextmanager
    def in_own_terms(self, settings: Settings) -> Iterator[None]:
        """What Forebay raises in the block becomes the framework's HTTP exception.

        Not when the application handles UploadError itself, nor in plain ASGI.
        """
        self.scope[scope_keys.SETTINGS] = settings
        try:
            yield
        except UploadError as error:
            with_setting_names(error, self.scope)
            raised = self._exception(error)
            if raised is error:
                raise
            raise raised from error

    def _exception(self, error: UploadError) -> Exception:
        fastapi = self.framework == "starlette" and _is_fastapi(self.scope.get("app"))
        if fastapi and isinstance(error, InvalidForm):
            return _validation_error(error)
        if self.framework == "asgi" or self._handles(error):
            return error
        answer = answer_error(error, self.scope)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in answer.headers
            if name not in (b"content-type", b"content-length")
        }
        if self.framework == "starlette":
            from starlette.exceptions import HTTPException

            told = {"code": error.code, "message": error.message}
            # Any JSON may be FastAPI's detail; Starlette itself sends it as text.
            detail: Any = told if fastapi else f"{error.message} ({error.code})"
            return HTTPException(answer.status, detail, headers)
        from litestar.exceptions import HTTPException as LitestarException

        extra: dict[str, Any] = {"code": error.code}
        if isinstance(error, InvalidForm):
            extra["errors"] = problems_of(error)
        return LitestarException(
            detail=error.message,
            status_code=answer.status,
            headers=headers,
            extra=extra,
        )

    def _handles(self, error: UploadError) -> bool:
        return _has_handler(self.scope, error)


def answers_itself(scope: dict[str, Any], error: Exception) -> bool:
    """Whether the application has an answer of its own to `error`: a handler, or an exception of
    its framework that is an answer (an HTTPException of Starlette or Litestar).
    """
    return isinstance(getattr(error, "status_code", None), int) or _has_handler(scope, error)


def _has_handler(scope: dict[str, Any], error: Exception) -> bool:
    app = scope.get("litestar_app") or scope.get("app")
    handlers = getattr(app, "exception_handlers", None) or {}
    return any(
        isinstance(kind, type) and isinstance(error, kind)
        for kind in handlers
        if kind is not Exception
    )


def _validation_error(error: InvalidForm) -> Exception:
    """FastAPI's own, so that the application's handler for it answers, and every wrong value of
    a route in the same shape.
    """
    from fastapi.exceptions import RequestValidationError

    return RequestValidationError(error.detail.get("problems", []), body=error.detail.get("texts"))


def describe_error(error: UploadError, scope: dict[str, Any]) -> Reply:
    """What a client is told of `error`: problem+json, or text for who asks for that."""
    answer = answer_error(error, scope)
    return Reply(answer.status, answer.headers, answer.body)


def with_fields(answer: Answer, extra: list[Field]) -> Reply:
    return Reply(answer.status, (*answer.headers, *extra), answer.body)


def _framework_of(request: Any) -> Framework:
    for cls in type(request).__mro__:
        if cls.__module__.startswith("starlette."):
            return "starlette"
        if cls.__module__.startswith("litestar."):
            return "litestar"
    return "asgi"


def _starlette_read(request: Any) -> bool:
    return getattr(request, "_stream_consumed", False) or hasattr(request, "_body")


_READ: dict[Framework, Callable[[Any], bool]] = {
    "asgi": lambda request: False,
    "starlette": _starlette_read,
    "litestar": in_litestar.was_read,
}


def _is_fastapi(app: Any) -> bool:
    return any(cls.__module__.startswith("fastapi.") for cls in type(app).__mro__)
