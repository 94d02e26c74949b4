"""The table of all settings. Each one is declared here, once, as a field of `Settings`.

Its flag, environment variable, TOML key, help text, unit and range follow from that field.
The command line imports this module for `--help` too, so it must import nothing slow.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

from forebay.config.checks import check_memory, check_tls_files
from forebay.config.kinds import (
    Choice,
    Count,
    Duration,
    Host,
    Mode,
    Names,
    Path,
    Rate,
    Size,
    Switch,
)
from forebay.config.setting import Setting, fixed, live, nearest
from forebay.errors import ConfigError
from forebay.media_types import is_active
from forebay.model import Conflict, Durability, FormPolicy, KiB, LargeField, MiB

_DAY = 86_400  # seconds
_WAIT = Duration(0.01, _DAY)
_GRACE = Duration(0, _DAY)

_LISTENING = "Listening"
_ACCEPTED = "What is accepted"
_STORAGE = "Storage"
_FORMS = "Forms (multipart/form-data)"
_MEMORY = "Memory and parallel work"
_TIMEOUTS = "Timeouts and slow clients"
_DOWNLOADS = "Downloads"
_ACCESS = "Access"
_LOGGING = "Logging"


def _check_network(text: str) -> None:
    import ipaddress  # 8 ms, saved when no network is named

    ipaddress.ip_network(text, strict=False)


def _check_harmless(media_type: str) -> None:
    if is_active(media_type):
        raise ValueError(f"files of type {media_type} could run scripts as pages of this server")


_TYPE = r"[a-z0-9][^\s/;,]*/[^\s/;,]+|\*/\*"
_TYPES = Names(_TYPE, "image/*, application/pdf", "TYPE")
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
    """Every setting. Sizes are in bytes, times in seconds, rates in bytes per second.

    Each field has a default, a kind (type and range), a group, and a help text that says what
    it is for. `describe` returns them as `Setting` objects. Raises ConfigError, which names the
    setting, for a value that is out of range or contradicts another setting.
    """

    dir: str = fixed(
        "data", Path(), _STORAGE, "Folder for the files; created if missing.", positional=True
    )
    durability: Durability = fixed(  # noqa: RUF009
        Durability.STRICT,
        Choice(tuple(Durability), Durability),
        _STORAGE,
        "What acknowledged bytes survive: strict a power loss, relaxed a killed process.",
    )
    min_free: int = live(64 * MiB, Size(), _STORAGE, "Disk space to leave free; 0 uses all of it.")
    file_mode: int = fixed(0o640, Mode(0o400), _STORAGE, "Permissions of new files, in octal.")
    folder_mode: int = fixed(0o750, Mode(0o700), _STORAGE, "Permissions of new folders, in octal.")
    compress_at_rest: str = fixed(
        "none",
        Choice(("none", "zstd")),
        _STORAGE,
        "How files of --compress-types are stored; zstd needs forebay[zstd]. Clients see no "
        "difference.",
    )
    compress_types: tuple[str, ...] = fixed(
        _COMPRESSED,
        _TYPES,
        _STORAGE,
        "Media type, by file name, that --compress-at-rest applies to.",
    )
    host: str = fixed(
        "127.0.0.1", Host(), _LISTENING, "Address to listen on; 0.0.0.0 or :: is every network."
    )
    port: int = fixed(8000, Count(0, 65_535), _LISTENING, "Port to listen on; 0 picks a free one.")
    workers: int = fixed(1, Count(1, 256), _LISTENING, "Number of server processes.")
    ssl_certfile: str | None = fixed(
        None, Path(optional=True), _LISTENING, "PEM file of the TLS certificate and its chain."
    )
    ssl_keyfile: str | None = fixed(
        None, Path(optional=True), _LISTENING, "PEM file of the certificate's private key."
    )
    max_size: int | None = live(
        None, Size(1, optional=True), _ACCEPTED, 'Largest file; "none" is no limit.'
    )
    on_conflict: Conflict = live(  # noqa: RUF009
        Conflict.AUTO,
        Choice(tuple(Conflict), Conflict),
        _ACCEPTED,
        "What to do when the file exists already; auto refuses a PUT and renames a POST.",
    )
    accept_types: tuple[str, ...] = live(
        (),
        _TYPES,
        _ACCEPTED,
        "Media type to accept, such as image/*; all are accepted when none is given.",
    )
    require_length: bool = live(
        False, Switch(), _ACCEPTED, "Refuse bodies that do not announce their length."
    )
    decode_request: bool = live(
        False,
        Switch(),
        _ACCEPTED,
        "Decode bodies with the Content-Encoding gzip; zstd and br need the extras of these names.",
    )
    max_decode_ratio: int = live(
        100,
        Count(0, 1_000_000),
        _ACCEPTED,
        "Most bytes that one encoded byte may decode to, checked from 16 MiB on; 0 is no limit.",
    )
    allow_delete: bool = live(False, Switch(), _ACCEPTED, "Let clients delete finished files.")
    resumable: bool = fixed(
        True, Switch(), _ACCEPTED, "Offer resumable uploads (tus and the IETF draft)."
    )
    resumable_without_version: bool = live(
        False,
        Switch(),
        _ACCEPTED,
        "Send interim responses (104) to IETF clients that name no version of the draft.",
    )
    max_append_size: int | None = fixed(
        None,
        Size(1, optional=True),
        _ACCEPTED,
        "Most bytes of a resumable upload in one request, for use behind a proxy that limits "
        'bodies; "none" is no limit.',
    )
    retention: float = live(
        86_400.0,
        Duration(0, 3650 * _DAY),
        _ACCEPTED,
        "How long an unfinished upload can be resumed; then it is removed.",
    )
    form_policy: FormPolicy = live(  # noqa: RUF009
        FormPolicy.ALL,
        Choice(tuple(FormPolicy), FormPolicy),
        _FORMS,
        "Store all files of a form or none (all), or each file by itself (each).",
    )
    form_max_size: int | None = live(
        None,
        Size(1, optional=True),
        _FORMS,
        'Largest form, all its files included; "none" is no limit (--max-size is for each file).',
    )
    form_max_parts: int = live(
        1000, Count(1, 1_000_000), _FORMS, "Most parts of a form, fields and files together."
    )
    form_max_fields: int = live(1000, Count(0, 1_000_000), _FORMS, "Most text fields of a form.")
    form_max_files: int = live(200, Count(1, 1_000_000), _FORMS, "Most files of a form.")
    form_max_field_size: int = live(MiB, Size(1), _FORMS, "Largest text field of a form.")
    form_max_fields_size: int = live(
        8 * MiB, Size(1), _FORMS, "Memory for all text fields of a form together."
    )
    form_large_fields: LargeField = live(  # noqa: RUF009
        LargeField.REFUSE,
        Choice(tuple(LargeField), LargeField),
        _FORMS,
        "What to do with larger text fields: refuse the form, or hold them in memory (up to "
        "--form-max-fields-size) or on disk.",
    )
    form_max_part_head: int = live(
        16 * KiB, Size(256, MiB), _FORMS, "Largest header section of a part of a form."
    )
    memory_threshold: int = live(
        2 * MiB, Size(), _MEMORY, "Largest body that may be held in memory."
    )
    memory_budget: int = live(
        64 * MiB, Size(), _MEMORY, "Memory for all such bodies together, per process."
    )
    buffer_size: int = fixed(
        MiB, Size(64 * KiB, 16 * MiB), _MEMORY, "Buffer of each worker thread."
    )
    threads: int = fixed(
        0, Count(0, 256), _MEMORY, "Worker threads per process; 0 lets Forebay choose."
    )
    max_uploads: int = live(
        1000, Count(0, 1_000_000), _MEMORY, "Most uploads that run at the same time; 0 is no limit."
    )
    max_unfinished: int = live(
        100_000,
        Count(0, 100_000_000),
        _MEMORY,
        "Most unfinished resumable uploads at the same time; 0 is no limit.",
    )
    max_head: int = fixed(
        64 * KiB,
        Size(4 * KiB, MiB),
        _MEMORY,
        "Largest request head: first line and fields.",
    )
    head_timeout: float = live(20.0, _WAIT, _TIMEOUTS, "Time for a whole request head to arrive.")
    keep_alive_timeout: float = live(
        75.0, _WAIT, _TIMEOUTS, "Time a connection may idle between requests."
    )
    body_timeout: float = live(60.0, _WAIT, _TIMEOUTS, "Longest time to wait for more of a body.")
    min_rate: int = live(KiB, Rate(), _TIMEOUTS, "Slowest rate accepted for a body; 0 is off.")
    min_rate_window: float = live(60.0, _WAIT, _TIMEOUTS, "Time over which that rate is averaged.")
    linger_timeout: float = live(
        30.0, _GRACE, _TIMEOUTS, "Time a refused client gets to read its answer."
    )
    drain_timeout: float = live(
        30.0, _GRACE, _TIMEOUTS, "Time running requests get to finish when the server stops."
    )
    inline_types: tuple[str, ...] = live(
        _SHOWN,
        dataclasses.replace(_TYPES, check_name=_check_harmless),
        _DOWNLOADS,
        "Media type, by file name, that browsers may show; others are saved. Never HTML or XML.",
    )
    allow_host: tuple[str, ...] = live(
        (),
        Names(r"\*|(\*\.)?[^\s/@*]+", "files.example.com, *.example.org", "HOST"),
        _ACCESS,
        'Host name to answer to, such as example.com or *.example.com; "*" is any.',
    )
    allow_origin: tuple[str, ...] = live(
        (),
        Names(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@*]+", "https://app.example.com", "ORIGIN"),
        _ACCESS,
        "Origin whose web pages may use this server, with credentials, such as "
        'https://example.com; "*" is any, without credentials.',
    )
    trusted_proxies: tuple[str, ...] = live(
        (),
        Names(r"[0-9a-f:.]+(/[0-9]{1,3})?", "127.0.0.1, 10.0.0.0/8", "NETWORK", _check_network),
        _ACCESS,
        "Address or network of proxies whose Forwarded and X-Forwarded-* fields are believed.",
    )
    absolute_location: bool = live(
        False, Switch(), _ACCESS, "Answer with whole URLs, not paths, as Location of uploads."
    )
    log_level: str = live(
        "info",
        Choice(("critical", "error", "warning", "info", "debug")),
        _LOGGING,
        "Lowest severity that is logged.",
    )
    log_format: str = fixed("text", Choice(("text", "json")), _LOGGING, "Format of a log line.")
    access_log: bool = fixed(True, Switch(), _LOGGING, "Log a line for each request.")

    def __post_init__(self) -> None:
        for setting in describe():
            setting.check(getattr(self, setting.name))
        check_tls_files(self.ssl_certfile, self.ssl_keyfile)
        check_memory(self.memory_threshold, self.memory_budget)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes` by field name: values, or text as on the command line
        (`max_size="5GB"`). Raises ConfigError.
        """
        return dataclasses.replace(self, **_parsed(changes))


def parse_settings(given: Mapping[str, object]) -> Settings:
    """Settings from values, or text as on the command line, by field name (`max_size="5GB"`).

    Raises ConfigError.
    """
    return Settings(**_parsed(given))


def _parsed(given: Mapping[str, object]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        setting = find_setting(name)
        # Not `isinstance(value, str)`: a member of a StrEnum is a value already.
        text = type(value) is str or isinstance(value, list)
        values[name] = setting.parse(value) if text else value
    return values


@functools.cache
def describe() -> tuple[Setting, ...]:
    """Every setting, in the order of declaration."""
    return tuple(
        Setting(name=field.name, default=field.default, **field.metadata)
        for field in dataclasses.fields(Settings)
    )


@functools.cache
def settings_by_name() -> Mapping[str, Setting]:
    """Every setting by the name of its field."""
    return {setting.name: setting for setting in describe()}


def find_setting(name: str) -> Setting:
    """The setting of that field name. Raises ConfigError, with the nearest name that exists."""
    known = settings_by_name()
    if name not in known:
        raise ConfigError(f"There is no setting {name}.{nearest(name, known)}")
    return known[name]


def changes_needing_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """Names of the fields that differ and take effect only in a new process."""
    return tuple(
        setting.name
        for setting in describe()
        if not setting.live and getattr(old, setting.name) != getattr(new, setting.name)
    )


def only_live_changes(old: Settings, new: Settings) -> Settings:
    """`new`, with the values of `old` for everything that takes effect only in a new process."""
    unchanged = {name: getattr(old, name) for name in changes_needing_restart(old, new)}
    return dataclasses.replace(new, **unchanged)
