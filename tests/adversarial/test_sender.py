"""Files to sockets whose readers are slow, gone, or changing their minds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest

from adversarial.conftest import Run
from adversarial.inside import eventually
from forebay.engine.transfer.workers import Workers
from forebay.http.drain import duplicate_socket
from forebay.http.sendfile import FileSender, Runner, ThreadRunner
from raw_http import RESET, content

MiB = 1 << 20


@contextlib.contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection; the first is as a transport's, the second a client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        own, _ = listener.accept()
    own.setblocking(False)
    client.settimeout(20)
    with own, client:
        yield own, client


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def sender_on(own: socket.socket, patience: float = 20) -> tuple[FileSender, socket.socket]:
    duplicate = duplicate_socket(own)
    return FileSender(duplicate, asyncio.get_running_loop(), patience), duplicate


@pytest.mark.parametrize("runner", [Workers, ThreadRunner])
def test_head_and_part_of_a_file_arrive_whole(run: Run, runner: type[Runner]):
    data = content(5 * MiB)

    async def main() -> None:
        with connection() as (own, client), file_of(data) as fd:
            for start, size in ((0, 5 * MiB), (1000, 70_000), (7, 0)):
                sender, duplicate = sender_on(own)
                expected = b"head" + data[start : start + size]

                def read(size: int = len(expected)) -> bytes:
                    got = b""
                    while len(got) < size:
                        got += client.recv(size - len(got))
                    return got

                reading = asyncio.create_task(asyncio.to_thread(read))
                await asyncio.wait_for(sender.send(b"head", fd, start, size, runner()), 20)
                assert await reading == expected
                duplicate.close()

    run(main())


def test_a_file_that_became_shorter_is_told(run: Run):
    async def main() -> None:
        with connection() as (own, _), file_of(b"short") as fd:
            sender, duplicate = sender_on(own)
            with duplicate, pytest.raises(EOFError):
                await asyncio.wait_for(sender.send(b"", fd, 0, 6, ThreadRunner()), 20)

    run(main())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_reader_that_goes_away_ends_it(run: Run, end: str):
    async def main() -> None:
        with connection() as (own, client), file_of(bytes(32 * MiB)) as fd:
            sender, duplicate = sender_on(own)
            workers = Workers(1)
            task = asyncio.create_task(sender.send(b"", fd, 0, 32 * MiB, workers))
            await asyncio.to_thread(client.recv, 1000)
            if end == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            with duplicate, pytest.raises(OSError):
                await asyncio.wait_for(task, 20)
            workers.close()

    run(main())


def test_a_reader_that_takes_nothing_is_given_up(run: Run):
    async def main() -> None:
        with connection() as (own, _), file_of(bytes(32 * MiB)) as fd:
            sender, duplicate = sender_on(own, patience=0.2)
            with duplicate, pytest.raises(TimeoutError):
                await sender.send(b"", fd, 0, 32 * MiB, ThreadRunner())

    run(main())


def test_a_reader_that_takes_little_at_a_time_is_not_given_up(run: Run):
    """The kernel lets nobody write before a third of its buffer is free, which may take long."""
    size = 12 * MiB

    async def main() -> None:
        stop = threading.Event()

        def read(client: socket.socket) -> int:
            got = 0
            while got < size:
                # Slow until the sender has had to wait for several times its patience.
                stop.wait(0 if stop.is_set() else 0.1)
                got += len(client.recv(128 << 10))
            return got

        with connection() as (own, client), file_of(bytes(size)) as fd:
            sender, duplicate = sender_on(own, patience=0.5)
            reading = asyncio.create_task(asyncio.to_thread(read, client))
            asyncio.get_running_loop().call_later(2, stop.set)
            with duplicate:
                await sender.send(b"", fd, 0, size, ThreadRunner())
            assert await reading == size

    run(main())


def test_a_cancelled_sender_leaves_nothing_registered_and_no_thread_at_it(run: Run):
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)

    async def main() -> None:
        workers = Workers(2)
        loop = asyncio.get_running_loop()
        for _ in range(30):
            with connection() as (own, client), file_of(bytes(16 * MiB)) as fd:
                sender, duplicate = sender_on(own)
                task = asyncio.create_task(sender.send(b"head", fd, 0, 16 * MiB, workers))
                for _ in range(choose.randrange(6)):
                    await asyncio.sleep(choose.choice([0, 0, 0.002]))
                if choose.random() < 0.3:
                    await asyncio.to_thread(client.recv, MiB)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 20)
                number = duplicate.fileno()
                assert not loop.remove_writer(number), seed
                duplicate.close()
                with contextlib.suppress(OSError):
                    os.fstat(number)
                    raise AssertionError(seed)
        assert await eventually(lambda: workers._busy == 0)
        workers.close()

    run(main())
