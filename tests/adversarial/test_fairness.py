"""Fast clients do not keep slow ones, nor small requests, from being served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from e2e.server import ServerProcess
from raw_http import content, head

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
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(head("PUT", f"/files/{number}", "Transfer-Encoding: chunked"))
            while not enough.is_set():
                if sent[number] < MOST:
                    writer.write(piece)
                    await writer.drain()
                    sent[number] += 256 << 10
                else:
                    await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            assert b" 201 " in await reader.readline()
            ended.append("fast")
            writer.close()

        async def others() -> None:
            while min(sent) < MiB:
                await asyncio.sleep(0.01)
            for request in (
                head("GET", "/files/") + b"",
                head("PUT", "/files/small", length=200) + data,
            ):
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(request)
                assert b" 20" in await reader.readline()
                ended.append("small")
                writer.close()
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(head("PUT", "/files/slow", length=200))
            for at in range(200):
                writer.write(data[at : at + 1])
                await asyncio.sleep(0.001)
            assert b" 201 " in await reader.readline()
            ended.append("slow")
            writer.close()
            enough.set()

        await asyncio.gather(others(), *(fast(number) for number in range(FAST)))
        return ended

    assert asyncio.run(main()) == ["small", "small", "slow"] + ["fast"] * FAST
    assert len(server.published()) == FAST + 2
