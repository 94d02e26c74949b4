"""HTTP/1.1 by hand: what is sent is bytes, and every answer is shown as it came.

`RawClient` blocks, `AsyncRawClient` is for event loops. Both read answers with the generators
`read_head` and `read_answer`, which take from a buffer and yield whenever it needs more bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from answer_fields import check_once

T = TypeVar("T")
RESET = b"\1\0\0\0\0\0\0\0"
"""A value of SO_LINGER with which closing sends RST."""


# --- what is sent ------------------------------------------------------------------------------


def content(size: int, seed: int = 0) -> bytes:
    """The same bytes for the same arguments; a shift or a repetition is seen."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def head(
    method: str, target: str, *fields: str, length: int | None = None, host: str = "localhost"
) -> bytes:
    """The head of a request; `fields` are whole lines."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8")


def named(fields: Mapping[str, object]) -> dict[str, str]:
    """Names of keyword arguments as names of fields: `upload_offset=5` is `upload-offset: 5`."""
    return {name.replace("_", "-"): str(value) for name, value in fields.items()}


def chunked(pieces: Iterable[bytes]) -> bytes:
    """A body of one chunk for each piece."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + (
        b"0\r\n\r\n"
    )


def split(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces of the given sizes, the rest as one."""
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


# --- what is received --------------------------------------------------------------------------


class Fields:
    """The fields of a message in their order, with lower-case names.

    Raises RepeatedField where one came twice that must be single.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = [(name.lower(), value) for name, value in pairs]
        check_once(self.pairs)

    def every(self, name: str) -> list[str]:
        """The values of all lines with this name."""
        return [value for found, value in self.pairs if found == name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """The value; those of several lines are joined, as RFC 9110, section 5.3 allows."""
        values = self.every(name)
        return ", ".join(values) if values else default

    def __getitem__(self, name: str) -> str:
        """Raises KeyError."""
        values = self.every(name)
        if not values:
            raise KeyError(f"{name}, among {self.pairs}")
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.pairs}

    def __repr__(self) -> str:
        return f"Fields({self.pairs})"


class Answer(NamedTuple):
    """A final response."""

    status: int
    fields: Fields
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a refusal."""
        return str(self.json["code"])


class ClosedError(EOFError, ConnectionError):
    """The connection ended before or inside an answer."""


Reading = Generator[None, None, T]
"""Yields when `buffer` is too short. To end it because no more comes: throw ClosedError."""


def take(buffer: bytearray, size: int) -> Reading[bytes]:
    while len(buffer) < size:
        yield
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


def take_until(buffer: bytearray, end: bytes) -> Reading[bytes]:
    """What comes before `end`, which is taken too."""
    while (at := buffer.find(end)) < 0:
        yield
    taken = yield from take(buffer, at + len(end))
    return taken[:at]


def take_all(buffer: bytearray) -> Reading[bytes]:
    """Until the connection is closed."""
    with contextlib.suppress(ClosedError):
        while True:
            yield
    return (yield from take(buffer, len(buffer)))


def read_head(buffer: bytearray) -> Reading[tuple[int, Fields]]:
    """The next head, also an interim one."""
    text = (yield from take_until(buffer, b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ")[1]), Fields((name, value.strip(" \t")) for name, _, value in pairs)


def read_chunks(buffer: bytearray) -> Reading[bytes]:
    pieces = []
    while size := int((yield from take_until(buffer, b"\r\n")).partition(b";")[0], 16):
        pieces.append((yield from take(buffer, size)))
        yield from take_until(buffer, b"\r\n")
    while (yield from take_until(buffer, b"\r\n")):
        pass  # a trailer
    return b"".join(pieces)


def read_answer(
    buffer: bytearray, method: str, interim: list[tuple[int, Fields]]
) -> Reading[Answer]:
    """The next final response to `method`; those before it are added to `interim`."""
    while True:
        status, fields = yield from read_head(buffer)
        if status >= 200:
            break
        interim.append((status, fields))
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif fields.get("transfer-encoding") == "chunked":
        body = yield from read_chunks(buffer)
    elif "content-length" in fields:
        body = yield from take(buffer, int(fields["content-length"]))
    else:
        body = yield from take_all(buffer)
    return Answer(status, fields, body)


# --- clients -----------------------------------------------------------------------------------


class Server(Protocol):
    """Whatever can be connected to."""

    def connect(self, timeout: float = ...) -> socket.socket: ...


class RawClient:
    """A connection for what no well-behaved client sends."""

    def __init__(self, server: Server, timeout: float = 30) -> None:
        self.socket = server.connect(timeout)
        self.buffer = bytearray()
        """What was received and not yet taken."""
        self.interim: list[tuple[int, Fields]] = []
        """The responses before the last final one."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        """Sends no more; an answer can still be read."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def head(self) -> tuple[int, Fields]:
        """The next head, also an interim one. Raises ClosedError, as all that reads."""
        return self._run(read_head(self.buffer))

    def response(self, method: str = "PUT") -> Answer:
        """The next final response to a request with this method."""
        self.interim = []
        return self._run(read_answer(self.buffer, method, self.interim))

    def read(self, size: int) -> bytes:
        """So many bytes of whatever comes."""
        return self._run(take(self.buffer, size))

    def read_until(self, end: bytes) -> bytes:
        """What comes before `end`, which is taken too."""
        return self._run(take_until(self.buffer, end))

    def read_all(self) -> bytes:
        """All that comes until the server closes."""
        return self._run(take_all(self.buffer))

    def _run(self, reading: Reading[T]) -> T:
        try:
            next(reading)
            while True:
                if data := self.socket.recv(1 << 20):
                    self.buffer += data
                    next(reading)
                else:
                    reading.throw(ClosedError(f"closed after {bytes(self.buffer[:1000])!r}"))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def at_end(self) -> bool:
        """Waits for the server to close; False if it sent something instead."""
        return self.socket.recv(1) == b""

    def is_closed(self) -> bool:
        """As `at_end`; a reset is an end too, where the answer has been read."""
        try:
            return self.at_end()
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


NO_ACCEPT = ("Accept", "")


def request(
    server: Server,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A request of a well-behaved client, on a connection of its own.

    It accepts anything, as curl does, unless `headers` has an Accept; none, if that is "".
    """
    with RawClient(server, 60) as client:
        host, port = client.socket.getpeername()[:2]
        sent = {"Host": f"{host}:{port}", "Accept-Encoding": "identity", "Accept": "*/*"}
        if body is not None or method in ("PATCH", "POST", "PUT"):
            sent["Content-Length"] = str(len(body or b""))
        given = {name.lower() for name in headers or {}}
        sent = {name: value for name, value in sent.items() if name.lower() not in given}
        sent |= headers or {}
        lines = [f"{name}: {value}" for name, value in sent.items() if (name, value) != NO_ACCEPT]
        client.send(
            "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")
            + (body or b"")
        )
        return client.response(method)


class AsyncRawClient:
    """A connection within an event loop, to be used with `async with`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.buffer = bytearray()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, method: str = "PUT") -> Answer:
        """The next final response. Raises ClosedError, as all that reads."""
        return await self._run(read_answer(self.buffer, method, []))

    async def read_all(self) -> bytes:
        """All that comes until the server closes."""
        return await self._run(take_all(self.buffer))

    async def _run(self, reading: Reading[T]) -> T:
        try:
            next(reading)
            while True:
                if data := await self.reader.read(1 << 20):
                    self.buffer += data
                    next(reading)
                else:
                    reading.throw(ClosedError(f"closed after {bytes(self.buffer[:1000])!r}"))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def half_close(self) -> None:
        """Sends no more; an answer can still be read."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Closes with RST."""
        end: socket.socket = self.writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(*self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
