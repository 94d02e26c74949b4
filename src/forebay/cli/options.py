"""Flags and help texts, made from the table of settings.

Values are not checked here: text goes to `forebay.config.load` as it is, so that the message about
a wrong value is the same for a flag, a variable and the file.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from forebay.config import (
    CONFIG_ENV,
    CONFIG_FILE,
    CONFIG_FLAG,
    ENV_PREFIX,
    Loaded,
    Setting,
    Settings,
    describe,
    load,
)
from forebay.config.kinds import Switch
from forebay.errors import ConfigError, StorageError

_ABOUT_SETTINGS = (
    f"Each setting can be given as a flag, as an environment variable, or in {CONFIG_FILE} under "
    "the name of the flag without its dashes; the first of these that has it decides. Settings "
    "marked * are read again on SIGHUP, without a restart."
)


def setting_params(settings: Sequence[Setting] | None = None) -> list[click.Parameter]:
    """A parameter for each of `settings` (None: all), and one for `--config`."""
    config = click.Option(
        [CONFIG_FLAG],
        metavar="PATH",
        help=f"TOML file to read.  [{CONFIG_ENV}; default: ./{CONFIG_FILE} if there is one]",
    )
    chosen = describe() if settings is None else settings
    return [*(_param(setting) for setting in chosen), config]


def folder_params() -> list[click.Parameter]:
    """DIR and `--config`, for commands that read all other settings from environment and file."""
    return setting_params([setting for setting in describe() if setting.positional])


def _param(setting: Setting) -> click.Parameter:
    if setting.positional:
        return click.Argument([setting.name], required=False, metavar=f"[{setting.flag}]")
    if isinstance(setting.kind, Switch):
        names = f"{setting.flag}/--no-{setting.key}"
        # None is "not given", which is not the same as "given as false".
        return click.Option([names, setting.name], default=None, help=help_text(setting))
    return click.Option(
        [setting.flag, setting.name],
        metavar=setting.kind.metavar,
        multiple=setting.kind.repeats,
        help=help_text(setting),
    )


def help_text(setting: Setting) -> str:
    """What a setting is for, its environment variable and its default."""
    default = setting.kind.show(setting.default) or ("empty" if setting.kind.repeats else "none")
    if setting.kind.repeats:
        default = default.replace(",", ", ")  # so that lines can be broken
    live = " *" if setting.live else ""
    more = " Repeatable." if setting.kind.repeats else ""
    return f"{setting.help}{more}  [{setting.env}; default: {default}]{live}"


@contextlib.contextmanager
def folder_in_use(settings: Settings) -> Iterator[None]:
    """Turns errors of a folder that cannot be used into ConfigError, as for any wrong setting."""
    try:
        yield
    except StorageError as error:
        cause = error.__cause__
        why = f" ({cause.strerror})" if isinstance(cause, OSError) else ""
        folder = os.path.abspath(settings.dir)
        raise ConfigError(f"{folder} (DIR) cannot be used: {error}{why}") from error


@contextlib.contextmanager
def existing_folder(params: Mapping[str, Any]) -> Iterator[Settings]:
    """The settings of a command for a folder that a server has used.

    Raises ConfigError when the folder does not exist, or cannot be used.
    """
    settings = settings_loader(params)()
    if not os.path.isdir(settings.dir):
        raise ConfigError(f"there is no folder {settings.dir!r} (DIR)")
    with folder_in_use(settings):
        yield settings


class SettingsCommand(click.Command):
    """A command whose settings are listed by group in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options by group; see click."""
        with formatter.section("Settings"):
            formatter.write_text(_ABOUT_SETTINGS)
        params = {param.name: param for param in self.get_params(ctx)}
        groups: dict[str, list[tuple[str, str]]] = {}
        for setting in describe():
            if param := params.pop(setting.name, None):
                record = param.get_help_record(ctx)  # None for an argument
                row = (setting.flag, help_text(setting)) if setting.positional else record
                groups.setdefault(setting.group, []).extend([row] if row else [])
        others = [row for param in params.values() if (row := param.get_help_record(ctx))]
        for title, rows in itertools.chain(groups.items(), [("Others", others)]):
            with formatter.section(title):
                _write_unbroken(formatter, rows)


_HYPHEN = "\x1f"  # in place of a hyphen at which no line may be broken


def _write_unbroken(formatter: click.HelpFormatter, rows: Sequence[tuple[str, str]]) -> None:
    """Writes a list of settings. Flags with hyphens are not broken, so that search finds them."""
    formatter.write_dl([(name, text.replace("-", _HYPHEN)) for name, text in rows])
    formatter.buffer = [line.replace(_HYPHEN, "-") for line in formatter.buffer]


def given_flags(params: Mapping[str, Any]) -> dict[str, object]:
    """The values on the command line, for `forebay.config.load`."""
    names = {"config", *(setting.name for setting in describe())}
    return {
        name: value for name, value in params.items() if name in names and value not in (None, ())
    }


def loader(params: Mapping[str, Any]) -> Callable[[], Loaded]:
    """Loads the settings again at each call, from the same flags and environment.

    It can be pickled, for processes that are spawned.
    """
    environ = {name: value for name, value in os.environ.items() if name.startswith(ENV_PREFIX)}
    return functools.partial(load, given_flags(params), environ, os.getcwd())


def settings_loader(params: Mapping[str, Any]) -> Callable[[], Settings]:
    """The same without the sources of the values."""
    return functools.partial(_settings, loader(params))


def _settings(load_all: Callable[[], Loaded]) -> Settings:
    return load_all().settings
