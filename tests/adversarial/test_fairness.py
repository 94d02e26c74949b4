"""Fast clients do not keep slow ones, nor small requests, from being served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from e2e.server import ServerProcess
from raw_http import AsyncRawClient, content, head

MiB = 1 << 20
FAST = 16
MOST = 96 * MiB


def test_sixteen_fast_uploads_starve_neither_a_small_request_nor_a_slow_upload(
    start_server: Callable[..., ServerProcess],
):
    """With two threads for all: whoever has one gives it back."""
    server = start_server("--durability", "relaxed", "--threads", "2")
    data = content(200)
    piece = b"%x\r\n" % (256 << 10) + content(256 << 10) + b"\r\n"

    async def main() -> list[str]:
        ended: list[str] = []
        sent = [0] * FAST
        enough = asyncio.Event()

        async def fast(number: int) -> None:
            async with AsyncRawClient(server.host, server.port) as client:
                await client.send(head("PUT", f"/files/{number}", "Transfer-Encoding: chunked"))
                while not enough.is_set():
                    if sent[number] < MOST:
                        await client.send(piece)
                        sent[number] += 256 << 10
                    else:
                        await asyncio.sleep(0.01)
                await client.send(b"0\r\n\r\n")
                assert (await client.response()).status == 201
                ended.append("fast")

        async def others() -> None:
            while min(sent) < MiB:
                await asyncio.sleep(0.01)
            for request in (
                head("GET", "/files/") + b"",
                head("PUT", "/files/small", length=200) + data,
            ):
                async with AsyncRawClient(server.host, server.port) as client:
                    await client.send(request)
                    assert (await client.response()).status in (200, 201)
                    ended.append("small")
            async with AsyncRawClient(server.host, server.port) as client:
                await client.send(head("PUT", "/files/slow", length=200))
                for at in range(200):
                    client.writer.write(data[at : at + 1])
                    await asyncio.sleep(0.001)
                assert (await client.response()).status == 201
                ended.append("slow")
            enough.set()

        await asyncio.gather(others(), *(fast(number) for number in range(FAST)))
        return ended

    assert asyncio.run(main()) == ["small", "small", "slow"] + ["fast"] * FAST
    assert len(server.published()) == FAST + 2
