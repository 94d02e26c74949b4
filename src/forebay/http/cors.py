"""Adds CORS to every answer; no other module does.

Each answer passes here once: of all routes of `forebay serve`, of the mounted applications of the
library and of its steps for own routes, and of a connection before there is a request.
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
"""Checks every answer, and raises an exception for a wrong one. The tests set this; in production,
an application is responsible for its own fields.
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
    """An answer that clients may read in different ways. Only raised with `CHECKED`."""


class CorsSend:
    """`send` for the answer to one request: adds CORS, and one `Vary`.

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
            found = with_cors(status, given, self._request, self._allow_origins)
            if CHECKED:
                _check_names(found)
            message = {**message, "headers": found}
        await self.send(message)


def with_cors(
    status: int, fields: Iterable[Field], request: Headers, allow_origins: Collection[str]
) -> Headers:
    """The fields of an answer as they are sent."""
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
    """Raises WrongAnswer for a field of ours that pages should read and cannot."""
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


# --- answers of a connection itself --------------------------------------------------------------

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def add_origins_of(engine: Engine) -> None:
    """Counts the origins that `engine` allows among those of this process."""
    _engines.add(engine)


def origins_of_process() -> frozenset[str]:
    """The origins that any application in this process allows.

    Used for heads that are malformed, too long or late: they belong to no application, and their
    refusals reveal nothing of one.
    """
    if not _engines:
        return frozenset()
    return frozenset(name for engine in _engines for name in engine.settings.allow_origin)


def cors_of_connection(request: Headers) -> Headers:
    """CORS for an answer that no application makes. `request`: the known fields of the request."""
    return origin.cors(request, origins_of_process())
