"""The drain: worker threads move a body from the socket to the store, past the event loop.

The transport is paused. The event loop only waits until a duplicate of the socket is readable;
then a worker thread reads and writes in turn with a buffer of its own until the socket is
empty, the body ends, or its turn is over. A thread holds its buffer only during a turn, and never
while it waits for the network. So memory is threads times one buffer, whatever the number of
uploads, and no buffer is used by two uploads at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Protocol

from forebay.errors import IncompleteBody, UploadError, from_os_error

if TYPE_CHECKING:
    from forebay.engine.transfer.pump import BodyWriter, Late
    from forebay.engine.transfer.workers import Workers
    from forebay.http.framing import Framing

TURN = 16 << 20
"""Most bytes that an upload takes before another gets the thread."""
CROWDED_TURN = 8 << 20
"""The same, while others wait."""
TURN_WORK = 16 << 10
"""Most work of decoding and parsing in a turn, in units of `Framing.work`: about 5 ms."""
CROWDED_SECONDS = 0.25
"""Longest turn while others wait, as on a slow disk; checked between two reads."""
LINGER_MS = 4
"""How long a thread without other work waits for more bytes before it returns to the loop."""
CROWDED_LINGER_MS = 1
"""The same, while others wait."""
SMALL_TURN = 1 << 10
"""Bytes. A turn that brought no more than this is small."""
SMALL_TURNS = 32
"""Small turns in a row after which the next ones are delayed, each a little longer than the one
before: the way to a thread and back is too much work for a few bytes.
"""
SMALL_WAITS = 16
"""How often a thread waits in a turn for a client that sends less than `FAST_FROM`."""
SMALL_TURN_DELAY = 0.005
"""Seconds that are added to the delay with each small turn."""
LONGEST_DELAY = 0.25
FAST_FROM = 256 << 10
"""Bytes. While others wait, a thread waits only for clients that sent this much in their turn: the
way over the loop and back costs as much as some hundred KiB.
"""


class Connection(Protocol):
    """What the drain needs of the connection; a `RequestBody`."""

    def begin_drain(self) -> None:
        """Sends 100 Continue if it is due, and stops reading."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes that were read along with the head."""
        ...

    def take_early(self) -> bytes:
        """Those bytes; the caller owns them."""
        ...

    def give_back(self, surplus: bytes) -> None:
        """Returns bytes that were read beyond the end of the body."""
        ...

    def duplicate(self) -> socket.socket:
        """The same connection under a descriptor of its own. Raises NoDescriptors,
        IncompleteBody.
        """
        ...


class SocketSource:
    """A `forebay.engine.transfer.pump.Source` fed by the socket itself."""

    def __init__(
        self, connection: Connection, framing: Framing, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._connection = connection
        self._framing = framing
        self._loop = loop
        self._socket: socket.socket | None = None
        self._surplus = b""
        self._stopped: UploadError | None = None
        self._readable: asyncio.Future[None] | None = None
        self._began = False
        self._working = False
        self._close_wanted = False
        self._small_turns = 0
        self.waiting_since: float | None = None
        self.late: Late | None = None

    @property
    def length(self) -> int | None:
        return self._framing.length

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """All trailer fields of a chunked body that has ended."""
        return self._framing.trailers

    @property
    def arrived(self) -> bool:
        return self._connection.buffered > 0

    def take_whole(self) -> bytes | None:
        framing = self._framing
        if self._began or framing.remaining is None:
            return None
        early = self._connection.take_early()
        size = framing.remaining
        if len(early) < size:
            self._connection.give_back(early)
            return None
        body = early[:size]
        framing.decode(memoryview(body), _ignore)
        if len(early) > size:
            self._connection.give_back(early[size:])
        return body

    async def turn(self, writer: BodyWriter, workers: Workers) -> bool:
        if self._stopped is not None:
            raise self._stopped
        if not self._began:
            self._began = True
            self._connection.begin_drain()
        early = self._connection.take_early()
        if not self._framing.done:
            if self._socket is None:
                self._socket = self._connection.duplicate()
            if not early:
                await self._wait_readable(self._socket)
        self._working = True
        before = writer.received
        try:
            costly = self._framing.costly or writer.costly
            async with workers.alone() if costly else contextlib.nullcontext():
                done = await workers.run(self._work, writer, early, workers, stop=self._halt)
        finally:
            self._working = False
            small = writer.received - before <= SMALL_TURN
            self._small_turns = self._small_turns + 1 if small else 0
            surplus, self._surplus = self._surplus, b""
            if self._close_wanted:
                self.close()
            elif surplus:
                self._connection.give_back(surplus)
        if self._stopped is not None and (self._close_wanted or not done):
            raise self._stopped
        return done

    async def _wait_readable(self, duplicate: socket.socket) -> None:
        loop = self._loop
        self._readable = loop.create_future()
        self.waiting_since = loop.time()
        watch = functools.partial(loop.add_reader, duplicate.fileno(), _set, self._readable)
        later = None
        if self._small_turns > SMALL_TURNS:
            delay = SMALL_TURN_DELAY * (self._small_turns - SMALL_TURNS)
            later = loop.call_later(min(delay, LONGEST_DELAY), watch)
        else:
            watch()
        try:
            await self._readable
        finally:
            if later is not None:
                later.cancel()
            loop.remove_reader(duplicate.fileno())
            self._readable = None
            self.waiting_since = None
            if self._close_wanted:
                self.close()

    def _work(self, writer: BodyWriter, early: bytes, workers: Workers) -> bool:
        """In a thread: one turn."""
        framing = self._framing
        if early:
            some = early[: writer.portion(len(early))]
            used = framing.decode(memoryview(some), writer.feed)
            if used < len(early):
                self._surplus = early[used:]
                return framing.done
            # More is coming, or is here: to go on is quicker than the way over the loop.
        source = self._socket
        if framing.done or source is None:
            return framing.done
        with contextlib.ExitStack() as lent:
            buffers = [lent.enter_context(workers.buffer()) for _ in range(1 + writer.hashes)]
            lent.callback(writer.wait_hashed)  # before the buffers are returned
            self._take_turn(source, writer, workers, buffers)
        return framing.done

    def _take_turn(
        self, source: socket.socket, writer: BodyWriter, workers: Workers, buffers: list[bytearray]
    ) -> None:
        framing = self._framing
        hashes = writer.hashes

        def feed(data: memoryview) -> None:
            writer.feed(data, workers if hashes else None)

        taken = 0
        most = framing.work + writer.work + TURN_WORK
        until = time.monotonic() + CROWDED_SECONDS
        patience: select.poll | None = None
        waits = 0
        while not framing.done and self._stopped is None:
            if taken >= CROWDED_TURN and (taken >= TURN or workers.crowded):
                return
            if framing.work + writer.work >= most or (
                time.monotonic() >= until and workers.crowded
            ):
                return
            buffer = buffers[0]
            portion = writer.portion(len(buffer))
            if not portion:  # the sink is full
                return
            try:
                got = source.recv_into(buffer, framing.room(portion))
            except BlockingIOError:
                crowded = workers.crowded
                waits += 1
                if taken < FAST_FROM and (crowded or waits > SMALL_WAITS):
                    return
                if patience is None:
                    patience = select.poll()
                    patience.register(source, select.POLLIN)
                if not patience.poll(CROWDED_LINGER_MS if crowded else LINGER_MS):
                    return
                continue
            except OSError as error:
                raise IncompleteBody(f"The connection broke: {error.strerror}.") from error
            if not got:
                raise IncompleteBody
            taken += got
            view = memoryview(buffer)
            before = writer.received
            used = framing.decode(view[:got], feed)
            if used < got:
                self._surplus = bytes(view[used:got])
            # Of two buffers, this one is hashed while the other is filled. If only the framing of
            # chunks has come, the other one may still be hashed.
            if writer.received != before:
                buffers.reverse()

    def stop(self, error: UploadError) -> None:
        if self._stopped is None:
            self._stopped = error
        if self._readable is not None and not self._readable.done():
            self._readable.set_exception(self._stopped)

    def _halt(self) -> None:
        """The task was cancelled during a turn."""
        self.stop(IncompleteBody("The request was cancelled."))

    @property
    def began(self) -> bool:
        return self._began

    @property
    def broken_off(self) -> bool:
        """It has begun and not ended: the next bytes of the connection are not a request."""
        return self._began and not self._framing.done

    def close(self) -> None:
        """Ends the drain: nothing is read after it, since the next bytes may be another request.

        While a worker reads, or the loop waits, the descriptor stays open until that is over:
        its number must not be given to another connection meanwhile.
        """
        if self._readable is not None or self._working:
            self._close_wanted = True
            self.stop(IncompleteBody("The request has ended."))
            return
        # Replaces an error that was raised: its traceback refers to this object, a cycle.
        self._stopped = IncompleteBody("The request has ended.")
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def duplicate_socket(original: socket.socket) -> socket.socket:
    """The same connection under another descriptor, non-blocking as the first.

    Raises NoDescriptors; IncompleteBody when the connection is closed.
    """
    try:
        fd = os.dup(original.fileno())
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise from_os_error(error) from error
        raise IncompleteBody(f"The connection broke: {error.strerror}.") from error
    try:
        duplicate = socket.socket(original.family, original.type, original.proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    duplicate.setblocking(False)
    return duplicate


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _ignore(_: memoryview) -> None:
    return None
