"""Thousands of connections with every kind of end leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import threading
from pathlib import Path

import pytest

from adversarial.conftest import Run
from adversarial.inside import Served, eventually, serving
from forebay.backends import make_store
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.http.app import ServerApp
from forebay.model import Durability
from raw_http import chunked, content, head

MiB = 1 << 20
ROUNDS = 4
EACH = 250
CHUNKED = "Transfer-Encoding: chunked"
DATA = content(300_000)

REQUESTS = [
    b"",
    b"\r\n\r\nGE",
    b"GET /\r\n\r\n",
    head("GET", "/healthz"),
    head("GET", "/files/big"),
    head("HEAD", "/files/big") + head("GET", "/files/"),
    head("GET", "/files/big", "Connection: close") + head("GET", "/files/big"),
    head("PUT", "/files/*", "Expect: 100-continue", length=10),
    head("PUT", "/files/*", length=10) + b"0123456789",
    head("PUT", "/files/*", length=10) + b"01234",
    head("PUT", "/files/*", length=len(DATA)) + DATA,
    head("PUT", "/files/*", length=len(DATA)) + DATA[:200_000],
    head("PUT", "/files/*", CHUNKED) + chunked([DATA]) + head("GET", "/files/*"),
    head("PUT", "/files/*", CHUNKED) + chunked([DATA])[:100_000],
    head("PUT", "/files/*", CHUNKED) + b"3\r\nabc\r\n!",
    head("PUT", "/files/*", "Repr-Digest: sha-256=:AAAA:", CHUNKED) + chunked([DATA]),
    head("PUT", "/files/big", length=len(DATA)) + DATA,  # taken: refused, and sent on
    head("PUT", "/files/big", length=1000) + DATA[:500],  # the rest is small
    head("PUT", "/files/*", length=10 * MiB) + DATA,  # too large
]


async def one(served: Served, choose: random.Random) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        request = choose.choice(REQUESTS).replace(b"*", b"%d" % choose.randrange(1 << 40))
        if choose.random() < 0.3:
            request = request[: choose.randrange(len(request) + 1)]
        how = choose.choice(["close", "reset", "half-close", "wait", "wait"])
        async with served.client() as client:
            try:
                client.writer.write(request)
                if choose.random() < 0.5:
                    await client.writer.drain()
                if how == "half-close":
                    client.half_close()
                    await client.reader.read(1000)
                elif how == "wait":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(client.reader.read(choose.randrange(1, 5000)), 0.05)
            finally:
                if how == "reset":
                    client.reset()


def held(engine: Engine, served: Served) -> dict[str, int]:
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "watched": len(engine.context.monitor),
        "admitted": engine.context.admission.running,
        "tallied": engine.context.admission._tally.total(),
        "in memory": engine.context.budget.used,
        "busy": engine.workers._busy,
        "connections": len(served.state.connections),
        "tasks": len(served.state.tasks),
        "protocols": len(served.alive),
    }


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_every_kind_of_end_leaves_nothing(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)  # nor does a record of it that somebody stores
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    threads = threading.active_count()
    settings = Settings(
        dir=str(tmp_path), durability=Durability.RELAXED, max_size=MiB, resumable=False
    )

    async def main() -> None:
        store = make_store(settings)
        engine = Engine(settings, store)
        app = ServerApp(engine, listening_on_loopback=True)
        async with serving(app) as served:
            put = head("PUT", "/files/big", "Connection: close", length=MiB) + bytes(MiB)
            assert b" 201 " in await served.ask(put)

            async def a_round() -> None:
                for _ in range(EACH // 25):
                    await asyncio.gather(*(one(served, choose) for _ in range(25)))
                assert await served.idle(), seed
                assert await eventually(lambda: engine.workers._busy == 0), seed
                # A timer or a thread may hold a connection for a moment after its end.
                assert await eventually(lambda: held(engine, served)["protocols"] == 0), seed

            await a_round()
            before, memory = held(engine, served), resident()
            for _ in range(ROUNDS):
                await a_round()
            assert held(engine, served) == before, seed
            assert before["watched"] == before["admitted"] == before["protocols"] == 0
            assert threading.active_count() <= threads + engine.workers.limit, seed
            buffers = (engine.workers.limit * 2) * engine.workers.buffer_size
            assert resident() - memory < buffers + 8 * MiB, seed
        engine.close()
        store.close()

    run(main())
