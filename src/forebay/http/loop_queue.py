"""A queue of short pieces of work on the event loop: one in each round of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary


class LoopQueue:
    """Makes calls in the order in which they were added, one in each round of the event loop, so
    that nothing else on the loop waits for more than one of them.
    """

    _queues: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, LoopQueue]] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._calls: deque[Callable[[], object]] = deque()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopQueue:
        """The queue of this event loop."""
        queue = cls._queues.get(loop)
        if queue is None:
            queue = cls._queues[loop] = cls(loop)
        return queue

    def add(self, call: Callable[[], object]) -> None:
        """Makes this call in a later round of the loop."""
        if not self._calls:
            self._call_soon(self._next)
        self._calls.append(call)

    def _next(self) -> None:
        call = self._calls.popleft()
        if self._calls:
            self._call_soon(self._next)
        call()
