"""Errors in both directions: ours as exceptions of the application's framework, and exceptions of
a framework, raised by an application's callback, as answers of ours.

Inside a framework its own handlers answer its exceptions. Where no framework is around us, as in
front of Django, they are answered here, with the status that they name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forebay import errors
from forebay.errors import InvalidForm, Refused, UploadError
from forebay.http import scope_keys
from forebay.http.answers import answer_error, describe
from forebay.http.setting_names import with_setting_names
from forebay.library.asgi_request import AsgiRequest, Reply
from forebay.protocol import fields
from forebay.protocol.status import phrase, problems_of, render, restated

if TYPE_CHECKING:
    from forebay.config import Settings

logger = logging.getLogger("forebay")

_KINDS: dict[int, type[Refused]] = {
    401: errors.NotAuthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.VerificationRefused,
}
_DJANGO = {"PermissionDenied": 403, "Http404": 404, "SuspiciousOperation": 400, "BadRequest": 400}


def describe_error(error: UploadError, scope: dict[str, Any]) -> Reply:
    """The answer to a client: problem+json, or text for a client that asks for text."""
    answer = answer_error(error, scope)
    return Reply(answer.status, answer.headers, answer.body)


# --- ours, for a framework -----------------------------------------------------------------------


@contextlib.contextmanager
def as_framework_errors(request: AsgiRequest, settings: Settings) -> Iterator[None]:
    """An UploadError that is raised in the block becomes the framework's HTTP exception.

    It stays as it is when the application handles UploadError itself, and in plain ASGI.
    """
    request.scope[scope_keys.SETTINGS] = settings
    try:
        yield
    except UploadError as error:
        with_setting_names(error, request.scope)
        raised = _framework_error(error, request)
        if raised is error:
            raise
        raise raised from error


def _framework_error(error: UploadError, request: AsgiRequest) -> Exception:
    fastapi = request.framework == "starlette" and _is_fastapi(request.scope.get("app"))
    if fastapi and isinstance(error, InvalidForm):
        return _validation_error(error)
    if request.framework == "asgi" or _has_handler(request.scope, error):
        return error
    answer = answer_error(error, request.scope)
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in answer.headers
        if name not in (b"content-type", b"content-length")
    }
    if request.framework == "starlette":
        from starlette.exceptions import HTTPException

        # FastAPI sends any JSON as the detail; Starlette itself sends it as text.
        detail: Any = f"{error.message} ({error.code})"
        if fastapi:
            detail = {"code": error.code, "message": error.message}
        return HTTPException(answer.status, detail, headers)
    from litestar.exceptions import HTTPException as LitestarException

    extra: dict[str, Any] = {"code": error.code}
    if isinstance(error, InvalidForm):
        extra["errors"] = problems_of(error)
    return LitestarException(
        detail=error.message, status_code=answer.status, headers=headers, extra=extra
    )


def _validation_error(error: InvalidForm) -> Exception:
    """FastAPI's own, so that its handler answers, and all wrong values have the same shape."""
    from fastapi.exceptions import RequestValidationError

    return RequestValidationError(error.detail.get("problems", []), body=error.detail.get("texts"))


def _is_fastapi(app: Any) -> bool:
    return any(cls.__module__.startswith("fastapi.") for cls in type(app).__mro__)


def _has_handler(scope: dict[str, Any], error: Exception) -> bool:
    app = scope.get("litestar_app") or scope.get("app")
    handlers = getattr(app, "exception_handlers", None) or {}
    return any(
        isinstance(kind, type) and isinstance(error, kind)
        for kind in handlers
        if kind is not Exception
    )


# --- a framework's, answered by us ---------------------------------------------------------------


def answers_itself(scope: dict[str, Any], error: Exception) -> bool:
    """Whether the application has its own answer to `error`: by a handler, or because it is an
    HTTPException of its framework (Starlette, Litestar).
    """
    return isinstance(getattr(error, "status_code", None), int) or _has_handler(scope, error)


def error_class_of(status: int) -> type[Refused]:
    """The error of ours that fits a refusal with that status best."""
    return _KINDS.get(status, Refused)


def answer_of(error: Exception, scope: dict[str, Any]) -> Reply | None:
    """The answer that a framework's exception asks for. None when it is a failure, or when a
    framework around us has the handlers for it.
    """
    if "app" in scope or "litestar_app" in scope:
        return None
    status = _status_of(error)
    if status is None:
        return None
    detail = getattr(error, "detail", None)
    message = detail if isinstance(detail, str) else str(error) or phrase(status)
    refusal = error_class_of(status)(message)
    answer = restated(render(refusal, fields.first(scope["headers"], b"accept")), status)
    given = dict(getattr(error, "headers", None) or {})
    added = {
        str(name).lower().encode("latin-1"): str(value).encode("latin-1")
        for name, value in given.items()
        if not str(name).lower().startswith("content-")  # of a body that is not sent
    }
    own = (field for field in answer.headers if field[0] not in added)
    logger.info("refused %s: %d %s", describe(scope), status, message)
    return Reply(answer.status, (*own, *added.items()), answer.body)


def _status_of(error: Exception) -> int | None:
    """400 to 599, of an HTTPException of Starlette, FastAPI or Litestar, or of Django's errors."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        return int(status)
    for kind in type(error).__mro__:
        if kind.__module__.startswith("django.") and kind.__name__ in _DJANGO:
            return _DJANGO[kind.__name__]
    return None
