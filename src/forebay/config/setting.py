"""What is known about one setting, and the messages about a wrong one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from forebay.config.kinds import Kind
from forebay.errors import ConfigError

ENV_PREFIX = "FOREBAY_"


def fixed(
    default: object, kind: Kind, group: str, text: str, *, live: bool = False, **more: bool
) -> Any:
    """A field of `Settings` that takes effect only in a new process."""
    metadata = {"kind": kind, "group": group, "help": text, "live": live, **more}
    return dataclasses.field(default=default, metadata=metadata)


def live(default: object, kind: Kind, group: str, text: str) -> Any:
    """A field of `Settings` that may change while the server runs."""
    return fixed(default, kind, group, text, live=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings`: its type, and its names outside of Python."""

    name: str
    kind: Kind
    """Its type, unit and range."""
    group: str
    """The heading it stands under in help texts."""
    help: str
    default: Any
    live: bool
    """It can change while the server runs."""
    positional: bool = False
    """On the command line it is an argument, not a flag."""

    @property
    def flag(self) -> str:
        """`--max-size`, or `DIR` for a positional one."""
        return self.name.upper() if self.positional else f"--{self.key}"

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.name.upper()

    @property
    def key(self) -> str:
        """The TOML key; `name` itself is accepted too."""
        return self.name.replace("_", "-")

    def parse(self, raw: object, source: object = None) -> Any:
        """The value that `raw` stands for. `source`: where it came from. Raises ConfigError."""
        try:
            return self.kind.parse(raw)
        except ValueError as error:
            raise self._wrong(raw, source, error) from None

    def check(self, value: object) -> None:
        """Raises ConfigError unless `value` has the right type and is in range."""
        try:
            self.kind.check(value)
        except ValueError as error:
            raise self._wrong(value, None, error) from None

    def _wrong(self, raw: object, source: object, reason: Exception) -> ConfigError:
        given = repr(raw)
        if len(given) > 80:
            given = f"{given[:76]}..."
        origin = f" ({source})" if source else ""
        return ConfigError(
            f"{self.name}{origin} cannot be {given}: {reason}. Give {self.kind.expects}.",
            setting=self.name,
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" with the known word nearest to `word`; "" when none is near."""
    import difflib  # only needed for a message

    near = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), near, n=1)
    return f" Did you mean {near[found[0]]}?" if found else ""
