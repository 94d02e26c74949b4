"""The drain on its own: a real socket, real threads, and a caller who misbehaves."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import random
import socket
import termios
import threading
from collections.abc import Iterator

import pytest

from adversarial.conftest import Run
from adversarial.inside import eventually
from forebay.engine.transfer.pump import BodyWriter, Hashing, pump
from forebay.engine.transfer.workers import Workers
from forebay.errors import IncompleteBody, MalformedBody, ShuttingDown, TooLarge
from forebay.http.drain import TURN, SocketSource, duplicate_socket
from forebay.http.framing import ChunkedFraming, Framing, LengthFraming
from raw_http import RESET, chunked, content, split

MiB = 1 << 20


class Memory:
    """A sink; `gate` holds a write up while it is not set."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()

    def write(self, data: memoryview, offset: int) -> None:
        assert offset == len(self.data)
        self.writing.set()
        assert self.gate.wait(20)
        self.data += data

    def reserve(self, size: int) -> None:
        return None


class Wire:
    """The connection's part in a drain: the socket, and what was read along with the head."""

    def __init__(self, end: socket.socket, early: bytes = b"") -> None:
        self.end = end
        self.buffer = early
        self.duplicates: list[socket.socket] = []

    def begin_drain(self) -> None:
        return None

    def take_early(self) -> bytes:
        early, self.buffer = self.buffer, b""
        return early

    def give_back(self, surplus: bytes) -> None:
        self.buffer = surplus + self.buffer

    def duplicate(self) -> socket.socket:
        self.duplicates.append(duplicate_socket(self.end))
        return self.duplicates[-1]


class Drain:
    """A body on its way from `peer` into `sink`."""

    def __init__(
        self,
        framing: Framing,
        *,
        early: bytes = b"",
        kind: socket.SocketKind = socket.SOCK_STREAM,
        threads: int = 2,
        hashing: Hashing | None = None,
        limit: int | None = None,
    ) -> None:
        own, self.peer = socket.socketpair(socket.AF_UNIX, kind)
        own.setblocking(False)
        self.own = own
        self.peer.settimeout(20)
        self.wire = Wire(own, early)
        self.sink = Memory()
        self.workers = Workers(threads)
        more = {} if hashing is None else {"hashing": hashing}
        self.writer = BodyWriter(self.sink, limit=limit, **more)
        self.source = SocketSource(self.wire, framing, asyncio.get_running_loop())

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(pump(self.source, self.writer, self.workers))

    def turn(self) -> asyncio.Task[bool]:
        return asyncio.create_task(self.source.turn(self.writer, self.workers))

    def close(self) -> None:
        self.sink.gate.set()
        self.source.close()
        self.workers.close()
        self.own.close()
        self.peer.close()
        for duplicate in self.wire.duplicates:
            assert duplicate.fileno() == -1


@contextlib.contextmanager
def draining(framing: Framing, **more: object) -> Iterator[Drain]:
    drain = Drain(framing, **more)  # type: ignore[arg-type]
    try:
        yield drain
    finally:
        drain.close()


def unread(end: socket.socket) -> int:
    held = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, held)
    return held[0]


def is_open(fd: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


def test_bodies_cut_anywhere_arrive_whole_and_what_follows_is_given_back(run: Run):
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)

    async def one() -> None:
        data = content(choose.choice([1, 70_000, 300_000]), choose.randrange(100))
        follows = choose.choice([b"", b"GET / HTTP/1.1\r\n"])
        if choose.random() < 0.5:
            pieces = split(data, [choose.randrange(1, 40_000) for _ in range(9)])
            framing: Framing = ChunkedFraming()
            sent = chunked(pieces) + follows
        else:
            framing, sent = LengthFraming(len(data)), data + follows
        early = sent[: choose.choice([0, 1, 100])]
        hashing = Hashing(["sha256"]) if choose.random() < 0.5 else None
        with draining(framing, early=early, hashing=hashing) as drain:
            task = drain.start()
            rest = sent[len(early) :]
            for piece in split(rest, [choose.randrange(1, 50_000) for _ in range(6)]):
                await asyncio.to_thread(drain.peer.sendall, piece)
                for _ in range(choose.randrange(3)):
                    await asyncio.sleep(0)
            await asyncio.wait_for(task, 20)
            assert drain.sink.data == data, seed
            left = drain.wire.take_early() + (drain.own.recv(100) if unread(drain.own) else b"")
            assert left == follows, seed
            if hashing is not None:
                digest = hashing.digests(["sha256"])[0].value
                assert digest == hashlib.sha256(data).digest(), seed

    async def main() -> None:
        for _ in range(40):
            await one()

    run(main())


class _Unhurried(Hashing):
    """Looks at what it is given only once the socket has been read empty."""

    def __init__(self) -> None:
        super().__init__(["sha256"])
        self.drain: Drain | None = None
        self._own = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        drain = self.drain
        assert drain is not None
        for _ in range(4000):
            if not unread(drain.own):
                break
            threading.Event().wait(0.005)
        self._own.update(data)

    def hexdigest(self) -> str:
        return self._own.hexdigest()


def test_a_buffer_is_not_filled_again_while_it_is_hashed_though_only_framing_came(run: Run):
    """The chunk's end arrives alone, and then the next chunk: two reads, one piece of content."""
    data = content(180_000)

    async def main() -> None:
        hashing = _Unhurried()
        # Each message is one read.
        kind = socket.SOCK_SEQPACKET
        with draining(ChunkedFraming(), kind=kind, hashing=hashing, threads=4) as drain:
            hashing.drain = drain
            drain.own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MiB)
            drain.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MiB)
            head = b"%x\r\n" % 90_000
            for message in (
                head + data[:90_000],
                b"\r\n",
                head + data[90_000:] + b"\r\n0\r\n\r\n",
            ):
                drain.peer.send(message)
            await asyncio.wait_for(drain.start(), 20)
            assert drain.sink.data == data
            assert hashing.hexdigest() == hashlib.sha256(data).hexdigest()

    run(main())


def test_a_stop_ends_the_body_between_two_reads(run: Run):
    async def main() -> None:
        with draining(LengthFraming(64 * MiB)) as drain:
            drain.sink.gate.clear()
            task = drain.start()
            drain.peer.sendall(content(50_000))
            await eventually(drain.sink.writing.is_set)
            stop = ShuttingDown()
            drain.source.stop(stop)
            drain.source.stop(IncompleteBody())  # the first word counts
            drain.peer.sendall(content(50_000, 1))
            assert not task.done()
            drain.sink.gate.set()
            with pytest.raises(ShuttingDown):
                await asyncio.wait_for(task, 20)
            assert drain.sink.data == content(50_000)  # what was read is kept
            assert unread(drain.own) == 50_000  # and nothing was read after the word
            with pytest.raises(ShuttingDown):
                await drain.turn()

    run(main())


def test_a_stop_that_comes_with_the_end_of_the_body_comes_too_late(run: Run):
    async def main() -> None:
        with draining(LengthFraming(50_000)) as drain:
            drain.sink.gate.clear()
            task = drain.start()
            drain.peer.sendall(content(50_000))
            await eventually(drain.sink.writing.is_set)
            drain.source.stop(ShuttingDown())
            drain.sink.gate.set()
            await asyncio.wait_for(task, 20)
            assert drain.sink.data == content(50_000)

    run(main())


def test_a_stop_wakes_who_waits_for_the_client(run: Run):
    async def main() -> None:
        with draining(LengthFraming(10)) as drain:
            task = drain.start()
            await eventually(lambda: drain.source.waiting_since is not None)
            drain.source.stop(ShuttingDown())
            with pytest.raises(ShuttingDown):
                await asyncio.wait_for(task, 20)
            assert drain.source.waiting_since is None

    run(main())


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_the_descriptor_stays_open_until_the_write_under_way_has_returned(run: Run, how: str):
    async def main() -> None:
        with draining(LengthFraming(MiB)) as drain:
            drain.sink.gate.clear()
            task = drain.start()
            drain.peer.sendall(content(50_000))
            await eventually(drain.sink.writing.is_set)
            fd = drain.wire.duplicates[0].fileno()
            if how == "cancel":
                task.cancel()
                await asyncio.sleep(0.01)
            drain.source.close()
            assert is_open(fd)
            assert not task.done()
            drain.sink.gate.set()
            with pytest.raises(asyncio.CancelledError if how == "cancel" else IncompleteBody):
                await asyncio.wait_for(task, 20)
            assert not is_open(fd)
            assert drain.sink.data == content(50_000)

    run(main())


def test_a_body_that_ends_after_the_request_did_is_not_whole(run: Run):
    """Others may have read from the connection since then, so there may be a hole in it."""

    async def main() -> None:
        with draining(LengthFraming(50_000)) as drain:
            drain.sink.gate.clear()
            task = drain.start()
            drain.peer.sendall(content(50_000))
            await eventually(drain.sink.writing.is_set)
            drain.source.close()
            drain.sink.gate.set()
            with pytest.raises(IncompleteBody):
                await asyncio.wait_for(task, 20)

    run(main())


def test_closing_while_the_loop_watches_leaves_nothing_registered(run: Run):
    """Its number would come to mean another connection, which could then not be watched."""

    async def main() -> None:
        for _ in range(3):
            with draining(LengthFraming(10)) as drain:
                task = drain.start()
                await eventually(lambda drain=drain: drain.source.waiting_since is not None)
                fd = drain.wire.duplicates[0].fileno()
                drain.source.close()
                with pytest.raises(IncompleteBody):
                    await asyncio.wait_for(task, 20)
                assert not is_open(fd)
                assert not asyncio.get_running_loop().remove_reader(fd)
            with draining(LengthFraming(10)) as other:
                task = other.start()
                await eventually(lambda other=other: other.source.waiting_since is not None)
                other.peer.sendall(bytes(10))
                await asyncio.wait_for(task, 20)

    run(main())


def test_nothing_is_taken_after_the_request_has_ended(run: Run):
    async def main() -> None:
        for begun in (False, True):
            with draining(LengthFraming(100)) as drain:
                if begun:
                    drain.peer.sendall(b"x")
                    assert await drain.turn() is False
                drain.source.close()
                drain.wire.buffer = b"GET "
                drain.peer.sendall(b"/ HTTP/1.1")
                with pytest.raises(IncompleteBody):
                    await drain.turn()
                assert drain.wire.buffer == b"GET "
                assert unread(drain.own) == 10

    run(main())


@pytest.mark.parametrize("framing", [ChunkedFraming, lambda: LengthFraming(9)])
@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_an_end_before_the_end_is_told_as_such(run: Run, end: str, framing: object):
    async def main() -> None:
        with draining(framing()) as drain:  # type: ignore[operator]
            task = drain.start()
            drain.peer.sendall(b"5\r\nabc")
            await eventually(lambda: drain.source.waiting_since is not None)
            if end == "half-close":
                drain.peer.shutdown(socket.SHUT_WR)
            elif end == "reset":
                drain.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if end != "half-close":
                drain.peer.close()
            with pytest.raises(IncompleteBody):
                await asyncio.wait_for(task, 20)
            assert drain.source.broken_off

    run(main())


def test_a_limit_and_a_malformed_chunk_end_it_and_keep_what_came_before(run: Run):
    async def main() -> None:
        with draining(ChunkedFraming(), limit=5) as drain:
            drain.peer.sendall(b"4\r\nabcd\r\n4\r\nefgh\r\n")
            with pytest.raises(TooLarge):
                await asyncio.wait_for(drain.start(), 20)
            assert drain.sink.data == b"abcde"
        with draining(ChunkedFraming()) as drain:
            drain.peer.sendall(b"4\r\nabcd\r\n!\r\n")
            with pytest.raises(MalformedBody):
                await asyncio.wait_for(drain.start(), 20)
            assert drain.sink.data == b"abcd"

    run(main())


def test_a_turn_is_bounded_and_others_come_in_between(run: Run):
    async def main() -> None:
        size = 3 * TURN
        with draining(LengthFraming(size), threads=1) as drain:
            sender = asyncio.create_task(asyncio.to_thread(drain.peer.sendall, bytes(size)))
            received, others = [0], 0
            while not await drain.turn():
                received.append(drain.writer.received)
                await drain.workers.run(int)
                others += 1
            await sender
            assert max(b - a for a, b in itertools.pairwise(received)) <= TURN + MiB
            assert others >= 2
            assert len(drain.sink.data) == size

    run(main())


def test_single_bytes_and_a_crowd_are_a_storm_of_turns_and_nothing_else(run: Run):
    async def main() -> None:
        data = content(400)
        with draining(LengthFraming(400), threads=1) as drain:
            task = drain.start()
            for at in range(400):
                await asyncio.to_thread(drain.peer.sendall, data[at : at + 1])
                if at % 3 == 0:
                    await drain.workers.run(int)
            await asyncio.wait_for(task, 20)
            assert drain.sink.data == data
            assert len(drain.wire.duplicates) == 1

    run(main())


def test_a_store_that_fails_ends_it_with_its_own_error(run: Run):
    class Broken(Memory):
        def write(self, data: memoryview, offset: int) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        hashing = Hashing(["sha256"])
        with draining(LengthFraming(MiB), hashing=hashing) as drain:
            drain.writer.sink = Broken()
            drain.peer.sendall(bytes(100_000))
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(drain.start(), 20)
            assert await drain.workers.run(int) == 0
            assert drain.workers._busy == 0

    run(main())
