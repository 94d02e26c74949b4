"""The worker-owned drain: a body goes from the socket to the store without the event loop.

The transport is paused. The loop only waits until a duplicate of the socket is readable;
then a worker thread reads and writes in turn with a buffer of its own until the socket is
empty, the body ends, or its turn is over. The buffer is held from readiness until the last
write returned, never while the network is waited for: memory is threads times one buffer,
however many uploads there are, and no buffer is ever used by two.
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
"""Most bytes an upload may take before others get the thread."""
CROWDED_TURN = 8 << 20
TURN_WORK = 16 << 10
"""Most work of decoding and taking apart in a turn, in units of `Framing.work`: some 5 ms."""
CROWDED_SECONDS = 0.25
"""Longest turn while others wait, as on a slow disk; looked at between two reads."""
LINGER_MS = 4
"""How long an otherwise idle thread waits for more, rather than hand back to the loop."""
CROWDED_LINGER_MS = 1
SMALL_TURN = 1 << 10
SMALL_TURNS = 32
"""Turns in a row that brought no more than that, after which the next ones are put off a little,
each more than the one before: a way to a thread and back is a lot of work for a few bytes.
"""
SMALL_WAITS = 16
"""How often a thread lingers for a client that brings less than `FAST_FROM` in its turn."""
SMALL_TURN_DELAY = 0.005
LONGEST_DELAY = 0.25
FAST_FROM = 256 << 10
"""While others wait, a thread lingers for those alone who brought this much in their turn: the
way over the loop and back costs as much as some hundred KiB.
"""


class Connection(Protocol):
    """What the drain needs of the protocol object that owns the connection."""

    def begin_drain(self) -> None:
        """Says 100 if that is due, and stops reading."""
        ...

    @property
    def buffered(self) -> int:
        """How many bytes were read along with the head."""
        ...

    def take_early(self) -> bytes:
        """Those bytes, which are the caller's from then on."""
        ...

    def give_back(self, surplus: bytes) -> None:
        """Bytes that were read beyond the end of the body."""
        ...

    def duplicate(self) -> socket.socket: ...


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
            # More is on its way, or here: to go on at once is quicker than a way over the loop.
        source = self._socket
        if framing.done or source is None:
            return framing.done
        with contextlib.ExitStack() as lent:
            buffers = [lent.enter_context(workers.buffer()) for _ in range(1 + writer.hashes)]
            lent.callback(writer.wait_hashed)  # before the buffers go back
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
            # With two, this one is hashed while the other is filled. Nothing but the framing of
            # chunks may have come: then the other one is still looked at.
            if writer.received != before:
                buffers.reverse()

    def stop(self, error: UploadError) -> None:
        if self._stopped is None:
            self._stopped = error
        if self._readable is not None and not self._readable.done():
            self._readable.set_exception(self._stopped)

    def _halt(self) -> None:
        """The task was cancelled while a worker was at it."""
        self.stop(IncompleteBody("The request was cancelled."))

    @property
    def began(self) -> bool:
        return self._began

    @property
    def broken_off(self) -> bool:
        """Begun and not ended: what follows on the connection is not a request."""
        return self._began and not self._framing.done

    def close(self) -> None:
        """Ends the drain: not a byte is taken after it, as what comes may be another request.

        While a worker reads, or the loop watches, the descriptor stays until that is over: its
        number must not come to mean another connection under their hands.
        """
        if self._readable is not None or self._working:
            self._close_wanted = True
            self.stop(IncompleteBody("The request has ended."))
            return
        # In the place of one that was raised, whose traceback leads back to here: no cycle stays.
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
