"""The verdict on what a request published: it stays if the final answer is a success.

On our own server the request cycle sees that answer: no middleware is outside of it. On other
servers `VerdictMiddleware` does, as far outside as the application allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from forebay.engine.bodies.verdict import Verdict
from forebay.http import scope_keys
from forebay.http.answers import Message, Receive, Send
from forebay.http.bypass import cycle_of, sends_directly

Application = Callable[[Any, Any, Any], Awaitable[None]]


def verdict_of(scope: dict[str, Any]) -> Verdict | None:
    """The verdict on this request; None where nothing sees its final answer."""
    cycle = cycle_of(scope)
    found: Verdict | None = scope.get(scope_keys.VERDICT) if cycle is None else cycle.verdict()
    return found


def set_verdict(scope: dict[str, Any], send: Send) -> None:
    """Puts the verdict in the scope if middleware stands between that could change the answer.
    Otherwise our own answer is final.
    """
    cycle = cycle_of(scope)
    if cycle is not None and not sends_directly(cycle, send):
        scope[scope_keys.VERDICT] = cycle.verdict()


def is_success(status: int) -> bool:
    """Whether a published file stays when the answer has this status."""
    return 0 < status < 400


class VerdictMiddleware:
    """Gives the verdict when an application answers. It holds the head of an answer until its
    content comes, so that a file is taken back before the client gets an error.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or cycle_of(scope) is not None or scope_keys.VERDICT in scope:
            await self.app(scope, receive, send)
            return
        verdict = Verdict()
        head: Message | None = None
        status = 0

        async def watch(message: Message) -> None:
            nonlocal head, status
            if message["type"] == "http.response.start" and not status:
                head, status = message, message["status"]
                return
            if head is not None:
                held, head = head, None
                await verdict.give(is_success(status))
                await send(held)
            await send(message)

        try:
            await self.app(scope | {scope_keys.VERDICT: verdict}, receive, watch)
        finally:
            await verdict.give(status != 0 and head is None and is_success(status))


def add_verdict(app: Any) -> None:
    """Puts `VerdictMiddleware` outside of all middleware of Starlette, FastAPI or Litestar."""
    for name in ("middleware_stack", "asgi_handler"):
        found = getattr(app, name, None)
        if found is not None:
            if not isinstance(found, VerdictMiddleware):
                setattr(app, name, VerdictMiddleware(found))
            return
    build = getattr(app, "build_middleware_stack", None)
    if callable(build):  # the stack is built with the first request
        app.build_middleware_stack = lambda: _once(build())


def _once(app: Any) -> VerdictMiddleware:
    return app if isinstance(app, VerdictMiddleware) else VerdictMiddleware(app)
