"""The table of settings: each is described, checked, and survives being written and read."""

from __future__ import annotations

import dataclasses
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import config
from forebay.cli.config import as_toml
from forebay.config import Setting, Settings, describe, kinds, load
from forebay.errors import ConfigError
from forebay.model import Conflict, Durability, GiB, MiB

# --- the object ------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", describe(), ids=lambda s: s.name)
def test_each_setting_is_described_whole(setting: Setting) -> None:
    assert setting.help.endswith(".")
    assert setting.group and setting.kind.expects and setting.kind.metavar
    assert setting.env == "FOREBAY_" + setting.name.upper()
    shown = setting.kind.show(setting.default)
    assert setting.kind.parse(shown) == setting.default


def test_settings_are_frozen_and_compared_hashed_and_pickled_by_value() -> None:
    settings = Settings(port=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 2  # type: ignore[misc]
    assert settings == Settings(port=1) != Settings()
    assert hash(settings) == hash(Settings(port=1))
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_replacing_gives_a_checked_copy() -> None:
    old = Settings()
    new = old.replace(max_size=GiB, port=0)
    assert (new.max_size, new.port, old.max_size, old.port) == (GiB, 0, None, 8000)
    with pytest.raises(ConfigError, match="port cannot be 65536: it is out of range"):
        old.replace(port=65536)
    with pytest.raises(ConfigError, match=r"memory_threshold .* is more than memory_budget"):
        old.replace(memory_budget=1)
    with pytest.raises(ConfigError, match=r"no setting prot\. Did you mean port"):
        old.replace(prot=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_size": "10GB"},
        {"port": True},
        {"durability": "strict"},
        {"on_conflict": "nothing"},
        {"allow_host": ["a"]},
        {"allow_host": ("A",)},
        {"head_timeout": float("nan")},
        {"access_log": None},
        {"dir": None},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Settings(**wrong)


def test_the_tls_files_go_together() -> None:
    assert Settings(ssl_certfile="c", ssl_keyfile="k").ssl_keyfile == "k"
    with pytest.raises(ConfigError, match="ssl_keyfile is set and ssl_certfile is not"):
        Settings(ssl_keyfile="k")


def test_only_what_is_not_live_needs_a_restart() -> None:
    old = Settings()
    assert config.changes_needing_restart(old, old) == ()
    assert config.changes_needing_restart(old, old.replace(max_size=5, log_level="debug")) == ()
    new = old.replace(port=1, max_size=5, durability=Durability.RELAXED)
    assert set(config.changes_needing_restart(old, new)) == {"port", "durability"}


def test_exactly_the_agreed_settings_are_live() -> None:
    fixed = {
        "dir", "host", "port", "workers", "buffer_size", "threads", "durability", "ssl_certfile",
        "ssl_keyfile", "log_format", "access_log", "file_mode", "folder_mode", "resumable",
        "max_append_size", "max_head", "compress_at_rest", "compress_types",
    }  # fmt: skip
    assert {s.name for s in describe() if not s.live} == fixed


# --- there and back --------------------------------------------------------------------------

PATHS = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]),
    min_size=1,
).filter(str.strip)
SIZES = st.integers(0, 2**63 - 1)
WAITS = st.floats(0.01, 86_400)
HOSTS = st.lists(st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True), unique=True)
ORIGINS = st.lists(st.from_regex(r"https?://[a-z0-9.-]{1,20}", fullmatch=True), unique=True)

ANY_SETTINGS = st.builds(
    Settings,
    dir=PATHS,
    port=st.integers(0, 65_535),
    max_size=st.none() | st.integers(1, 2**63 - 1),
    on_conflict=st.sampled_from(Conflict),
    durability=st.sampled_from(Durability),
    min_free=SIZES,
    min_rate=SIZES,
    memory_threshold=st.integers(0, 64 * MiB),
    file_mode=st.integers(0, 0o777).map(lambda mode: mode | 0o400),
    head_timeout=WAITS,
    drain_timeout=st.floats(0, 86_400),
    retention=st.floats(0, 3650 * 86_400) | st.integers(0, 10**8),
    resumable=st.booleans(),
    allow_host=HOSTS.map(tuple),
    allow_origin=ORIGINS.map(tuple),
    log_level=st.sampled_from(["critical", "info", "debug"]),
)


@given(settings=ANY_SETTINGS)
def test_settings_survive_being_written_as_toml(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / f"written-{os.getpid()}.toml"
    path.write_text(as_toml(settings), encoding="utf-8", newline="")
    loaded = load({"config": str(path)}, {}, folder)
    assert loaded.settings == settings
    assert {source.kind for source in loaded.sources.values()} == {"file"}


@given(settings=ANY_SETTINGS)
def test_settings_survive_being_written_as_environment(settings: Settings) -> None:
    environ = {s.env: s.kind.show(getattr(settings, s.name)) for s in describe()}
    assert load({}, environ, "/nowhere").settings == settings


@given(
    raw=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
)
@pytest.mark.parametrize("setting", describe(), ids=lambda s: s.name)
def test_anything_at_all_is_a_value_or_a_config_error(setting: Setting, raw: object) -> None:
    try:
        loaded = load({setting.name: raw}, {}, "/nowhere")
    except ConfigError as error:
        assert setting.name in error.message
    else:
        setting.kind.check(getattr(loaded.settings, setting.name))


def test_each_setting_says_its_unit_and_range() -> None:
    for setting in describe():
        kind = setting.kind
        if isinstance(kind, kinds.Duration):
            assert f"from {kind.show(kind.least)} to {kind.show(kind.most)}" in kind.expects
        if isinstance(kind, kinds.Count):
            assert f"from {kind.least} to {kind.most}" in kind.expects
        if isinstance(kind, kinds.Size | kinds.Rate):
            assert "written like" in kind.expects
