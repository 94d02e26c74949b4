"""What stands between an application and our own server: nothing, or what is known to be harmless.

The quick ways from the socket to a file and back go past `receive` and `send`. They are for
applications that were given the server's own two, or ones that lead to them through nothing
but wrappers named here, which pass on all but the head of a response as it is. Whatever else
there is, known or not, may count, limit or change what goes through it: it gets all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from forebay.http import scope_keys
from forebay.http.answers import Message, Receive
from forebay.http.cors import CorsSend

_DEEPEST = 50

_SENDERS = {
    ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
    (
        "starlette._exception_handler",
        "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender",
    ),
    ("starlette.middleware.cors", "CORSMiddleware.send"),
    ("starlette.middleware.sessions", "SessionMiddleware.__call__.<locals>.send_wrapper"),
    (
        "litestar.middleware._internal.exceptions.middleware",
        "ExceptionHandlerMiddleware.__call__.<locals>.capture_response_started",
    ),
    (
        "litestar.middleware._internal.cors",
        "CORSMiddleware.send_wrapper.<locals>.wrapped_send",
    ),
}
_RECEIVE_OF_DISPATCH = (
    "starlette.middleware.base",
    "BaseHTTPMiddleware.__call__.<locals>.call_next.<locals>.receive_or_disconnect",
)
_CACHED_RECEIVE = ("starlette.middleware.base", "_CachedRequest.wrapped_receive")


class WatchedReceive:
    """`receive` for one request, which remembers what was raised behind it: a limit of middleware,
    say, that answers for itself when its error comes back to it.
    """

    __slots__ = ("raised", "receive")

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.raised: Exception | None = None

    async def __call__(self) -> Message:
        try:
            return await self.receive()
        except Exception as error:
            self.raised = error
            raise


def cycle_of(scope: dict[str, Any]) -> Any:
    """The request as our own server has it (`forebay.http.request_cycle.Exchange`), else None."""
    return (scope.get("extensions") or {}).get(scope_keys.CYCLE)


def receives_directly(cycle: Any, receive: Callable[..., Any]) -> bool:
    """Whether what `receive` gives is just what the server has."""
    return _leads_to(cycle.receive, receive, _behind_receive)


def sends_directly(cycle: Any, send: Callable[..., Any]) -> bool:
    """Whether what is given to `send` after the head of a response is just what leaves."""
    return _leads_to(cycle.send, send, _behind_send)


def was_read(receive: Callable[..., Any]) -> bool:
    """Whether middleware is known to have read the body, and gives nothing of it any more."""
    if isinstance(receive, WatchedReceive):
        receive = receive.receive
    found = _inner(receive, "wrapped_receive") if _is(receive, _RECEIVE_OF_DISPATCH) else None
    request = getattr(found, "__self__", None)
    return getattr(request, "_stream_consumed", False) and not hasattr(request, "_body")


def _leads_to(
    own: Callable[..., Any],
    given: Callable[..., Any],
    behind: Callable[[Any], Any],
) -> bool:
    found: Any = given
    for _ in range(_DEEPEST):
        if isinstance(found, MethodType) and found == own:
            return True
        found = behind(found)
        if found is None:
            return False
    return False


def _behind_send(send: Any) -> Any:
    if isinstance(send, CorsSend):
        return send.send
    function = send.func if isinstance(send, functools.partial) else send
    return _inner(send, "send") if (_name_of(function) in _SENDERS) else None


def _behind_receive(receive: Any) -> Any:
    if isinstance(receive, WatchedReceive):
        return receive.receive
    if _is(receive, _RECEIVE_OF_DISPATCH):
        return _inner(receive, "wrapped_receive")
    if not _is(receive, _CACHED_RECEIVE):
        return None
    # It gives what a dispatch function has read, if that did; else what it gets.
    request = receive.__self__
    touched = ("_stream_consumed", "_wrapped_rcv_consumed", "_wrapped_rcv_disconnected")
    if hasattr(request, "_body") or any(getattr(request, name, True) for name in touched):
        return None
    return getattr(request, "_receive", None)


def _is(function: Any, name: tuple[str, str]) -> bool:
    return _name_of(function) == name


def _name_of(function: Any) -> tuple[str, str]:
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", "")


def _inner(function: Any, name: str) -> Any:
    """What a wrapper calls `name`: an argument that is bound, or a variable that it closes over."""
    if isinstance(function, functools.partial):
        return function.keywords.get(name)
    if not isinstance(function, FunctionType):
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    try:
        return cells[name].cell_contents
    except (KeyError, ValueError):  # ValueError: not filled yet
        return None
