"""Where settings come from, which source decides, and the message about a wrong value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.config import Loaded, Settings, Source, describe, load
from forebay.errors import ConfigError
from forebay.model import Conflict, Durability, KiB, MiB

SETTINGS = {setting.name: setting for setting in describe()}


def refused(*, match: str, flags: Any = None, env: Any = None, cwd: Any = "/nowhere") -> str:
    with pytest.raises(ConfigError, match=match) as caught:
        load(flags or {}, env or {}, cwd)
    assert "\n" not in caught.value.message
    return caught.value.message


def from_toml(folder: Path, text: str, name: str = "forebay.toml") -> Loaded:
    (folder / name).write_text(text)
    return load({}, {}, folder)


# --- sources ---------------------------------------------------------------------------------


def test_without_any_source_every_setting_has_its_default(tmp_path: Path) -> None:
    loaded = load({}, {}, tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.sources) == set(SETTINGS)
    assert {source.kind for source in loaded.sources.values()} == {"default"}


def test_the_defaults_are_the_documented_ones() -> None:
    settings = Settings()
    assert (settings.dir, settings.host, settings.port) == ("data", "127.0.0.1", 8000)
    assert settings.max_size is None
    assert (settings.memory_threshold, settings.memory_budget) == (2 * MiB, 64 * MiB)
    assert settings.durability is Durability.STRICT
    assert settings.on_conflict is Conflict.AUTO
    assert (settings.file_mode, settings.max_head) == (0o640, 64 * KiB)


@pytest.mark.parametrize(
    ("flag", "env", "file", "value", "kind"),
    [
        ("1KB", "2KB", "3KB", 1000, "flag"),
        (None, "2KB", "3KB", 2000, "environment"),
        (None, None, "3KB", 3000, "file"),
        (None, None, None, None, "default"),
        ("none", "2KB", "3KB", None, "flag"),
    ],
)
def test_flag_goes_before_environment_before_file_before_default(
    tmp_path: Path, flag: Any, env: Any, file: Any, value: Any, kind: str
) -> None:
    if file:
        (tmp_path / "forebay.toml").write_text(f'max-size = "{file}"')
    loaded = load({"max_size": flag}, {"FOREBAY_MAX_SIZE": env} if env else {}, tmp_path)
    assert loaded.settings.max_size == value
    assert loaded.sources["max_size"].kind == kind


@given(
    sources=st.fixed_dictionaries(
        {}, optional={k: st.integers(1, 65535) for k in ("flag", "environment", "file")}
    )
)
def test_the_first_source_that_has_a_value_decides(
    tmp_path_factory: pytest.TempPathFactory, sources: dict[str, int]
) -> None:
    folder = tmp_path_factory.mktemp("config")
    if "file" in sources:
        (folder / "forebay.toml").write_text(f"port = {sources['file']}")
    environ = {"FOREBAY_PORT": str(sources["environment"])} if "environment" in sources else {}
    loaded = load({"port": sources.get("flag")}, environ, folder)
    winner = next((kind for kind in ("flag", "environment", "file") if kind in sources), "default")
    assert loaded.sources["port"].kind == winner
    assert loaded.settings.port == sources.get(winner, 8000)


def test_a_source_names_what_the_value_was_given_as(tmp_path: Path) -> None:
    (tmp_path / "forebay.toml").write_text("workers = 2")
    loaded = load({"dir": "x", "max_size": "1"}, {"FOREBAY_PORT": "1"}, tmp_path)
    assert str(loaded.sources["dir"]) == "flag DIR"
    assert str(loaded.sources["max_size"]) == "flag --max-size"
    assert str(loaded.sources["port"]) == "environment FOREBAY_PORT"
    assert str(loaded.sources["workers"]) == f"file {tmp_path}/forebay.toml"
    assert str(loaded.sources["host"]) == "default"


@pytest.mark.parametrize("given_by", ["flag", "environment"])
def test_the_file_can_be_named(tmp_path: Path, given_by: str) -> None:
    (tmp_path / "forebay.toml").write_text("port = 1")
    (tmp_path / "other.toml").write_text("port = 2")
    flags = {"config": "other.toml"} if given_by == "flag" else {}
    environ = {"FOREBAY_CONFIG": str(tmp_path / "other.toml")} if not flags else {}
    loaded = load(flags, environ, tmp_path)
    assert loaded.settings.port == 2
    assert loaded.sources["port"] == Source("file", str(tmp_path / "other.toml"))


def test_the_flag_that_names_the_file_goes_before_the_variable(tmp_path: Path) -> None:
    (tmp_path / "flag.toml").write_text("port = 1")
    loaded = load({"config": "flag.toml"}, {"FOREBAY_CONFIG": "missing.toml"}, tmp_path)
    assert loaded.settings.port == 1


# --- the TOML file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("max-size = 5", "max_size", 5),
        ("max_size = 5", "max_size", 5),
        ('max-size = "10GB"', "max_size", 10**10),
        ('max-size = "unlimited"', "max_size", None),
        ("head-timeout = 1", "head_timeout", 1),
        ("head-timeout = 0.5", "head_timeout", 0.5),
        ('head-timeout = "500ms"', "head_timeout", 0.5),
        ('min-rate = "1KB/s"', "min_rate", 1000),
        ("access-log = false", "access_log", False),
        ('access-log = "off"', "access_log", False),
        ('allow-host = ["A.b", "c.d:8000"]', "allow_host", ("a.b", "c.d:8000")),
        ('allow-host = "a, b,a"', "allow_host", ("a", "b")),
        ('allow-host = ["*.a.b", "*"]', "allow_host", ("*.a.b", "*")),
        ("allow-host = []", "allow_host", ()),
        ('allow-origin = ["*"]', "allow_origin", ("*",)),
        ('accept-types = ["image/*", "text/CSV"]', "accept_types", ("image/*", "text/csv")),
        ('file-mode = "600"', "file_mode", 0o600),
        ('file-mode = "0o0644"', "file_mode", 0o644),
        ('durability = "relaxed"', "durability", Durability.RELAXED),
        ('on-conflict = "REPLACE"', "on_conflict", Conflict.REPLACE),
        ('ssl-certfile = ""', "ssl_certfile", None),
        ('host = "[::1]"', "host", "::1"),
        ('dir = "été /☃"', "dir", "été /☃"),
    ],
)  # fmt: skip
def test_the_file_is_read_in_every_form(
    tmp_path: Path, text: str, field: str, value: object
) -> None:
    found = getattr(from_toml(tmp_path, text).settings, field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max-siez = 1", r"max-siez in .*/forebay.toml is no setting. Did you mean max-size\?"),
        ("[server]\nport = 1", "server in .* is no setting"),
        ("max-size = 1\nmax_size = 2", "has both max-size and max_size. Keep one"),
        ("port = = 1", "is not a TOML file: .*line 1"),
        ("port = true", "not a whole number"),
        ("port = 99999999999999999999999", "out of range"),
        ("port = 1979-05-27", "not a whole number"),
        ("head-timeout = nan", "out of range"),
        ("head-timeout = inf", "out of range"),
        ("head-timeout = 0", "out of range. Give a time from 10ms to 24h"),
        ("min-free = -1", "negative"),
        ("max-size = 0", 'out of range. Give a size from 1B, .* or "none" for no limit'),
        ("buffer-size = 1024", "out of range. Give a size from 64KiB to 16MiB"),
        ("access-log = 1", "neither true nor false"),
        ("file-mode = 640", "not text. Give octal digits as text"),
        ('file-mode = "689"', "not an octal mode"),
        ('file-mode = "1640"', "not a mode from 000 to 777"),
        ('file-mode = "040"', "could not use what it made. Give .*400 included"),
        ("allow-host = 1", "not a list"),
        ("allow-host = [1]", "not text"),
        ('allow-host = ["https://a"]', "https://a is not of that form"),
        ('allow-host = ["a*b"]', "not of that form"),
        ('allow-origin = ["example.com"]', "example.com is not of that form"),
        ('allow-origin = ["https://example.com/"]', "not of that form"),
        ('accept-types = ["pdf"]', "pdf is not of that form"),
        ('host = "0.0.0.0:80"', "the port has a setting of its own"),
        ('host = "http://x/"', "setting of its own|not an address"),
        ('host = "a b"', "not an address"),
        ('dir = ""', "empty"),
        ("dir = 5", "not text"),
        (r'dir = "a\u0000b"', "control characters"),
        ('log-level = "loud"', "no such choice. Give one of critical, error"),
        ('ssl-certfile = "a"', "ssl_certfile is set and ssl_keyfile is not.*: default"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        from_toml(tmp_path, text)
    assert str(tmp_path / "forebay.toml") in caught.value.message


def test_a_file_that_is_not_utf8_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'dir = "\xe9"')
    refused(flags={"config": "latin.toml"}, cwd=tmp_path, match="latin.toml is not a TOML file")
    (tmp_path / "forebay.toml").mkdir()
    refused(cwd=tmp_path, match="cannot be read: Is a directory")
    refused(flags={"config": "a\0b"}, cwd=tmp_path, match="cannot be read: embedded null")


@pytest.mark.parametrize("by", ["flags", "env"])
def test_a_file_that_was_named_must_exist(tmp_path: Path, by: str) -> None:
    name = {"flags": {"config": "no.toml"}, "env": {"FOREBAY_CONFIG": "no.toml"}}
    refused(**{by: name[by]}, cwd=tmp_path, match=r"no file .*/no\.toml \(--config or FOREBAY_")


# --- names and messages ----------------------------------------------------------------------


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    refused(env={"FOREBAY_MAXSIZE": "1"}, match="FOREBAY_MAXSIZE .* Did you mean FOREBAY_MAX_SIZE")
    refused(env={"FOREBAY_CONFG": "x"}, match="Did you mean FOREBAY_CONFIG")
    assert "mean" not in refused(env={"FOREBAY_QQQQQQQQQQQQ": ""}, match="is no setting")


def test_other_variables_are_left_alone() -> None:
    assert load({}, {"PATH": "x", "FOREBAYS": "1"}, "/nowhere").settings == Settings()


def test_an_unknown_flag_is_refused_with_the_nearest() -> None:
    refused(flags={"max_siez": "1"}, match="no setting max_siez. Did you mean max_size")


@pytest.mark.parametrize(
    ("where", "origin"),
    [("flags", "flag --max-size"), ("env", "environment FOREBAY_MAX_SIZE")],
)
def test_a_wrong_value_says_which_where_what_why_and_what_would_be_right(
    where: str, origin: str
) -> None:
    given = {"flags": {"max_size": "10XB"}, "env": {"FOREBAY_MAX_SIZE": "10XB"}}
    message = refused(**{where: given[where]}, match="max_size")
    assert message.startswith(f"max_size ({origin}) cannot be '10XB': XB is not a unit of size")
    assert "Give a size" in message and "10GB" in message


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    assert len(refused(flags={"port": "9" * 10_000}, match="port")) < 300


@pytest.mark.parametrize("folder", ["a\0b", "\ud800", 5, ""])
def test_a_folder_that_cannot_be_is_refused_before_it_is_looked_for(folder: object) -> None:
    refused(flags={"dir": folder}, match=r"dir \(flag DIR\) cannot be")


def test_empty_text_empties_a_list_and_is_refused_for_a_number() -> None:
    assert load({}, {"FOREBAY_ALLOW_HOST": ""}, "/nowhere").settings.allow_host == ()
    refused(env={"FOREBAY_PORT": ""}, match="not a whole number")
    refused(env={"FOREBAY_MAX_SIZE": ""}, match="empty")


def test_a_repeated_flag_is_a_list() -> None:
    flags = {"allow_origin": ("https://a.example", "https://b.example:8443")}
    assert load(flags, {}, "/nowhere").settings.allow_origin == flags["allow_origin"]


# --- nothing that a client may have written decides ---------------------------------------------


@pytest.mark.parametrize(
    ("folder", "cwd"), [(".", "."), ("..", "inner"), ("{absolute}", "."), ("link", ".")]
)
@pytest.mark.parametrize("by", ["flag", "environment"])
def test_settings_in_the_folder_to_be_served_are_not_read(
    tmp_path: Path, folder: str, cwd: str, by: str
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    here = tmp_path / cwd
    (here / "forebay.toml").write_text("allow-delete = true")
    wanted = folder.format(absolute=tmp_path)
    given = ({"dir": wanted}, {}) if by == "flag" else ({}, {"FOREBAY_DIR": wanted})
    loaded = load(*given, here)
    assert loaded.settings.allow_delete is False
    assert loaded.unread == str(here / "forebay.toml")
    assert load({"dir": "elsewhere"}, {}, here).settings.allow_delete is True


def test_a_settings_file_that_leads_into_the_served_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "mine.txt").write_text("allow-delete = true")
    (tmp_path / "forebay.toml").symlink_to("served/mine.txt")
    assert load({"dir": "served"}, {}, tmp_path).settings.allow_delete is False


@pytest.mark.parametrize("text", ['dir = "."', f'dir = "{os.sep}"'])
def test_a_settings_file_cannot_name_the_folder_that_it_lies_in(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="lies in the folder to be served"):
        from_toml(tmp_path, text)


def test_a_named_settings_file_is_read_where_no_client_can_write_it(tmp_path: Path) -> None:
    for name in ("forebay.toml", ".mine.toml", "mine.toml"):
        (tmp_path / name).write_text("allow-delete = true")
    for by in ({"config": "forebay.toml"}, {"config": ".mine.toml"}):
        assert load({"dir": ".", **by}, {}, tmp_path).settings.allow_delete is True
    env = {"FOREBAY_CONFIG": str(tmp_path / "forebay.toml")}
    assert load({"dir": str(tmp_path)}, env, "/").settings.allow_delete is True
    refused(match="mine.toml lies in", flags={"dir": ".", "config": "mine.toml"}, cwd=tmp_path)


SERVICE = {
    "FOREBAY_PORT": "tcp://10.96.0.7:80",
    "FOREBAY_SERVICE_HOST": "10.96.0.7",
    "FOREBAY_SERVICE_PORT": "80",
    "FOREBAY_SERVICE_PORT_HTTP": "80",
    "FOREBAY_PORT_80_TCP": "tcp://10.96.0.7:80",
    "FOREBAY_PORT_80_TCP_PROTO": "tcp",
    "FOREBAY_PORT_80_TCP_PORT": "80",
    "FOREBAY_PORT_80_TCP_ADDR": "10.96.0.7",
    "FOREBAY_PORT_53_UDP_ADDR": "10.96.0.7",
    "FOREBAY_UPLOADS_SERVICE_HOST": "10.96.0.8",
    "FOREBAY_UPLOADS_PORT": "tcp://10.96.0.8:8000",
    "FOREBAY_UPLOADS_PORT_8000_TCP": "tcp://10.96.0.8:8000",
    "FOREBAY_NAME": "/app/forebay",
    "FOREBAY_ENV_PYTHON_VERSION": "3.11",
}


def test_what_kubernetes_and_docker_tell_of_a_service_of_our_name_is_no_setting() -> None:
    assert load({}, SERVICE, "/nowhere").settings == Settings()
    loaded = load({}, {**SERVICE, "FOREBAY_PORT": "9000"}, "/nowhere")
    assert loaded.settings.port == 9000
    for name, value in (("FOREBAY_PORT", "tcp"), ("FOREBAY_SERVICE_HOTS", "x")):
        refused(match=name if "HOTS" in name else "port", env={name: value})
