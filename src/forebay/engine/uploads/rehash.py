"""Digests of what is stored already, in bounded turns, so that other requests come in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine.transfer.pump import Hashing
from forebay.model import MiB
from forebay.stores.base import Reader, Staged

if TYPE_CHECKING:
    from forebay.engine.context import EngineContext

_TURN = 16 * MiB
"""Bytes hashed before others have their turn: some 10 ms."""


async def hash_stored(
    engine: EngineContext, staged: Staged, names: list[str], offset: int
) -> Hashing:
    """Digests of what is stored from `offset` on. Raises StorageError."""
    run = engine.workers.run
    hashing = Hashing(names)
    reader = await run(staged.seal, undo=_close)
    try:
        at, end = offset, staged.offset
        while at < end:
            async with engine.hashing:
                at = await run(_turn, reader, hashing, at, end)
    finally:
        await run(reader.close)
    return hashing


def _turn(reader: Reader, hashing: Hashing, at: int, end: int) -> int:
    """In a thread: hashes the next bytes; where it has got to."""
    buffer = memoryview(bytearray(MiB))
    until = min(end, at + _TURN)
    while at < until:
        got = reader.read_into(buffer[: min(MiB, until - at)], at)
        if not got:
            return end  # shorter than it was, so the digest will not match
        hashing.update(buffer[:got])
        at += got
    return at


def _close(reader: Reader) -> None:
    reader.close()
