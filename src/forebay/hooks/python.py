"""Hooks that are Python callables, plain or async. Plain ones run in threads."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from forebay.errors import Forbidden
from forebay.hooks.base import Access, Arrival, Candidate, Completion
from forebay.model import Principal

ANYBODY = Principal()


class PythonHooks:
    """See `forebay.hooks.base.Hooks`. Callables may be added at any time.

    `authorise` may return a Principal, a string (its id), True or None for anybody;
    False refuses.
    """

    def __init__(self, authorise: Callable[[Access], Any] | None = None) -> None:
        self.authoriser = authorise
        self.verifiers: list[Callable[[Candidate], Any]] = []
        self.completers: list[Callable[[Completion], Any]] = []
        self.watchers: list[Callable[[Arrival], Any]] = []

    async def authorise(self, access: Access) -> Principal:
        if self.authoriser is None:
            return ANYBODY
        answer = await call(self.authoriser, access)
        if answer is False:
            raise Forbidden
        if isinstance(answer, Principal):
            return answer
        return Principal(answer) if isinstance(answer, str) else ANYBODY

    @property
    def verifies(self) -> bool:
        return bool(self.verifiers)

    async def verify(self, candidate: Candidate) -> None:
        for verifier in self.verifiers:
            await call(verifier, candidate)

    @property
    def completes(self) -> bool:
        return bool(self.completers)

    async def complete(self, completion: Completion) -> None:
        for completer in self.completers:
            await call(completer, completion)

    @property
    def progresses(self) -> bool:
        return bool(self.watchers)

    async def progress(self, arrival: Arrival) -> None:
        for watcher in self.watchers:
            await call(watcher, arrival)


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a hook where it may wait: async ones here, plain ones in a thread."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    ):
        return await function(*args)
    answer = await asyncio.to_thread(function, *args)
    return await answer if inspect.isawaitable(answer) else answer
