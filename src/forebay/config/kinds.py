"""What one setting accepts: its type, unit and range, and how a value is written as text.

`read` takes the text of a flag or variable, or a TOML value; `check` takes a value of the
right type. Both raise ValueError with a reason that fits after a colon.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from forebay import units
from forebay.model import MAX_OFFSET


class Kind:
    """What one setting accepts."""

    metavar: str = "TEXT"
    """Stands for a value in help texts."""
    repeats: bool = False
    """The flag may be given many times."""
    bare: bool = False
    """TOML has the value without quotes."""

    @property
    def expects(self) -> str:
        """The right form, unit and range; fits after "Give"."""
        raise NotImplementedError

    def read(self, raw: object) -> Any:
        """The value that `raw` stands for: text, or a value as TOML has them."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raises unless `value` has the type of this kind and is in its range."""
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
    """True or false."""

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
    most: float = MAX_OFFSET
    fractions: ClassVar[bool] = False

    def check(self, value: Any) -> None:
        if not (_whole(value) or (self.fractions and isinstance(value, float))):
            raise ValueError("it is not a number" if self.fractions else "it is not a whole number")
        if not self.least <= value <= self.most:  # NaN too
            raise ValueError("it is negative" if value < 0 else "it is out of range")


@dataclasses.dataclass(frozen=True, slots=True)
class Count(_Number):
    """A whole number."""

    metavar = "NUMBER"
    bare = True

    @property
    def expects(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, raw: object) -> Any:
        number = isinstance(raw, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", raw)
        return int(number[0]) if number else raw


@dataclasses.dataclass(frozen=True, slots=True)
class _Quantity(_Number):
    """A number that is written with a unit; None ("none", "unlimited") when `optional`."""

    optional: bool = False

    @staticmethod
    def from_text(text: str, /) -> float:
        raise NotImplementedError

    @staticmethod
    def to_text(number: Any, /) -> str:
        raise NotImplementedError

    def read(self, raw: object) -> Any:
        if not isinstance(raw, str):
            return raw
        if self.optional and raw.strip().lower() in ("none", "unlimited"):
            return None
        return self.from_text(raw)

    def check(self, value: Any) -> None:
        if value is not None or not self.optional:
            _Number.check(self, value)

    def show(self, value: Any) -> str:
        return "none" if value is None else self.to_text(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Size(_Quantity):
    """Whole bytes."""

    metavar = "SIZE"
    from_text = staticmethod(units.parse_size)
    to_text = staticmethod(units.format_size)

    @property
    def expects(self) -> str:
        bounds = f" from {self.show(self.least)}" if self.least else ""
        bounds += f" to {self.show(self.most)}" if self.most < MAX_OFFSET else ""
        nothing = ', or "none" for no limit' if self.optional else ""
        return f"a size{bounds}, written like 10GB, 64MiB or 1048576{nothing}"


@dataclasses.dataclass(frozen=True, slots=True)
class Rate(_Quantity):
    """Whole bytes per second; 0 is off."""

    metavar = "RATE"
    expects = "bytes a second, written like 1KB/s, 64KiB or 1000, or 0 for off"
    from_text = staticmethod(units.parse_rate)
    to_text = staticmethod(units.format_rate)


@dataclasses.dataclass(frozen=True, slots=True)
class Duration(_Quantity):
    """Seconds, fractions included."""

    metavar = "TIME"
    fractions = True
    from_text = staticmethod(units.parse_duration)
    to_text = staticmethod(units.format_duration)

    @property
    def expects(self) -> str:
        bounds = f"from {self.show(self.least)} to {self.show(self.most)}"
        return f"a time {bounds}, written like 30s, 5m, 24h, 7d, 500ms or a number of seconds"


@dataclasses.dataclass(frozen=True, slots=True)
class Path(Kind):
    """A path, relative to the folder the server is started in; "" is None when `optional`."""

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
    """A tuple of lower-case names that each match `pattern`; in text separated by commas."""

    pattern: str
    example: str
    metavar: str
    check_name: Callable[[str], object] = str
    """Raises ValueError for a name that matches the pattern and is wrong all the same."""
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
            self.check_name(name)

    def show(self, value: Any) -> str:
        return ",".join(value)

    def toml(self, value: Any) -> str:
        return f"[{', '.join(map(_quoted, value))}]"
