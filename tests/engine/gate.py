"""Holding a call in the middle, so that a test decides what happens meanwhile."""

from __future__ import annotations

import asyncio
import threading


class Gate:
    """A thread waits in the middle of a call until the test lets it go on."""

    def __init__(self) -> None:
        self._here, self._go_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        self._here.set()
        assert self._go_on.wait(30)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._here.wait, 30)

    def open(self) -> None:
        self._go_on.set()
