"""Structured fields (RFC 9651), with bounds that keep the event loop free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["structured_dictionary", "structured_item"]


def structured_dictionary(values: Iterable[bytes]) -> dict[str, tuple[Any, dict[str, Any]]] | None:
    """A dictionary (RFC 9651, section 3.2) from all lines of a field, None if it is malformed.

    Each member is `(value, parameters)`. Without any line the dictionary is empty.
    """
    members: dict[str, tuple[Any, dict[str, Any]]] | None
    members = _structured(b", ".join(values), "dictionary")
    return members


def structured_item(value: bytes) -> tuple[Any, dict[str, Any]] | None:
    """An item (RFC 9651, section 3.3) as `(value, parameters)`, None if it is malformed."""
    item: tuple[Any, dict[str, Any]] | None = _structured(value, "item")
    return item


_MAX_STRUCTURED = 4096
_MAX_MEMBERS = 128
"""Members, parameters and items of one field together. RFC 9651 asks for more of a general parser;
the fields that are read here have fewer."""


def _structured(value: bytes, kind: str) -> Any:
    if len(value) > _MAX_STRUCTURED:
        return None
    if len(value) > _MAX_MEMBERS and sum(map(value.count, (b",", b";", b" "))) > _MAX_MEMBERS:
        return None
    import http_sf  # takes 29 ms, and most servers never need it

    try:
        return http_sf.parse(value, tltype=kind)
    except (ValueError, ArithmeticError, OSError):  # the last two: dates out of range
        return None
