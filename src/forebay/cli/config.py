"""`forebay config`: the settings in force and where each comes from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from forebay.cli.options import SettingsCommand, loader, setting_params
from forebay.config import Loaded, Setting, Settings, describe
from forebay.config.kinds import Mode

_HELP = """Show the settings that `forebay serve` would run with, and where each comes from.

It takes the flags of `forebay serve`, and opens and starts nothing: use it to check a
configuration before a restart. The exit code is 2 when something is wrong.
"""

_EXAMPLES = """\b
Examples:
  Show the settings in force here:
    forebay config
  Write them to a file that you can edit:
    forebay config --max-size 10GB --toml > forebay.toml
"""


def as_table(loaded: Loaded) -> str:
    """A line for each setting: name, value, source."""
    rows = [
        (s.name, s.kind.show(getattr(loaded.settings, s.name)) or "-", str(loaded.sources[s.name]))
        for s in describe()
    ]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:{wide[0]}}  {value:{wide[1]}}  {origin}" for name, value, origin in rows
    )


def as_json(loaded: Loaded) -> str:
    """A JSON object by name of setting: bytes and seconds as numbers, modes in octal."""
    return json.dumps(
        {
            s.name: {
                "value": _plain(s, getattr(loaded.settings, s.name)),
                "source": loaded.sources[s.name].kind,
                "from": loaded.sources[s.name].name or None,
                "live": s.live,
            }
            for s in describe()
        },
        indent=2,
    )


def _plain(setting: Setting, value: object) -> object:
    # As a number 0o640 would be 416, which nobody recognises as a mode.
    return setting.kind.show(value) if isinstance(setting.kind, Mode) else value


def as_toml(settings: Settings) -> str:
    """A forebay.toml with these settings and a comment for each."""
    return "\n".join(_toml_lines(settings))


def _toml_lines(settings: Settings) -> Iterator[str]:
    yield "# Settings of Forebay. Flags and FOREBAY_* environment variables override them."
    for group, members in itertools.groupby(describe(), key=lambda setting: setting.group):
        yield f"\n# --- {group}"
        for setting in members:
            yield f"\n# {setting.help}"
            yield f"{setting.key} = {setting.kind.toml(getattr(settings, setting.name))}"


_FORMS: dict[str, Callable[[Loaded], str]] = {
    "table": as_table,
    "json": as_json,
    "toml": lambda loaded: as_toml(loaded.settings),
}


def _config(form: str | None, **params: Any) -> None:
    # Bytes, because a TOML file is UTF-8 whatever the terminal is.
    click.echo(_FORMS[form or "table"](loader(params)()).encode())


config = SettingsCommand(
    "config",
    callback=_config,
    params=[
        *setting_params(),
        click.Option(["--json", "form"], flag_value="json", help="Print it as JSON."),
        click.Option(["--toml", "form"], flag_value="toml", help="Print it as a forebay.toml."),
    ],
    help=_HELP,
    short_help="Show the settings in force and where each comes from.",
    epilog=_EXAMPLES,
)
