"""Clients whose every byte tells whose it is, with uploads, downloads and ends at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

from raw_http import AsyncRawClient, chunked, content, head, split

MiB = 1 << 20
ABORTS = ("close", "reset", "half-close")


class Client:
    """One connection after another, as long as `uploads` last.

    What it stored whole is in `stored`; what it broke off must never be seen.
    """

    def __init__(self, host: str, port: int, number: int, seed: int) -> None:
        self.address = (host, port)
        self.number = number
        self.choose = random.Random(f"{seed}/{number}")
        self.stored: dict[str, int] = {}
        self.broken: set[str] = set()
        self._sequence = 0

    def body(self, sequence: int, size: int) -> bytes:
        return content(size, self.number * 1000 + sequence)

    async def run(self, uploads: int) -> None:
        while self._sequence < uploads:
            async with AsyncRawClient(*self.address) as client:
                going = True
                while going and self._sequence < uploads:
                    self._sequence += 1
                    going = await self._one(client)

    async def _one(self, client: AsyncRawClient) -> bool:
        """An upload and perhaps a download; False when the connection was broken off."""
        choose = self.choose
        size = choose.choice(
            [0, 1, choose.randrange(20_000), choose.randrange(200_000), choose.randrange(4 * MiB)]
        )
        name = f"{self.number}-{self._sequence}"
        data = self.body(self._sequence, size)
        if choose.random() < 0.5:
            request = head("PUT", f"/files/{name}", length=size) + data
        else:
            pieces = split(data, [choose.randrange(1, 100_000) for _ in range(5)])
            request = head("PUT", f"/files/{name}", "Transfer-Encoding: chunked") + chunked(pieces)
        if size and choose.random() < 0.15:
            self.broken.add(name)
            await self._break_off(client, request[: choose.randrange(1, len(request))])
            return False
        await self._send(client, request)
        status = (await client.response()).status
        assert status == 201, (name, status)
        self.stored[name] = self._sequence
        if choose.random() < 0.5:
            return await self._download(client)
        return True

    async def _send(self, client: AsyncRawClient, request: bytes) -> None:
        for piece in split(request, [self.choose.randrange(1, 300_000) for _ in range(3)]):
            await client.send(piece)

    async def _break_off(self, client: AsyncRawClient, part: bytes) -> None:
        how = self.choose.choice(ABORTS)
        with contextlib.suppress(OSError):
            await self._send(client, part)
            if how == "half-close":
                client.half_close()
                await asyncio.sleep(0.05)
            elif how == "reset":
                client.reset()

    async def _download(self, client: AsyncRawClient) -> bool:
        name = self.choose.choice(sorted(self.stored))
        await client.send(head("GET", f"/files/{name}"))
        if self.choose.random() < 0.2:  # somebody who goes away in the middle
            await client.reader.read(self.choose.randrange(1, 5000))
            await self._break_off(client, b"")
            return False
        status, _, body = await client.response("GET")
        assert status == 200
        assert self.is_own(name, body), name
        return True

    def is_own(self, name: str, body: bytes) -> bool:
        return body == self.body(self.stored[name], len(body))


def clients(host: str, port: int, count: int, seed: int) -> Iterator[Client]:
    for number in range(count):
        yield Client(host, port, number, seed)
