"""How values are written: sizes, durations and rates, and every other kind of setting. Pure.

The functions turn text into numbers and back; what is formatted parses to the same number.
A `Kind` says for one setting what it accepts, and why it refuses: `read` takes what a flag,
a variable or a TOML file gives, `check` a value that is already of its type. Both raise
ValueError with a reason that fits after a colon.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from forebay.model import GB, KB, MB, TB, GiB, KiB, MiB, TiB

LARGEST = 2**63 - 1  # bytes: what a file offset can be

_SIZES = {
    "B": 1, "KB": KB, "MB": MB, "GB": GB, "TB": TB, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB
}  # fmt: skip
_SIZES_BY_LOWER = {unit.lower(): factor for unit, factor in _SIZES.items()}
# In thousandths of a second, so that each is whole.
_DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = re.compile(r"([0-9]{1,25})(?:\.([0-9]{1,400}))?\s*([A-Za-z]*)")


def _quantity(text: str) -> tuple[int, int, str]:
    """`text` as numerator, denominator and unit: exact, where a float would round."""
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

    Units may be written in any case. ValueError unless it is whole and from 0 to LARGEST.
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
    if size > LARGEST:
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
        from decimal import Decimal  # seldom needed

        return f"{Decimal(repr(seconds)):f}s"
    # A day is better known as 24h; from two on, days are easier to read.
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


# --- kinds of settings -----------------------------------------------------------------------


class Kind:
    """What one setting accepts. `metavar` stands for a value in help texts."""

    metavar: str = "TEXT"
    repeats: bool = False  # the flag may be given many times
    bare: bool = False  # TOML writes the value without quotes

    @property
    def expects(self) -> str:
        """Names what is right; fits after "Give"."""
        raise NotImplementedError

    def read(self, raw: object) -> Any:
        """The value that `raw` stands for: text, or a value as TOML has them."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raises unless `value` has the type and lies in the range of this kind."""
        raise NotImplementedError

    def parse(self, raw: object) -> Any:
        """`read`, then `check`."""
        value = self.read(raw)
        self.check(value)
        return value

    def show(self, value: Any) -> str:
        """`value` as text that `read` takes."""
        return str(value)

    def toml(self, value: Any) -> str:
        """`value` as a TOML literal that `read` takes."""
        return self.show(value) if self.bare else _quoted(self.show(value))


def _quoted(text: str) -> str:
    # Enough for a TOML basic string: `_check_text` keeps control characters out.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("it is not text")
    return raw.strip()


def _check_text(value: object) -> None:
    if not _text(value):
        raise ValueError("it is empty")
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in str(value)):
        raise ValueError("it has control characters or is not UTF-8")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True, slots=True)
class Switch(Kind):
    expects = "true or false"
    metavar = "true|false"
    bare = True

    def read(self, raw: object) -> Any:
        word = raw.strip().lower() if isinstance(raw, str) else raw
        if word in ("true", "yes", "on", "1"):
            return True
        return False if word in ("false", "no", "off", "0") else word

    def check(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ValueError("it is neither true nor false")

    def show(self, value: Any) -> str:
        return "true" if value else "false"


@dataclasses.dataclass(frozen=True, slots=True)
class _Number(Kind):
    """A number from `least` to `most`."""

    least: float = 0
    most: float = LARGEST
    fractions: ClassVar[bool] = False

    def check(self, value: Any) -> None:
        if not (_whole(value) or (self.fractions and isinstance(value, float))):
            raise ValueError("it is not a number" if self.fractions else "it is not a whole number")
        if not self.least <= value <= self.most:  # NaN too
            raise ValueError("it is negative" if value < 0 else "it is out of range")


@dataclasses.dataclass(frozen=True, slots=True)
class Count(_Number):
    metavar = "NUMBER"
    bare = True

    @property
    def expects(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, raw: object) -> Any:
        number = isinstance(raw, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", raw)
        return int(number[0]) if number else raw


@dataclasses.dataclass(frozen=True, slots=True)
class Size(_Number):
    """Whole bytes; None ("none", "unlimited") when `optional`."""

    optional: bool = False
    metavar = "SIZE"

    @property
    def expects(self) -> str:
        bounds = f" from {self.show(self.least)}" if self.least else ""
        bounds += f" to {self.show(self.most)}" if self.most < LARGEST else ""
        nothing = ', or "none" for no limit' if self.optional else ""
        return f"a size{bounds}, written like 10GB, 64MiB or 1048576{nothing}"

    def read(self, raw: object) -> Any:
        if not isinstance(raw, str):
            return raw
        if self.optional and raw.strip().lower() in ("none", "unlimited"):
            return None
        return parse_size(raw)

    def check(self, value: Any) -> None:
        if value is not None or not self.optional:
            _Number.check(self, value)

    def show(self, value: Any) -> str:
        return "none" if value is None else format_size(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Rate(_Number):
    """Whole bytes a second; 0 is off."""

    expects = "bytes a second, written like 1KB/s, 64KiB or 1000, or 0 for off"
    metavar = "RATE"

    def read(self, raw: object) -> Any:
        return parse_rate(raw) if isinstance(raw, str) else raw

    def show(self, value: Any) -> str:
        return format_rate(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Duration(_Number):
    """Seconds, fractions included."""

    metavar = "TIME"
    fractions = True

    @property
    def expects(self) -> str:
        bounds = f"from {format_duration(self.least)} to {format_duration(self.most)}"
        return f"a time {bounds}, written like 30s, 5m, 24h, 7d, 500ms or a number of seconds"

    def read(self, raw: object) -> Any:
        return parse_duration(raw) if isinstance(raw, str) else raw

    def show(self, value: Any) -> str:
        return format_duration(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Path(Kind):
    """Relative to the folder the server is started in. "" is None when `optional`."""

    optional: bool = False
    metavar = "PATH"

    @property
    def expects(self) -> str:
        return 'a path, or "" for none' if self.optional else "a path"

    def read(self, raw: object) -> Any:
        return None if self.optional and raw == "" else raw

    def check(self, value: Any) -> None:
        if value is not None or not self.optional:
            _check_text(value)

    def show(self, value: Any) -> str:
        return "" if value is None else str(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Host(Kind):
    """An address or name to listen on, without port."""

    expects = "an address or a name without a port, such as 127.0.0.1, 0.0.0.0 or ::1"
    metavar = "ADDRESS"

    def read(self, raw: object) -> Any:
        text = _text(raw)
        return text[1:-1] if text.startswith("[") and text.endswith("]") else text

    def check(self, value: Any) -> None:
        _check_text(value)
        if value.count(":") == 1 or "]:" in value:
            raise ValueError("the port has a setting of its own (port)")
        if not re.fullmatch(r"[^\s\[\]/]+", value):
            raise ValueError("it is not an address")


@dataclasses.dataclass(frozen=True, slots=True)
class Mode(Kind):
    """Permission bits from 0 to 0o777 that include `needs`, written in octal."""

    needs: int
    metavar = "OCTAL"

    @property
    def expects(self) -> str:
        return f'octal digits as text, such as "{self.needs | 0o040:o}", {self.needs:o} included'

    def read(self, raw: object) -> Any:
        # Not a TOML integer: 640 there is 0o1200, and 400 would pass unnoticed for 0o620.
        text = _text(raw)
        if not re.fullmatch(r"(0o)?[0-7]{3,4}", text):
            raise ValueError("it is not an octal mode")
        return int(text, 8)

    def check(self, value: Any) -> None:
        if not _whole(value) or not 0 <= value <= 0o777:
            raise ValueError("it is not a mode from 000 to 777")
        if value & self.needs != self.needs:
            raise ValueError("the server could not use what it made")

    def show(self, value: Any) -> str:
        return f"{value:03o}"


@dataclasses.dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of `words`; `make` turns the word into the value (a StrEnum, say)."""

    words: tuple[str, ...]
    make: Callable[[str], str] = str

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return "|".join(self.words)

    @property
    def expects(self) -> str:
        return f"one of {', '.join(self.words)}"

    def read(self, raw: object) -> Any:
        word = _text(raw).lower()
        return self.make(word) if word in self.words else word

    def check(self, value: Any) -> None:
        if value not in self.words or type(value) is not type(self.make(value)):
            raise ValueError("there is no such choice")


@dataclasses.dataclass(frozen=True, slots=True)
class Names(Kind):
    """A tuple of lower-case names that each match `pattern`; in text, with commas between."""

    pattern: str
    example: str
    metavar: str
    judge: Callable[[str], object] = str  # raises ValueError for what the pattern cannot tell
    repeats = True

    @property
    def expects(self) -> str:
        return f"names such as {self.example}: a list in TOML, else with commas between"

    def read(self, raw: object) -> Any:
        if not isinstance(items := [raw] if isinstance(raw, str) else raw, Sequence):
            raise ValueError("it is not a list")
        parts = [part.strip().lower() for item in items for part in _text(item).split(",")]
        return tuple(dict.fromkeys(part for part in parts if part))

    def check(self, value: Any) -> None:
        if not isinstance(value, tuple):
            raise ValueError("it is not a tuple")
        for name in value:
            _check_text(name)
            if name != name.lower() or not re.fullmatch(self.pattern, name):
                raise ValueError(f"{name} is not of that form")
            self.judge(name)

    def show(self, value: Any) -> str:
        return ",".join(value)

    def toml(self, value: Any) -> str:
        return f"[{', '.join(map(_quoted, value))}]"
