"""Published files that stay only if the answer to their request is not an error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from forebay.engine.outbox.pending import PendingNotification

Notifications = Sequence[PendingNotification]


class Verdict:
    """The verdict on the files of one request. It is given once, when the answer is sent."""

    __slots__ = ("_waiting", "accepted")

    def __init__(self) -> None:
        self.accepted: bool | None = None
        """Whether the files stay; None until the verdict is given."""
        self._waiting: list[Notifications] = []

    async def give(self, accepted: bool) -> None:
        """Gives the verdict; only the first call does. When this returns nothing waits for it."""
        if self.accepted is None:
            self.accepted = accepted
        while self._waiting:
            await _decide(self._waiting.pop(0), self.accepted)

    async def add(self, published: Notifications) -> None:
        """These files wait for the verdict, or follow it now when it was given."""
        self._waiting.append(published)
        if self.accepted is not None:
            await self.give(self.accepted)

    async def withdraw(self, published: Notifications) -> None:
        """Takes these files back without waiting for the verdict, unless it was given."""
        if published in self._waiting:
            self._waiting.remove(published)
            await _decide(published, False)


async def _decide(published: Notifications, accepted: bool) -> None:
    for notification in published:
        await (notification.notify() if accepted else notification.take_back())


@contextlib.asynccontextmanager
async def until_answered(verdict: Verdict | None, published: Notifications) -> AsyncIterator[None]:
    """Takes files back when the block raises before the answer is sent, or when the verdict is
    negative. Otherwise their callbacks are called when it is given. Without a verdict the end of
    the block decides.
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
