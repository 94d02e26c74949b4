"""Where answers leave, whoever made them: CORS is added here and nowhere else.

Whatever has a head passes here once: all routes of `forebay serve`, what an application has
mounted, the steps of its own routes, and what a connection answers before there is a request.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from forebay.http.answers import Field, Headers, Message, Send
from forebay.protocol import origin, response_fields

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

logger = logging.getLogger("forebay")

CHECKED = os.environ.get("CHECK_FOREBAY_ANSWERS") == "1"
"""Every answer is checked, and a wrong one becomes an exception. Set by the tests: in production
a wrong field of an application is its own affair.
"""

_NOT_FOR_PAGES = frozenset(
    {
        # Always readable (Fetch, section 2.2.2, CORS-safelisted response-header names).
        b"cache-control",
        b"content-language",
        b"content-type",
        # For the browser itself, for caches, or for the connection.
        b"connection",
        b"content-security-policy",
        b"referrer-policy",
        b"vary",
        b"x-content-type-options",
    }
)
_FOR_PAGES = frozenset(name.strip().encode() for name in origin.EXPOSED.lower().split(","))


class WrongAnswer(RuntimeError):
    """An answer that clients would read in different ways. Only with `CHECKED`."""


class CorsSend:
    """`send` for the answer to one request, which adds what every answer has.

    Args:
        send: the server's.
        request: the request's fields.
        allow_origins: as in the settings.
    """

    __slots__ = ("_allow_origins", "_request", "send", "started")

    def __init__(self, send: Send, request: Headers, allow_origins: Collection[str]) -> None:
        self.send = send
        self._request = request
        self._allow_origins = allow_origins
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = message.get("headers", ())
            status = message["status"]
            found = leaving(status, given, self._request, self._allow_origins)
            if CHECKED:
                _check_names(found)
            message = {**message, "headers": found}
        await self.send(message)


def leaving(
    status: int, fields: Iterable[Field], request: Headers, allow_origins: Collection[str]
) -> Headers:
    """The fields of an answer as they go out."""
    found = response_fields.merge_vary([*fields, *origin.cors(request, allow_origins)])
    if CHECKED:
        check(status, found)
    return found


def check(status: int, fields: Headers) -> None:
    """Raises WrongAnswer for fields that no answer may have together."""
    faults = response_fields.faults(status, fields)
    if faults:
        logger.critical("WRONG ANSWER %d: %s; fields: %s", status, "; ".join(faults), fields)
        raise WrongAnswer("; ".join(faults))


def check_lines(status: int, lines: Iterable[bytes]) -> None:
    """`check` for fields as they are sent. Raises WrongAnswer."""
    fields = [line.partition(b": ") for line in b"".join(lines).split(b"\r\n") if line]
    check(status, [(name, value) for name, _, value in fields])


def _check_names(fields: Headers) -> None:
    """Pages can read each field that an answer of ours has, or need not."""
    unknown = [
        name
        for name, _ in fields
        if name not in _FOR_PAGES
        and name not in _NOT_FOR_PAGES
        and not name.startswith(b"access-control-")
    ]
    if unknown:
        logger.critical("WRONG ANSWER: neither exposed to pages nor known as not: %s", unknown)
        raise WrongAnswer(f"not exposed to pages: {unknown}")


# --- what a connection answers by itself ---------------------------------------------------------

_serving: weakref.WeakSet[Engine] = weakref.WeakSet()


def serves(engine: Engine) -> None:
    """Tells that answers of this process may be for the pages that `engine` allows."""
    _serving.add(engine)


def origins_of_process() -> frozenset[str]:
    """The origins that any application in this process allows.

    What is not a request yet (a head that is malformed, too long, or late) belongs to none of
    them, and its refusal tells nothing of any.
    """
    if not _serving:
        return frozenset()
    return frozenset(name for engine in _serving for name in engine.settings.allow_origin)


def cors_of_connection(request: Headers) -> Headers:
    """CORS for an answer that no application makes; `request`: what is known of its fields."""
    return origin.cors(request, origins_of_process())
