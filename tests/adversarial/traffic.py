"""Clients whose every byte tells whose it is, with uploads, downloads and ends at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator

from adversarial.inside import RST
from raw_http import chunked, content, head, split

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
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                going = True
                while going and self._sequence < uploads:
                    self._sequence += 1
                    going = await self._one(reader, writer)
            finally:
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
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
            await self._break_off(writer, request[: choose.randrange(1, len(request))])
            return False
        await self._send(writer, request)
        status, _ = await self._answer(reader)
        assert status == 201, (name, status)
        self.stored[name] = self._sequence
        if choose.random() < 0.5:
            return await self._download(reader, writer)
        return True

    async def _send(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        for piece in split(request, [self.choose.randrange(1, 300_000) for _ in range(3)]):
            writer.write(piece)
            await writer.drain()

    async def _break_off(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        how = self.choose.choice(ABORTS)
        with contextlib.suppress(OSError):
            await self._send(writer, part)
            if how == "half-close":
                writer.write_eof()
                await asyncio.sleep(0.05)
            elif how == "reset":
                end: socket.socket = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                writer.transport.abort()

    async def _download(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        name = self.choose.choice(sorted(self.stored))
        writer.write(head("GET", f"/files/{name}"))
        if self.choose.random() < 0.2:  # somebody who goes away in the middle
            await reader.read(self.choose.randrange(1, 5000))
            await self._break_off(writer, b"")
            return False
        status, body = await self._answer(reader)
        assert status == 200
        assert self.is_own(name, body), name
        return True

    def is_own(self, name: str, body: bytes) -> bool:
        return body == self.body(self.stored[name], len(body))

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(f for f in fields if f.startswith("content-length:"))
        body = await reader.readexactly(int(length.split(":")[1]))
        return int(fields[0].split(" ")[1]), body


def clients(host: str, port: int, count: int, seed: int) -> Iterator[Client]:
    for number in range(count):
        yield Client(host, port, number, seed)
