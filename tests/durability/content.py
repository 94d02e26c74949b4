"""Bytes that tell whose they are: each seed has its own, at every offset."""

from __future__ import annotations

import functools
import hashlib


def content(seed: str, size: int) -> bytes:
    """`size` bytes that no other seed has, and that differ from block to block."""
    return hashlib.shake_128(seed.encode()).digest(size)


@functools.cache
def digest(seed: str, size: int) -> str:
    return hashlib.sha256(content(seed, size)).hexdigest()
