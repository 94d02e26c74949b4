"""Which fields an answer may have more than once."""

from __future__ import annotations

from collections.abc import Iterable

MAY_REPEAT = frozenset({"cache-control", "link", "set-cookie", "vary", "www-authenticate"})
"""Lists that a client may get in several fields. Any other comes once."""


class RepeatedField(AssertionError):
    """An answer has a field twice that must be single."""


def check_once(pairs: Iterable[tuple[str, str]]) -> None:
    """Raises RepeatedField."""
    names = [name.lower() for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1} - MAY_REPEAT)
    if twice:
        raise RepeatedField(f"more than once in one answer: {', '.join(twice)}")
