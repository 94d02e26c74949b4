"""What waits for the answer to its request: a file that was published stays only if that is none
of an error, whoever makes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Step = Callable[[], Awaitable[object]]


class Verdict:
    """Of one request. Given once, by whoever sees its answer leave; what comes later follows it."""

    __slots__ = ("_waiting", "kept")

    def __init__(self) -> None:
        self.kept: bool | None = None
        """None until it is given."""
        self._waiting: list[tuple[Step, Step]] = []

    async def give(self, kept: bool) -> None:
        """The first time it is called it decides. Nothing waits any more when this returns."""
        if self.kept is None:
            self.kept = kept
        while self._waiting:
            keep, undo = self._waiting.pop(0)
            await (keep if self.kept else undo)()

    async def add(self, keep: Step, undo: Step) -> tuple[Step, Step]:
        """`keep` or `undo` is called, once, when it is given; now, when it has been."""
        pending = keep, undo
        self._waiting.append(pending)
        if self.kept is not None:
            await self.give(self.kept)
        return pending

    async def withdraw(self, pending: tuple[Step, Step]) -> None:
        """That one is not wanted, whatever the answer will be; too late once it was given."""
        if pending in self._waiting:
            self._waiting.remove(pending)
            await pending[1]()


@contextlib.asynccontextmanager
async def until_answered(verdict: Verdict | None, keep: Step, undo: Step) -> AsyncIterator[None]:
    """Runs `undo` when the block raises, before the answer has left, or the verdict says so; else
    `keep`, when that is given. Without a verdict the end of the block decides.
    """
    own = Verdict() if verdict is None else verdict
    pending = await own.add(keep, undo)
    try:
        yield
    except BaseException:
        await own.withdraw(pending)
        raise
    if verdict is None:
        await own.give(True)
