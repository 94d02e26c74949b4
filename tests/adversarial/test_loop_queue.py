"""What an attacker has computed for it is bounded a turn, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from adversarial.attack import ATTACKERS, others_are_served
from adversarial.conftest import Run
from adversarial.test_source import draining
from e2e.server import ServerProcess
from e2e.shells import PlainApplication
from forebay.http.drain import TURN_WORK
from forebay.http.framing import ChunkedFraming, LengthFraming
from forebay.http.loop_queue import LoopQueue
from raw_http import RawClient, content, head

MiB = 1 << 20
TINY = b"1\r\nx\r\n"
COSTLY = {
    "one byte each": TINY,
    "leading zeros": b"01\r\nx\r\n",
    "twenty bytes each": b"14\r\n" + b"x" * 20 + b"\r\n",
    "tiny and larger ones by turns": b"1\r\nx\r\n10\r\n" + b"x" * 16 + b"\r\n",
}


@pytest.mark.parametrize("unit", COSTLY.values(), ids=COSTLY)
def test_a_turn_ends_after_a_bounded_number_of_chunks(run: Run, unit: bytes):
    async def main() -> None:
        framing = ChunkedFraming()
        wire = unit * (MiB // 2 // len(unit))
        with draining(framing) as drain:
            sending = asyncio.create_task(
                asyncio.to_thread(drain.peer.sendall, wire + b"0\r\n\r\n")
            )
            turns = 0
            done = False
            while not done:
                before = framing.work
                done = await asyncio.wait_for(drain.turn(), 20)
                turns += 1
                # A turn is over with the read in which its work is done, and a read is small.
                assert framing.work - before < TURN_WORK + 4 * (128 << 10) / 6
            await sending
            assert framing.costly
            assert turns > 2
            assert set(drain.sink.data) == {ord("x")}

    run(main())


def test_bodies_that_are_costly_to_decode_are_decoded_one_at_a_time(run: Run):
    async def main() -> None:
        at_once: list[int] = []
        running = 0

        class Counting(ChunkedFraming):
            def decode(self, data: memoryview, feed: Callable[[memoryview], object]) -> int:
                nonlocal running
                if self.costly:
                    running += 1
                    at_once.append(running)
                try:
                    return super().decode(data, feed)
                finally:
                    if self.costly and at_once:
                        running = max(0, running - 1)

        with contextlib.ExitStack() as stack:
            drains = [stack.enter_context(draining(Counting(), threads=8)) for _ in range(4)]
            workers = drains[0].workers
            for drain in drains:
                drain.workers = workers
            sent = [
                asyncio.create_task(
                    asyncio.to_thread(drain.peer.sendall, TINY * 100_000 + b"0\r\n\r\n")
                )
                for drain in drains
            ]
            await asyncio.wait_for(asyncio.gather(*(drain.start() for drain in drains)), 60)
            await asyncio.gather(*sent)
            assert all(len(drain.sink.data) == 100_000 for drain in drains)
        assert max(at_once) == 1

    run(main())


def test_a_body_in_large_chunks_is_not_costly(run: Run):
    async def main() -> None:
        framing = ChunkedFraming()
        chunk = b"2000\r\n" + content(8192) + b"\r\n"
        with draining(framing) as drain:
            sending = asyncio.create_task(
                asyncio.to_thread(drain.peer.sendall, chunk * 200 + b"0\r\n\r\n")
            )
            await asyncio.wait_for(drain.start(), 20)
            await sending
            assert not framing.costly
            assert framing.room(MiB) == MiB

    run(main())


def test_single_bytes_are_waited_for_longer_and_longer_and_arrive_all_the_same(run: Run):
    async def main() -> None:
        with draining(LengthFraming(200)) as drain:
            turns = 0
            task = asyncio.create_task(drain.source.turn(drain.writer, drain.workers))
            for _ in range(200):
                await asyncio.to_thread(drain.peer.sendall, b"x")
                if task.done():
                    turns += 1
                    task = asyncio.create_task(drain.source.turn(drain.writer, drain.workers))
                await asyncio.sleep(0.005)  # longer than a thread waits for more
            while not await asyncio.wait_for(task, 20):
                task = asyncio.create_task(drain.source.turn(drain.writer, drain.workers))
            assert len(drain.sink.data) == 200
            assert turns < 150

    run(main())


def test_one_costly_piece_of_work_runs_in_each_round_of_the_loop():
    async def main() -> None:
        ended: list[str] = []
        turns = LoopQueue.of(asyncio.get_running_loop())
        for number in range(100):
            turns.add(lambda number=number: ended.append(f"work {number}"))
        for _ in range(3):
            await asyncio.sleep(0)
        ended.append("other")
        while len(ended) < 101:
            await asyncio.sleep(0)
        assert ended.index("other") <= 4
        assert [name for name in ended if name != "other"] == [f"work {n}" for n in range(100)]

    asyncio.run(main())


@pytest.mark.parametrize("unit", [TINY, COSTLY["leading zeros"]], ids=["tiny", "zeros"])
@pytest.mark.parametrize("loop", [False, True], ids=["in threads", "on the loop"])
def test_others_are_served_while_many_send_bodies_that_are_costly_to_decode(
    start_server: Callable[..., ServerProcess], store_folder: Path, unit: bytes, loop: bool
):
    """With two threads for all; or in `receive()` of an application that knows of nothing."""
    if loop:
        server: ServerProcess = PlainApplication(store_folder)
    else:
        server = start_server("--durability", "relaxed", "--threads", "2")
    heads = [
        head("PUT", f"/files/a{number}", "Transfer-Encoding: chunked")
        for number in range(ATTACKERS)
    ]
    try:
        others_are_served(server, heads, unit * (64_000 // len(unit)))
    finally:
        server.kill()


def test_empty_lines_without_end_before_a_request_are_refused(
    start_server: Callable[..., ServerProcess],
):
    server = start_server()
    with RawClient(server) as client:
        client.send(b"\r\n" * 20 + head("GET", "/healthz"))
        assert client.response()[0] == 200
        client.send(b"\r\n" * 5000)
        assert client.response()[0] == 400
