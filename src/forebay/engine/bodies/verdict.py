"""Files whose fate the answer to their request decides: they stay only if it is none of an error,
whatever makes it one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from forebay.engine.outbox.pending import PendingNotification

Notifications = Sequence[PendingNotification]


class Verdict:
    """Of one request. It is given once, when its answer leaves; what is added later follows it."""

    __slots__ = ("_waiting", "kept")

    def __init__(self) -> None:
        self.kept: bool | None = None
        """None until it is given."""
        self._waiting: list[Notifications] = []

    async def give(self, kept: bool) -> None:
        """The first call decides. When this returns nothing waits any more."""
        if self.kept is None:
            self.kept = kept
        while self._waiting:
            await _decide(self._waiting.pop(0), self.kept)

    async def add(self, published: Notifications) -> None:
        """Decides about these when it is given; now, when it has been."""
        self._waiting.append(published)
        if self.kept is not None:
            await self.give(self.kept)

    async def withdraw(self, published: Notifications) -> None:
        """Takes these back, whatever the answer will be; too late once it was given."""
        if published in self._waiting:
            self._waiting.remove(published)
            await _decide(published, False)


async def _decide(published: Notifications, kept: bool) -> None:
    for notification in published:
        await (notification.notify() if kept else notification.take_back())


@contextlib.asynccontextmanager
async def until_answered(verdict: Verdict | None, published: Notifications) -> AsyncIterator[None]:
    """Takes files back when the block raises, before the answer has left, or when the verdict says
    so; else their callbacks are called when that is given. Without a verdict the end of the block
    decides.
    """
    own = Verdict() if verdict is None else verdict
    await own.add(published)
    try:
        yield
    except BaseException:
        await own.withdraw(published)
        raise
    if verdict is None:
        await own.give(True)
