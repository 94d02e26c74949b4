"""Settings from flags, environment and TOML file: the first of these that has a value decides.

The file is the one that `--config` or `FOREBAY_CONFIG` names, or ./forebay.toml. A
./forebay.toml in the folder to be served is not read: a client may have written it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from typing import Literal

from forebay.config.setting import ENV_PREFIX, nearest
from forebay.config.settings import Settings, describe, find_setting, settings_by_name
from forebay.errors import ConfigError
from forebay.model import SETTINGS_FILE
from forebay.trusted_paths import lies_within, may_be_uploaded

CONFIG_FLAG = "--config"
CONFIG_ENV = "FOREBAY_CONFIG"
CONFIG_FILE = SETTINGS_FILE


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from. `name` is the flag, the variable or the path of the file."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


_DEFAULT = Source("default")


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each value came from, by field name."""

    settings: Settings
    sources: Mapping[str, Source]
    unread: str | None = None
    """Path of a settings file that was not read, because it lies in the folder to be served."""


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> Loaded:
    """Settings from flags, environment and TOML file; the first that has a value decides.

    `flags` has values by field name, and under `config` the path of the TOML file; None is not
    given. ./forebay.toml is looked for in `cwd`, and a relative `config` starts there. Raises
    ConfigError, with the setting, where it came from, what was given and what would be right.
    """
    path = flags.get("config") or environ.get(CONFIG_ENV)
    named = "" if path is None else str(path)
    file = os.path.join(cwd, named or CONFIG_FILE)
    known = settings_by_name()
    given = {**dict(_from_environment(environ)), **dict(_from_flags(flags))}
    values = {name: known[name].parse(raw, source) for name, (raw, source) in given.items()}
    unread = None
    if not named and "dir" in values and lies_within(file, os.path.join(cwd, values["dir"])):
        unread = file if os.path.lexists(file) else None
    else:
        for name, (raw, source) in _from_file(file, required=bool(named)):
            if name not in given:
                given[name] = raw, source
                values[name] = known[name].parse(raw, source)
    sources = {name: given[name][1] if name in given else _DEFAULT for name in known}
    try:
        settings = Settings(**values)
    except ConfigError as error:
        origins = "; ".join(f"{n}: {sources[n]}" for n in error.detail.get("fields", ()))
        raise ConfigError(f"{error.message} ({origins})", **error.detail) from None
    if any(source.kind == "file" for source in sources.values()):
        _check_place(file, os.path.join(cwd, settings.dir), named=bool(named))
    return Loaded(settings, sources, unread)


def _check_place(file: str, folder: str, *, named: bool) -> None:
    """Raises ConfigError when a client could write the file that the settings came from."""
    if may_be_uploaded(file, folder) or (not named and lies_within(file, folder)):
        raise ConfigError(
            f"{file} lies in the folder to be served, {folder}, where clients store files. Move "
            f"it elsewhere, or call it {CONFIG_FILE} and name it by {CONFIG_FLAG}."
        )


_Given = Iterable[tuple[str, tuple[object, Source]]]
"""Field names, each with its value as given and where it came from."""


def _from_flags(flags: Mapping[str, object]) -> _Given:
    for name, value in flags.items():
        if name != "config" and value is not None:
            yield name, (value, Source("flag", find_setting(name).flag))


# Kubernetes and Docker set such variables in every container that can see a service whose name
# begins with "forebay": FOREBAY_PORT=tcp://10.0.0.7:80, FOREBAY_PORT_80_TCP_ADDR=10.0.0.7.
_OF_A_SERVICE = re.compile(
    r"FOREBAY(_[A-Z0-9_]+)?("
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|_PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?"
    r"|_(ENV_[A-Za-z0-9_]+|NAME)"
    r")=.*|FOREBAY(_[A-Z0-9_]+)?_PORT=(tcp|udp|sctp)://.*",
    re.DOTALL,
)


def _from_environment(environ: Mapping[str, str]) -> _Given:
    known = {setting.env: setting for setting in describe()}
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_ENV:
            continue
        if _OF_A_SERVICE.fullmatch(f"{variable}={value}"):
            continue
        if variable not in known:
            hint = nearest(variable, [*known, CONFIG_ENV])
            raise ConfigError(f"The environment variable {variable} is no setting.{hint}")
        yield known[variable].name, (value, Source("environment", variable))


def _from_file(path: str, *, required: bool) -> _Given:
    seen: dict[str, str] = {}
    for key, value in _read_toml(path, required=required).items():
        name = key.replace("-", "_")
        if name not in settings_by_name():
            hint = nearest(key, [setting.key for setting in describe()])
            raise ConfigError(f"{key} in {path} is no setting.{hint}")
        if name in seen:
            raise ConfigError(f"{path} has both {seen[name]} and {key}. Keep one of them.")
        seen[name] = key
        yield name, (value, Source("file", path))


def _read_toml(path: str, *, required: bool) -> Mapping[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        if not required:
            return {}
        raise ConfigError(
            f"There is no file {path} ({CONFIG_FLAG} or {CONFIG_ENV}). "
            "Make it, or give the path of another."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path} cannot be read: {why}.") from None
    import tomllib  # only needed when there is a file

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigError(f"{path} is not a TOML file: {error}.") from None
