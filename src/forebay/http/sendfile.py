"""A file to the socket by `sendfile`, in a worker thread, in bounded turns.

The counterpart of the drain: no content passes through Python, and no thread waits for a slow
client. `loop.sendfile` is not used, since uvloop has none.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from forebay.http.drain import CROWDED_TURN, LINGER_MS, TURN
from forebay.http.flow_control import unacknowledged

PIECE = 4 << 20


class Runner(Protocol):
    """What runs the turns; `forebay.engine.transfer.workers.Workers` is one."""

    @property
    def crowded(self) -> bool: ...

    def run(
        self, call: Callable[..., Any], *args: Any, stop: Callable[[], object] | None = None
    ) -> Awaitable[Any]: ...


class ThreadRunner:
    """For applications without worker threads of ours."""

    crowded = False

    async def run(
        self, call: Callable[..., Any], *args: Any, stop: Callable[[], object] | None = None
    ) -> Any:
        task = asyncio.ensure_future(asyncio.to_thread(call, *args))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            await asyncio.wait([task])
            raise


class FileSender:
    """Sends `head`, then `count` bytes of `fd` from `offset`; nothing else writes to the socket.

    Raises OSError when the client is gone, TimeoutError when it read nothing for `patience`
    seconds, EOFError when the file has become shorter.
    """

    def __init__(
        self, duplicate: socket.socket, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        self._socket = duplicate
        self._loop = loop
        self._patience = patience or None
        self._head = b""
        self._fd = -1
        self._offset = 0
        self._left = 0
        self._stopped = False

    async def send(self, head: bytes, fd: int, offset: int, count: int, runner: Runner) -> None:
        self._head, self._fd, self._offset, self._left = head, fd, offset, count
        while self._head or self._left:
            blocked = await runner.run(self._turn, runner, stop=self._stop)
            if blocked:
                await self._wait_writable()

    def _stop(self) -> None:
        self._stopped = True

    def _turn(self, runner: Runner) -> bool:
        """In a thread: one turn; True when the socket takes no more for now."""
        taken = 0
        patience: select.poll | None = None
        while (self._head or self._left) and not self._stopped:
            if taken >= CROWDED_TURN and (taken >= TURN or runner.crowded):
                return False
            try:
                taken += self._send_some()
            except BlockingIOError:
                if runner.crowded:
                    return True
                if patience is None:
                    patience = select.poll()
                    patience.register(self._socket, select.POLLOUT)
                if not patience.poll(LINGER_MS):
                    return True
        return False

    def _send_some(self) -> int:
        if self._head:
            more = socket.MSG_MORE if self._left and hasattr(socket, "MSG_MORE") else 0
            sent = self._socket.send(self._head, more)
            self._head = self._head[sent:]
            return sent
        sent = os.sendfile(self._socket.fileno(), self._fd, self._offset, min(self._left, PIECE))
        if not sent:
            raise EOFError("the file became shorter while it was sent")
        self._offset += sent
        self._left -= sent
        return sent

    async def _wait_writable(self) -> None:
        writable = self._loop.create_future()
        fd = self._socket.fileno()
        self._loop.add_writer(fd, _set, writable)
        try:
            held = unacknowledged(fd)
            while not writable.done():
                try:
                    async with asyncio.timeout(self._patience):
                        await asyncio.shield(writable)
                except TimeoutError:
                    before, held = held, unacknowledged(fd)
                    if held == before:
                        raise
        finally:
            self._loop.remove_writer(fd)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
