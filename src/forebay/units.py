"""Sizes, durations and rates as text, and back. Pure functions.

Text made by a `format_` function is parsed to the same number again. The `parse_` functions
raise ValueError with a reason that fits after a colon.
"""

from __future__ import annotations

import re

from forebay.model import GB, KB, MAX_OFFSET, MB, TB, GiB, KiB, MiB, TiB

_SIZES = {
    "B": 1, "KB": KB, "MB": MB, "GB": GB, "TB": TB, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB
}  # fmt: skip
_SIZES_BY_LOWER = {unit.lower(): factor for unit, factor in _SIZES.items()}
# In thousandths of a second, so that each is whole.
_DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = re.compile(r"([0-9]{1,25})(?:\.([0-9]{1,400}))?\s*([A-Za-z]*)")


def _quantity(text: str) -> tuple[int, int, str]:
    """`text` as numerator, denominator and unit. Exact: a float would round."""
    text = text.strip()
    if not text:
        raise ValueError("it is empty")
    if text.startswith("-"):
        raise ValueError("it is negative")
    if not (found := _QUANTITY.fullmatch(text)):
        raise ValueError("it is not a number with a unit")
    whole, fraction, unit = found[1], found[2] or "", found[3]
    return int(whole + fraction), int(10 ** len(fraction)), unit


def parse_size(text: str) -> int:
    """Bytes in `text`: "1048576", "10GB" (powers of 1000), "64MiB" (of 1024), "1.5GiB".

    Units may be written in any case. ValueError unless it is whole and from 0 to MAX_OFFSET.
    """
    number, scale, unit = _quantity(text)
    factor = _SIZES_BY_LOWER.get(unit.lower() or "b")
    if factor is None:
        if f"{unit.lower()}b" in _SIZES_BY_LOWER and len(unit) == 1:
            big = unit.upper()
            raise ValueError(f"{unit} is ambiguous: {big}B counts in 1000s, {big}iB in 1024s")
        raise ValueError(f"{unit} is not a unit of size ({', '.join(_SIZES)})")
    size, rest = divmod(number * factor, scale)
    if rest:
        raise ValueError("it is not a whole number of bytes")
    if size > MAX_OFFSET:
        raise ValueError("it is more than a file can hold")
    return size


def format_size(size: int) -> str:
    """`size` bytes in the largest unit that divides it: "64MiB", "1500KB", "1023B", "0"."""
    unit = max((u for u, f in _SIZES.items() if size % f == 0), key=_SIZES.__getitem__)
    return f"{size // _SIZES[unit]}{unit}" if size else "0"


def parse_duration(text: str) -> float:
    """Seconds in `text`: "30", "0.5", "500ms", "30s", "5m", "24h", "7d". ValueError if not."""
    number, scale, unit = _quantity(text)
    factor = _DURATIONS.get(unit or "s")
    if factor is None:
        raise ValueError(f"{unit} is not a unit of time ({', '.join(_DURATIONS)})")
    return number * factor / (scale * 1000)


def format_duration(seconds: float) -> str:
    """`seconds` (finite, 0 or more) in the largest unit that divides it: "24h", "500ms"."""
    if seconds == 0:
        return "0"
    thousandths = round(seconds * 1000)
    if thousandths / 1000 != seconds:
        from decimal import Decimal  # rarely needed

        return f"{Decimal(repr(seconds)):f}s"
    # One day is shown as 24h; from two on, days are easier to read.
    fits = [
        unit
        for unit, factor in _DURATIONS.items()
        if thousandths % factor == 0 and (unit != "d" or thousandths >= 2 * factor)
    ]
    return f"{thousandths // _DURATIONS[fits[-1]]}{fits[-1]}"


def parse_rate(text: str) -> int:
    """Bytes a second in `text`: a size as `parse_size` reads it, with or without "/s"."""
    return parse_size(text.strip().removesuffix("/s"))


def format_rate(rate: int) -> str:
    """`rate` bytes a second as `parse_rate` reads it: "1KB/s", "0"."""
    return f"{format_size(rate)}/s" if rate else "0"
