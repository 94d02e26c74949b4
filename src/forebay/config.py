"""One frozen object with every setting, and the loader that puts it together.

A setting is declared once, as a field of `Settings`; its flag, its environment variable, its
TOML key and its help are derived from that. The first of these that has it decides: flag,
environment (`FOREBAY_*`), TOML file (`--config`, `FOREBAY_CONFIG` or ./forebay.toml), default.
A ./forebay.toml in the folder to be served is not read: a client may have written it.

This module is imported by every start of the command line, `--help` included: nothing that
takes time to import belongs here.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from forebay import units
from forebay.errors import ConfigError
from forebay.media_types import is_active
from forebay.model import (
    SETTINGS_FILE,
    Conflict,
    Durability,
    FormPolicy,
    KiB,
    LargeField,
    MiB,
)
from forebay.trusted_paths import lies_within, may_be_uploaded

ENV_PREFIX = "FOREBAY_"
CONFIG_FLAG = "--config"
CONFIG_ENV = "FOREBAY_CONFIG"
CONFIG_FILE = SETTINGS_FILE

_DAY = 86_400
_WAIT = units.Duration(0.01, _DAY)
_GRACE = units.Duration(0, _DAY)

_WHERE = "Where to listen"
_WHAT = "What is taken"
_STORE = "How files are stored"
_FORMS = "Forms (multipart/form-data)"
_MEMORY = "Memory and parallel work"
_TIME = "Patience with clients"
_BACK = "How files are given back"
_WHO = "Who may ask"
_LOG = "What is logged"


def _fixed(
    default: object, kind: units.Kind, group: str, text: str, *, live: bool = False, **more: bool
) -> Any:
    """A field that takes effect in a new process only."""
    metadata = {"kind": kind, "group": group, "help": text, "live": live, **more}
    return dataclasses.field(default=default, metadata=metadata)


def _live(default: object, kind: units.Kind, group: str, text: str) -> Any:
    """A field that may change while the server runs."""
    return _fixed(default, kind, group, text, live=True)


def _network(text: str) -> None:
    import ipaddress  # 8 ms: not paid by a start that names none

    ipaddress.ip_network(text, strict=False)


def _harmless(kind: str) -> None:
    if is_active(kind):
        raise ValueError(f"files of type {kind} could run scripts as pages of this server")


_TYPE = r"[a-z0-9][^\s/;,]*/[^\s/;,]+|\*/\*"
_TYPES = units.Names(_TYPE, "image/*, application/pdf", "TYPE")
_COMPRESSED = (
    "text/*",
    "application/json",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/sql",
    "application/x-tar",
    "image/svg+xml",
    "image/bmp",
)
_SHOWN = ("image/*", "audio/*", "video/*", "text/plain", "application/pdf")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. Sizes are bytes, times seconds, rates bytes a second.

    Checked when made: ConfigError names what is out of range or contradicts something else.
    """

    dir: str = _fixed(
        "data", units.Path(), _STORE, "Folder for the files; made if missing.", positional=True
    )
    durability: Durability = _fixed(  # noqa: RUF009
        Durability.STRICT,
        units.Choice(tuple(Durability), Durability),
        _STORE,
        "What an acknowledged byte survives: strict a power loss, relaxed a killed process.",
    )
    min_free: int = _live(
        64 * MiB, units.Size(), _STORE, "Room to leave free on the disk; 0 uses it all."
    )
    file_mode: int = _fixed(0o640, units.Mode(0o400), _STORE, "Permissions of new files, in octal.")
    folder_mode: int = _fixed(
        0o750, units.Mode(0o700), _STORE, "Permissions of new folders, in octal."
    )
    compress_at_rest: str = _fixed(
        "none",
        units.Choice(("none", "zstd")),
        _STORE,
        "How files of --compress-types are kept; zstd needs forebay[zstd]. Unseen by clients.",
    )
    compress_types: tuple[str, ...] = _fixed(
        _COMPRESSED,
        _TYPES,
        _STORE,
        "Media type, told by the name, that --compress-at-rest is for.",
    )
    host: str = _fixed(
        "127.0.0.1", units.Host(), _WHERE, "Address to listen on; 0.0.0.0 or :: is every network."
    )
    port: int = _fixed(
        8000, units.Count(0, 65_535), _WHERE, "Port to listen on; 0 takes a free one."
    )
    workers: int = _fixed(1, units.Count(1, 256), _WHERE, "Number of server processes.")
    ssl_certfile: str | None = _fixed(
        None, units.Path(optional=True), _WHERE, "PEM file of the TLS certificate and its chain."
    )
    ssl_keyfile: str | None = _fixed(
        None, units.Path(optional=True), _WHERE, "PEM file of the certificate's private key."
    )
    max_size: int | None = _live(
        None, units.Size(1, optional=True), _WHAT, 'Largest file; "none" is no limit.'
    )
    on_conflict: Conflict = _live(  # noqa: RUF009
        Conflict.AUTO,
        units.Choice(tuple(Conflict), Conflict),
        _WHAT,
        "What to do when the name is taken; auto refuses a PUT and renames a POST.",
    )
    accept_types: tuple[str, ...] = _live(
        (),
        _TYPES,
        _WHAT,
        "Media type to take, such as image/*; all are taken when none is given.",
    )
    require_length: bool = _live(
        False, units.Switch(), _WHAT, "Refuse bodies that do not announce their length."
    )
    decode_request: bool = _live(
        False,
        units.Switch(),
        _WHAT,
        "Decode bodies with a Content-Encoding: gzip; zstd and br with the extras of these names.",
    )
    max_decode_ratio: int = _live(
        100,
        units.Count(0, 1_000_000),
        _WHAT,
        "Most bytes that decoding may make of one, judged from 16 MiB on; 0 is no limit.",
    )
    allow_delete: bool = _live(False, units.Switch(), _WHAT, "Let clients delete finished files.")
    resumable: bool = _fixed(
        True, units.Switch(), _WHAT, "Offer resumable uploads (tus and the IETF draft)."
    )
    resumable_without_version: bool = _live(
        False,
        units.Switch(),
        _WHAT,
        "Send interim responses (104) to IETF clients that name no version of the draft.",
    )
    max_append_size: int | None = _fixed(
        None,
        units.Size(1, optional=True),
        _WHAT,
        "Most that one request may bring of a resumable upload, as behind a proxy that limits "
        'bodies; "none" is no limit.',
    )
    retention: float = _live(
        86_400.0,
        units.Duration(0, 3650 * _DAY),
        _WHAT,
        "How long an unfinished upload is kept for its client to come back.",
    )
    form_policy: FormPolicy = _live(  # noqa: RUF009
        FormPolicy.ALL,
        units.Choice(tuple(FormPolicy), FormPolicy),
        _FORMS,
        "Store all files of a form or none, or each file by itself.",
    )
    form_max_size: int | None = _live(
        None,
        units.Size(1, optional=True),
        _FORMS,
        'Largest form, all its files included; "none" is no limit (--max-size is for each file).',
    )
    form_max_parts: int = _live(
        1000, units.Count(1, 1_000_000), _FORMS, "Most parts of a form, fields and files."
    )
    form_max_fields: int = _live(
        1000, units.Count(0, 1_000_000), _FORMS, "Most text fields of a form."
    )
    form_max_files: int = _live(200, units.Count(1, 1_000_000), _FORMS, "Most files of a form.")
    form_max_field_size: int = _live(MiB, units.Size(1), _FORMS, "Largest text field of a form.")
    form_max_fields_size: int = _live(
        8 * MiB, units.Size(1), _FORMS, "Memory for all text fields of a form together."
    )
    form_large_fields: LargeField = _live(  # noqa: RUF009
        LargeField.REFUSE,
        units.Choice(tuple(LargeField), LargeField),
        _FORMS,
        "Where larger text fields go; memory still ends at --form-max-fields-size.",
    )
    form_max_part_head: int = _live(
        16 * KiB, units.Size(256, MiB), _FORMS, "Largest head of a part of a form."
    )
    memory_threshold: int = _live(
        2 * MiB, units.Size(), _MEMORY, "Bodies up to this may be held in memory."
    )
    memory_budget: int = _live(
        64 * MiB, units.Size(), _MEMORY, "Memory for all such bodies together, per process."
    )
    buffer_size: int = _fixed(
        MiB, units.Size(64 * KiB, 16 * MiB), _MEMORY, "Buffer of each worker thread."
    )
    threads: int = _fixed(
        0, units.Count(0, 256), _MEMORY, "Worker threads per process; 0 chooses by itself."
    )
    max_uploads: int = _live(
        1000, units.Count(0, 1_000_000), _MEMORY, "Uploads at a time; 0 is no limit."
    )
    max_unfinished: int = _live(
        100_000,
        units.Count(0, 100_000_000),
        _MEMORY,
        "Unfinished resumable uploads at a time, begun and waiting for more; 0 is no limit.",
    )
    max_head: int = _fixed(
        64 * KiB, units.Size(4 * KiB, MiB), _MEMORY, "Largest head of a request, fields included."
    )
    head_timeout: float = _live(20.0, _WAIT, _TIME, "Time for a whole request head to arrive.")
    keep_alive_timeout: float = _live(
        75.0, _WAIT, _TIME, "Time a connection may idle between requests."
    )
    body_timeout: float = _live(
        60.0, _WAIT, _TIME, "Time without a byte of the body before giving up."
    )
    min_rate: int = _live(KiB, units.Rate(), _TIME, "Slowest body that is put up with; 0 is off.")
    min_rate_window: float = _live(60.0, _WAIT, _TIME, "Time over which that rate is averaged.")
    linger_timeout: float = _live(
        30.0, _GRACE, _TIME, "Time a refused client gets to read its answer."
    )
    drain_timeout: float = _live(
        30.0, _GRACE, _TIME, "Time running requests get to end when the server stops."
    )
    inline_types: tuple[str, ...] = _live(
        _SHOWN,
        dataclasses.replace(_TYPES, judge=_harmless),
        _BACK,
        "Media type, told by the name, that browsers may show; others are saved. Never HTML, XML.",
    )
    allow_host: tuple[str, ...] = _live(
        (),
        units.Names(r"\*|(\*\.)?[^\s/@*]+", "files.example.com, *.example.org", "HOST"),
        _WHO,
        'Host name to answer for, such as example.com or *.example.com; "*" is any.',
    )
    allow_origin: tuple[str, ...] = _live(
        (),
        units.Names(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@*]+", "https://app.example.com", "ORIGIN"),
        _WHO,
        "Origin whose web pages may use this server, with credentials, such as "
        'https://example.com; "*" is any, without credentials.',
    )
    trusted_proxies: tuple[str, ...] = _live(
        (),
        units.Names(r"[0-9a-f:.]+(/[0-9]{1,3})?", "127.0.0.1, 10.0.0.0/8", "NETWORK", _network),
        _WHO,
        "Address or network of proxies whose Forwarded and X-Forwarded-* fields are believed.",
    )
    absolute_location: bool = _live(
        False, units.Switch(), _WHO, "Answer with whole URLs, not paths, as Location of uploads."
    )
    log_level: str = _live(
        "info",
        units.Choice(("critical", "error", "warning", "info", "debug")),
        _LOG,
        "Least severity that is logged.",
    )
    log_format: str = _fixed("text", units.Choice(("text", "json")), _LOG, "Form of a log line.")
    access_log: bool = _fixed(True, units.Switch(), _LOG, "Log a line for each request.")

    def __post_init__(self) -> None:
        for setting in describe():
            value = getattr(self, setting.name)
            try:
                setting.kind.check(value)
            except ValueError as why:
                raise _wrong(setting, value, None, why) from None
        _check_together(self)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, by field name, checked as a new one is: values, or text as on
        the command line (`max_size="5GB"`). Raises ConfigError.
        """
        return dataclasses.replace(self, **_parsed(changes))


def _check_together(settings: Settings) -> None:
    """The one place for rules between settings. `detail["fields"]` are those in question."""
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if (certificate is None) != (key is None):
        given, missing = ("certfile", "keyfile") if key is None else ("keyfile", "certfile")
        raise ConfigError(
            f"ssl_{given} is set and ssl_{missing} is not. Give both for TLS, or neither.",
            fields=("ssl_certfile", "ssl_keyfile"),
        )
    if settings.memory_threshold > settings.memory_budget:
        raise ConfigError(
            f"memory_threshold ({units.format_size(settings.memory_threshold)}) is more than "
            f"memory_budget ({units.format_size(settings.memory_budget)}), which all bodies in "
            "memory share. Lower the threshold or raise the budget.",
            fields=("memory_threshold", "memory_budget"),
        )


def changes_needing_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """Names of the fields that differ and take effect only in a new process."""
    return tuple(
        setting.name
        for setting in describe()
        if not setting.live and getattr(old, setting.name) != getattr(new, setting.name)
    )


def only_live_changes(old: Settings, new: Settings) -> Settings:
    """`new`, but with what takes effect only in a new process as it is in `old`."""
    kept = {name: getattr(old, name) for name in changes_needing_restart(old, new)}
    return dataclasses.replace(new, **kept)


# --- what is known about each setting --------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings`, and how it is called everywhere else."""

    name: str
    kind: units.Kind
    group: str
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
        return ENV_PREFIX + self.name.upper()

    @property
    def key(self) -> str:
        """The TOML key; `name` itself is accepted too."""
        return self.name.replace("_", "-")


@functools.cache
def describe() -> tuple[Setting, ...]:
    """Every setting, in the order of declaration."""
    return tuple(
        Setting(name=field.name, default=field.default, **field.metadata)
        for field in dataclasses.fields(Settings)
    )


def written(given: Mapping[str, object]) -> Settings:
    """Settings as a developer writes them: values, or text as on the command line, by field
    name (`max_size="5GB"`). Raises ConfigError.
    """
    return Settings(**_parsed(given))


def _parsed(given: Mapping[str, object]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        setting = _setting_of(name)
        try:
            # Not those that are strings by inheritance: members of an enumeration.
            text = type(value) is str or isinstance(value, list)
            values[name] = setting.kind.parse(value) if text else value
        except ValueError as why:
            raise _wrong(setting, value, None, why) from None
    return values


@functools.cache
def _by_name() -> Mapping[str, Setting]:
    return {setting.name: setting for setting in describe()}


def _setting_of(name: str) -> Setting:
    if name not in _by_name():
        raise ConfigError(f"There is no setting {name}.{_nearest(name, _by_name())}")
    return _by_name()[name]


# --- loading ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from. `name` is the flag, the variable or the path of the file."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


DEFAULT = Source("default")


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and by field name where each came from."""

    settings: Settings
    sources: Mapping[str, Source]
    unread: str | None = None
    """Path of a settings file that was left alone, since it lies in the folder to be served."""


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> Loaded:
    """Settings from flags, environment and TOML file, the first that has a value deciding.

    `flags` has field names, and `config` for the path of the TOML file; None is not given.
    `cwd` is where ./forebay.toml is looked for and what a relative `config` is relative to.
    Raises ConfigError, with the setting, its source, what was given and what would be right.
    """
    path = flags.get("config") or environ.get(CONFIG_ENV)
    named = "" if path is None else str(path)
    file = os.path.join(cwd, named or CONFIG_FILE)
    said: dict[str, tuple[object, Source]] = {}
    said.update(_from_environment(environ))
    said.update(_from_flags(flags))
    folder = str(said["dir"][0]) if "dir" in said else None
    unread = None
    if not named and folder is not None and lies_within(file, os.path.join(cwd, folder)):
        unread = file if os.path.lexists(file) else None
        given = said
    else:
        given = {**dict(_from_file(file, required=bool(named))), **said}
    values: dict[str, Any] = {}
    for name, (raw, source) in given.items():
        setting = _by_name()[name]
        try:
            values[name] = setting.kind.parse(raw)
        except ValueError as why:
            raise _wrong(setting, raw, source, why) from None
    sources = {name: given[name][1] if name in given else DEFAULT for name in _by_name()}
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


def _from_flags(flags: Mapping[str, object]) -> _Given:
    for name, value in flags.items():
        if name == "config" or value is None:
            continue
        yield name, (value, Source("flag", _setting_of(name).flag))


# What Kubernetes and Docker set in every container beside a service whose name begins with
# "forebay": FOREBAY_PORT=tcp://10.0.0.7:80, FOREBAY_SERVICE_HOST, FOREBAY_PORT_80_TCP_ADDR.
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
            hint = _nearest(variable, [*known, CONFIG_ENV])
            raise ConfigError(f"The environment variable {variable} is no setting.{hint}")
        yield known[variable].name, (value, Source("environment", variable))


def _from_file(path: str, *, required: bool) -> _Given:
    seen: dict[str, str] = {}
    for key, value in _read_toml(path, required=required).items():
        name = key.replace("-", "_")
        if name not in _by_name():
            hint = _nearest(key, [setting.key for setting in describe()])
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
    import tomllib  # only when there is a file

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigError(f"{path} is not a TOML file: {error}.") from None


# --- messages --------------------------------------------------------------------------------


def _wrong(setting: Setting, raw: object, source: Source | None, why: Exception) -> ConfigError:
    given = repr(raw)
    if len(given) > 80:
        given = f"{given[:76]}..."
    origin = f" ({source})" if source else ""
    return ConfigError(
        f"{setting.name}{origin} cannot be {given}: {why}. Give {setting.kind.expects}.",
        setting=setting.name,
    )


def _nearest(word: str, known: Iterable[str]) -> str:
    """A sentence with the known word nearest to `word`, or none when all are far."""
    import difflib  # only for a message

    near = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), near, n=1)
    return f" Did you mean {near[found[0]]}?" if found else ""
