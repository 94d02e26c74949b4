"""Fields of answers as clients see them: a mapping only where it loses nothing."""

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


def mapping(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Lower-cased names, each with its value; lists that came in several fields are joined.

    Raises RepeatedField: a dict made in any other way would hide it.
    """
    pairs = list(pairs)
    check_once(pairs)
    found: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
