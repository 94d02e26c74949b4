"""Bytes to send: content that no two places share, and its framing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from e2e.server import RawClient


def content(size: int, seed: int = 0) -> bytes:
    """The same bytes for the same arguments; a shift or a repetition is seen."""
    return random.Random(f"{size}/{seed}").randbytes(size)


def head(
    method: str, target: str, *fields: str, length: int | None = None, host: str = "localhost"
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8")


def chunked(pieces: Iterable[bytes]) -> bytes:
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


def is_closed(client: RawClient) -> bool:
    """Waits for the end; a reset is one too, where the answer has been read."""
    try:
        return client.at_end()
    except ConnectionResetError:
        return True
