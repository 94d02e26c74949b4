"""Who sees the answer to a request leave, and so decides whether what it published stays.

On our own server that is the cycle: no middleware is outside of it. On others it is
`VerdictMiddleware`, as far out as an application lets us stand.
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
    """That on this request; None where nobody will see its answer leave."""
    cycle = cycle_of(scope)
    found: Verdict | None = scope.get(scope_keys.VERDICT) if cycle is None else cycle.judged()
    return found


def set_verdict(scope: dict[str, Any], send: Send) -> None:
    """Puts the verdict in the scope, but where nothing stands between that could change our own
    answer: then that is one.
    """
    cycle = cycle_of(scope)
    if cycle is not None and not sends_directly(cycle, send):
        scope[scope_keys.VERDICT] = cycle.judged()


def is_success(status: int) -> bool:
    """Whether what was published stays with an answer of that status."""
    return 0 < status < 400


class VerdictMiddleware:
    """An application, watched from outside. The head of its answer is held until its content
    comes, so that the file is gone before a client is told of an error.
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

        async def judged(message: Message) -> None:
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
            await self.app(scope | {scope_keys.VERDICT: verdict}, receive, judged)
        finally:
            await verdict.give(status != 0 and head is None and is_success(status))


def judge(app: Any) -> None:
    """Has an application of Starlette, FastAPI or Litestar watched, middleware and all."""
    for name in ("middleware_stack", "asgi_handler"):
        found = getattr(app, name, None)
        if found is not None:
            if not isinstance(found, VerdictMiddleware):
                setattr(app, name, VerdictMiddleware(found))
            return
    build = getattr(app, "build_middleware_stack", None)
    if callable(build):  # it is built with the first request
        app.build_middleware_stack = lambda: _once(build())


def _once(app: Any) -> VerdictMiddleware:
    return app if isinstance(app, VerdictMiddleware) else VerdictMiddleware(app)
