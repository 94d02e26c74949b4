"""Digest algorithms by the names that protocols use. Optional ones are there when installed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol


class Hasher(Protocol):
    def update(self, data: Any, /) -> Any: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """CRC-32 (ISO 3309), four bytes, most significant first."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Any, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _hashlib(name: str) -> Callable[[], Hasher]:
    return lambda: hashlib.new(name, usedforsecurity=False)


_BUILT_IN: dict[str, tuple[Callable[[], Hasher], int]] = {
    "sha-256": (_hashlib("sha256"), 32),
    "sha-512": (_hashlib("sha512"), 64),
    "sha1": (_hashlib("sha1"), 20),
    "sha256": (_hashlib("sha256"), 32),
    "sha512": (_hashlib("sha512"), 64),
    "md5": (_hashlib("md5"), 16),
    "crc32": (_Crc32, 4),
}


class _Crc32c:
    """CRC-32C (Castagnoli), four bytes, most significant first."""

    def __init__(self) -> None:
        self._extend = importlib.import_module("google_crc32c").extend
        self._value = 0

    def update(self, data: Any, /) -> None:
        self._value = self._extend(self._value, bytes(data))  # it takes nothing but bytes

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_OPTIONAL = {
    "blake3": ("blake3", "blake3", 32),
    "xxh3": ("xxhash", "xxh3_64", 8),
}


@cache
def known() -> dict[str, tuple[Callable[[], Hasher], int]]:
    """Each algorithm that can be computed here: how to make a hasher, and its bytes."""
    found = dict(_BUILT_IN)
    for name, (module, attribute, size) in _OPTIONAL.items():
        try:
            found[name] = (getattr(importlib.import_module(module), attribute), size)
        except (ImportError, AttributeError):
            continue
    with contextlib.suppress(ImportError):
        importlib.import_module("google_crc32c")
        found["crc32c"] = (_Crc32c, 4)
    return found


def make(name: str) -> Hasher:
    """A new hasher. KeyError for an algorithm that is not known."""
    return known()[name][0]()
