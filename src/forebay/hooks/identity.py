"""What an `authorise` callback may return, and which client that means."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from uuid import UUID

from forebay.errors import Forbidden, HookFailed
from forebay.model import Principal

logger = logging.getLogger("forebay")

_EXPECTED = (
    "Return a Principal, an id (text, an int or a UUID), Principal.anonymous or True for "
    "a client without a name, or False to refuse."
)


def principal_of(answer: object) -> Principal:
    """The client that the answer of `authorise` means. Ids are compared as text: 7 and "7" are one
    client.

    Raises Forbidden for False, and HookFailed for anything that is not clearly a yes.
    """
    if answer is False:
        raise Forbidden
    if answer is True:
        return Principal.anonymous
    if isinstance(answer, Principal):
        # One that was made without an id has an id that compares equal to "".
        return answer if answer.id == "" else Principal(_id_of(answer.id, answer))
    return Principal(_id_of(answer, answer))


def _id_of(value: object, answer: object) -> str:
    text: str | None = None
    if isinstance(value, str):
        text = str.__str__(value)  # for an enumeration, too, whose own `str` is its member's name
    elif isinstance(value, UUID):
        text = str(value)
    elif isinstance(value, int) and not isinstance(value, bool | HTTPStatus):
        text = str(int(value))
    if text is None or not text.strip() or not _storable(text):
        raise refused("authorise", answer, _EXPECTED)
    return text


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def refused(hook: str, answer: Any, expected: str) -> HookFailed:
    """The error for an answer that is not clearly a yes; logs the answer."""
    if hasattr(answer, "close") and hasattr(answer, "cr_frame"):
        answer.close()  # a coroutine that a coroutine returned: it is never awaited
    shown = repr(answer)
    shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
    logger.error("%s returned %s: refused, nothing is stored. %s", hook, shown, expected)
    return HookFailed()
