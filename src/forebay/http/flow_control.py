"""Flow control of what is sent to one client: waiting for it, and a timeout."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable


def unacknowledged(fd: int) -> int:
    """Bytes that the kernel holds for the peer; 0 where that is not known.

    A socket is writable again only when a third of its buffer is free. So a slow client may read
    for minutes before more can be written; this number shows that it reads.
    """
    if fd < 0:
        return 0
    try:
        held = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", held)[0])


class FlowControl:
    """The writing side of a connection: back-pressure, and a timeout.

    Args:
        patience: seconds in which the client may read nothing of what is sent; 0: no limit.
    """

    __slots__ = ("_loop", "_patience", "_seen", "_timer", "_transport", "_writable", "paused")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        patience: Callable[[], float],
    ) -> None:
        self.paused = False
        self._loop = loop
        self._transport = transport
        self._patience = patience
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0

    def pause(self) -> None:
        """The transport's buffer is full."""
        self.paused = True
        self._watch()

    def resume(self) -> None:
        """The transport's buffer has room again."""
        self.paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def writable(self) -> None:
        """Waits until the client has read enough of what was written."""
        while self.paused:
            if self._writable is None or self._writable.done():
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)

    async def empty(self) -> None:
        """Waits until the kernel has all that was written, so that a thread may write."""
        if not self._transport.get_write_buffer_size():
            return
        self._transport.set_write_buffer_limits(0)
        await self.writable()
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()

    def finish(self) -> None:
        """Closes the transport once all is sent, or when the client reads nothing for too long."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._watch()

    def lost(self) -> None:
        """The connection is gone."""
        self.resume()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        patience = self._patience()
        if self._timer is None and patience:
            self._seen = self._backlog()
            self._timer = self._loop.call_later(patience, self._look)

    def _look(self) -> None:
        self._timer = None
        if not (self.paused or self._transport.is_closing()):
            return
        if self._backlog() == self._seen:
            self._transport.abort()
        else:
            self._watch()

    def _backlog(self) -> int:
        socket = self._transport.get_extra_info("socket")
        held = unacknowledged(socket.fileno()) if socket is not None else 0
        return self._transport.get_write_buffer_size() + held
