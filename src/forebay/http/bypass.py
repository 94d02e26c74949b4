"""Whether the middleware between an application and our own server may be bypassed.

The fast ways from the socket to a file and back bypass `receive` and `send`. They are used only
when an application has the server's own two, or reaches them through wrappers that are named
here, which are known to change nothing but the head of a response. Any other wrapper may count,
limit or change the content, so it gets all of it.
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
    """`receive` for one request, which remembers an exception that it raised: a limit of
    middleware, for example, which answers when its own exception comes back to it.
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
    """The `RequestCycle` of a request on our own server, else None."""
    return (scope.get("extensions") or {}).get(scope_keys.CYCLE)


def receives_directly(cycle: Any, receive: Callable[..., Any]) -> bool:
    """Whether `receive` gives exactly what the server has."""
    return _leads_to(cycle.body.receive, receive, _behind_receive)


def sends_directly(cycle: Any, send: Callable[..., Any]) -> bool:
    """Whether what is given to `send` after the head of a response is sent unchanged."""
    return _leads_to(cycle.send, send, _behind_send)


def was_read(receive: Callable[..., Any]) -> bool:
    """Whether middleware is known to have read the body and not to pass it on."""
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
    # It passes on what it gets, unless a dispatch function has read the body.
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
    """The variable `name` of a wrapper: a bound argument, or a variable of its closure."""
    if isinstance(function, functools.partial):
        return function.keywords.get(name)
    if not isinstance(function, FunctionType):
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    try:
        return cells[name].cell_contents
    except (KeyError, ValueError):  # ValueError: not filled yet
        return None
