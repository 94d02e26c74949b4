"""Refusals that callbacks of an application raise in the terms of its framework.

Inside a framework they are for its own handlers. Where none is around us, as in front of
Django, they are answered here, with the status that they say.
"""

from __future__ import annotations

import logging
from typing import Any

from forebay import errors
from forebay.errors import Refused
from forebay.http.answers import describe
from forebay.library.calls import Reply
from forebay.protocol import fields
from forebay.protocol.status import phrase, render, restated

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


def kind_of(status: int) -> type[Refused]:
    """The error that a refusal with that status is most like."""
    return _KINDS.get(status, Refused)


def answer_of(error: Exception, scope: dict[str, Any]) -> Reply | None:
    """The answer that a framework's exception asks for; None when it is a failure, or when a
    framework is around us whose handlers it is for.
    """
    if "app" in scope or "litestar_app" in scope:
        return None
    status = _status_of(error)
    if status is None:
        return None
    detail = getattr(error, "detail", None)
    message = detail if isinstance(detail, str) else str(error) or phrase(status)
    told = kind_of(status)(message)
    answer = restated(render(told, fields.first(scope["headers"], b"accept")), status)
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
    """400 to 599, of an HTTPException of Starlette, FastAPI or Litestar, or as Django has it."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        return int(status)
    for kind in type(error).__mro__:
        if kind.__module__.startswith("django.") and kind.__name__ in _DJANGO:
            return _DJANGO[kind.__name__]
    return None
