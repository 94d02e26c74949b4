"""Many clients that cost a server much, and a few that want to be served meanwhile."""

from __future__ import annotations

import asyncio

from e2e.server import ServerProcess
from raw_http import AsyncRawClient, content, head

ATTACKERS = 12
SIZE = 100_000


def others_are_served(server: ServerProcess, heads: list[bytes], wire: bytes) -> None:
    """While an attacker for each of `heads` sends `wire` again and again, behind that head."""
    asyncio.run(_attacked(server, heads, wire))


async def _attacked(server: ServerProcess, heads: list[bytes], wire: bytes) -> None:
    sent = [0] * len(heads)

    async def attack(number: int) -> None:
        async with AsyncRawClient(server.host, server.port) as client:
            try:
                await client.send(heads[number])
                while True:
                    await client.send(wire)
                    sent[number] += 1
                    await asyncio.sleep(0)
            finally:
                client.writer.transport.abort()

    async def others() -> None:
        while min(sent) < 3:
            await asyncio.sleep(0.01)
        for number in range(5):
            async with AsyncRawClient(server.host, server.port) as client:
                await client.send(head("PUT", f"/files/b{number}", length=SIZE) + content(SIZE))
                assert (await client.response()).status in (200, 201)

    attacks = [asyncio.create_task(attack(number)) for number in range(len(heads))]
    await asyncio.wait_for(others(), 60)
    assert not any(task.done() for task in attacks)
    for task in attacks:
        task.cancel()
    await asyncio.gather(*attacks, return_exceptions=True)
    await asyncio.sleep(0.05)  # until the connections are closed
