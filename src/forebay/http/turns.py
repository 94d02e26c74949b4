"""Turns on the event loop for what computes: one short piece of work in each round of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary


class Turns:
    """Calls what waits in the order in which it came, one in each round of the loop, however many
    wait: so everybody else's round is never longer than one of them.
    """

    _of: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Callable[[], object]] = deque()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Turns:
        turns = cls._of.get(loop)
        if turns is None:
            turns = cls._of[loop] = cls(loop)
        return turns

    def add(self, call: Callable[[], object]) -> None:
        if not self._waiting:
            self._call_soon(self._next)
        self._waiting.append(call)

    def _next(self) -> None:
        call = self._waiting.popleft()
        if self._waiting:
            self._call_soon(self._next)
        call()
