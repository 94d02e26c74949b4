"""The body of one request on our own server: `receive` for the application, or a source that
drains the socket.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from forebay.errors import IncompleteBody, MalformedBody
from forebay.http.answers import Message
from forebay.http.drain import SocketSource
from forebay.http.framing import Framing
from forebay.http.loop_queue import LoopQueue

HIGH_WATER = 64 << 10
"""Bytes of a body in memory that its application has not asked for, before reading pauses."""
SMALL_REST = 64 << 10
"""Bytes. When no more than this is left of a refused body, it is read, and the connection stays."""


class Connection(Protocol):
    """What a request's body needs of its connection."""

    loop: asyncio.AbstractEventLoop
    can_drain: bool
    """There is a bare socket, without TLS."""

    @property
    def at_eof(self) -> bool:
        """The client sends no more; it may be gone."""
        ...

    def pause(self) -> None:
        """Stops reading."""
        ...

    def resume(self) -> None:
        """Reads on."""
        ...

    def write(self, data: bytes) -> None:
        """Sends these bytes, unless the connection is closing."""
        ...

    def duplicate(self) -> socket.socket:
        """The same connection under a descriptor of its own. Raises NoDescriptors,
        IncompleteBody.
        """
        ...

    def refuse_body(self, error: MalformedBody) -> None:
        """Answers the request with this error, and ends the connection."""
        ...


class RequestBody:
    """Also the `forebay.http.drain.Connection` of its drain.

    Args:
        buffer: what the connection has read beyond the head; shared with it.
        continue_due: the client waits for 100 Continue.
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_connection",
        "_delivered",
        "_event",
        "_finished",
        "_hungry",
        "_pieces",
        "_queued",
        "_source",
        "_waiting",
        "answered",
        "continue_due",
        "disconnected",
        "framing",
        "given",
    )

    def __init__(
        self, connection: Connection, framing: Framing, buffer: bytearray, *, continue_due: bool
    ) -> None:
        self.framing = framing
        self.continue_due = continue_due
        self.answered = False
        """The response has started: 100 Continue would come too late."""
        self.disconnected = False
        """The client is gone, or the body can never be whole."""
        self.given = False
        """`receive` has returned some of the body."""
        self._connection = connection
        self._buffer = buffer
        self._pieces: list[bytes] = []
        self._source: SocketSource | None = None
        self._hungry = False
        """`receive` waits for content."""
        self._queued = False
        self._asked = False
        self._waiting = 0
        self._delivered = False
        self._finished = False
        self._event: asyncio.Event | None = None

    # --- the connection --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Takes what the connection has read."""
        if self._hungry and not self._buffer and self.framing.take_all(len(data)):
            self._pieces.append(data)
            self._hungry = False
            self.wake()
            return
        self._buffer += data
        if self._hungry and not self.framing.done:
            self._feed()
        if len(self._buffer) > HIGH_WATER:
            self._connection.pause()

    def eof_received(self) -> None:
        """The client sends no more."""
        if self.framing.done:
            self.wake()  # an application that waits for the client to leave
        elif self._hungry and not self._buffer:
            self.disconnect()

    def disconnect(self) -> None:
        """The client is gone, or the body can never be whole."""
        self.disconnected = True
        if self._source is not None:
            self._source.stop(IncompleteBody())
        self.wake()

    def wake(self) -> None:
        """Lets `receive` look again at what it waits for."""
        if self._event is not None:
            self._event.set()

    def skip(self) -> bool:
        """Drops what has arrived of an unwanted body; whether that was its end."""
        framing, buffer = self.framing, self._buffer
        if not framing.done and buffer:
            data = bytes(buffer)
            buffer.clear()
            buffer += data[framing.decode(memoryview(data), _ignore) :]
        return framing.done

    @property
    def skippable(self) -> bool:
        """Whether the rest of the body is nothing, or small enough to be read and dropped."""
        remaining = self.framing.remaining
        if self.framing.done:
            return True
        if self.broken_off or self.continue_due or remaining is None:
            return False
        return remaining - len(self._buffer) <= SMALL_REST

    @property
    def broken_off(self) -> bool:
        """A drain has begun and not ended: the next bytes are not a request."""
        return self._source is not None and self._source.broken_off

    def finish(self) -> bool:
        """The response is complete: nothing is read any more. Whether a request may follow."""
        self._finished = True
        broken_off = self.broken_off  # by a task of the application that still reads
        if self._source is not None:
            self._source.close()
        self.wake()
        return not broken_off

    def release(self) -> None:
        """The application has returned. Drops the source, which refers back to this: no reference
        cycle stays.
        """
        self._finished = True
        if self._source is not None:
            self._source.close()
            self._source = None

    # --- `receive` -------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        self._asked = True
        while not (self.disconnected or self._finished):
            if self._pieces or (self.framing.done and not self._delivered):
                body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._delivered = self.framing.done
                self.given = self.given or bool(body)
                return {"type": "http.request", "body": body, "more_body": not self._delivered}
            if self._delivered and self._connection.at_eof:
                break  # a half-closed client looks the same as one that is gone; `send` still works
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            self._waiting += 1
            try:
                self._read_on()
                await self._event.wait()
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._hungry = False  # also when the wait was cancelled
        return {"type": "http.disconnect"}

    def _read_on(self) -> None:
        """Resumes reading: the rest of the body, or the end of the connection."""
        if self.framing.done:
            if len(self._buffer) <= HIGH_WATER:
                self._connection.resume()
        elif self._source is None or not self._source.began:
            # Only one of the two gets the body; the other gets an error and not a part.
            if self._source is not None:
                self._source.close()
            if not self.answered:
                self._send_continue()
            self._hungry = True
            self._feed()

    def _feed(self) -> None:
        """Decodes what has arrived: no more at a time than takes a moment, and what takes long
        in turn with other connections.
        """
        if not (self.framing.costly and self._buffer):
            self._feed_now()
        elif not self._queued:
            self._queued = True
            LoopQueue.of(self._connection.loop).add(self._feed_in_turn)

    def _feed_in_turn(self) -> None:
        self._queued = False
        if self._hungry and not self._finished:
            self._feed_now()

    def _feed_now(self) -> None:
        framing, buffer = self.framing, self._buffer
        if buffer:
            size = framing.slice(len(buffer))
            data = bytes(buffer) if size == len(buffer) else bytes(buffer[:size])
            del buffer[:size]
            try:
                used = framing.decode(memoryview(data), self._take)
            except MalformedBody as error:
                self.disconnect()
                self._connection.refuse_body(error)
                return
            buffer[:0] = data[used:]
            self._hungry = False
            self.wake()
        if framing.done:
            self.wake()
        elif self._connection.at_eof and not buffer:
            self.disconnect()
        if len(buffer) <= HIGH_WATER:
            self._connection.resume()

    def _take(self, data: memoryview) -> None:
        self._pieces.append(bytes(data))

    def _send_continue(self) -> None:
        if self.continue_due:
            self.continue_due = False
            if not self._buffer:
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- the drain -------------------------------------------------------------------------------

    def source(self) -> SocketSource | None:
        """A source that reads the socket itself. None without a bare socket, and once `receive`
        was used for a body that is not empty.
        """
        empty = self.framing.done and not (self.given or self._pieces)
        asked = self._asked and not empty
        if self._source is not None or asked or not self._connection.can_drain:
            return None
        self._source = SocketSource(self, self.framing, self._connection.loop)
        return self._source

    def begin_drain(self) -> None:
        """Sends 100 Continue if it is due, and stops reading."""
        self._send_continue()
        self._connection.pause()

    @property
    def buffered(self) -> int:
        """Bytes that were read along with the head."""
        return len(self._buffer)

    def take_early(self) -> bytes:
        """Those bytes; the caller owns them."""
        if not self._buffer:
            return b""
        early = bytes(self._buffer)
        self._buffer.clear()
        return early

    def give_back(self, surplus: bytes) -> None:
        """Returns bytes that were read beyond the end of the body."""
        self._buffer[:0] = surplus

    def duplicate(self) -> socket.socket:
        """The socket under a descriptor of its own."""
        return self._connection.duplicate()


def _ignore(_: memoryview) -> None:
    return None
