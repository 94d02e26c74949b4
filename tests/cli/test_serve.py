"""What `forebay serve` decides before it serves."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from forebay.cli.options import settings_loader
from forebay.cli.serve import exposure_warning, platform_refusal
from forebay.config import Settings
from forebay.errors import ConfigError


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]
)
def test_a_loopback_address_needs_no_warning(host: str) -> None:
    assert exposure_warning(Settings(host=host)) is None


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "0.0.0.0:8000"),
        ("::", "[::]:8000"),
        ("192.168.1.5", "192.168.1.5:8000"),
        ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:8000"),
        ("files.example.com", "files.example.com:8000"),
        ("localhost.example.com", "localhost.example.com:8000"),
    ],
)
def test_any_other_address_is_warned_about(host: str, shown: str) -> None:
    warning = exposure_warning(Settings(host=host, dir="inbox"))
    assert warning is not None
    assert shown in warning
    assert "anyone who can reach it can store files" in warning
    assert str(Path("inbox").absolute()) in warning


def test_who_names_no_hosts_is_told_of_pages_that_bring_a_name_of_their_own() -> None:
    assert "--allow-host" in (exposure_warning(Settings(host="0.0.0.0")) or "")
    named = Settings(host="0.0.0.0", allow_host=("files.example",))
    assert "--allow-host" not in (exposure_warning(named) or "")


def test_a_port_that_is_not_known_yet_is_not_shown() -> None:
    assert "on 0.0.0.0, beyond" in (exposure_warning(Settings(host="0.0.0.0", port=0)) or "")


def test_windows_is_refused_and_others_are_not() -> None:
    refusal = platform_refusal("win32")
    assert refusal is not None
    assert refusal.startswith("Forebay does not run on Windows yet")
    assert platform_refusal("linux") is platform_refusal("darwin") is None


def test_the_loader_reads_the_file_anew_and_keeps_flags_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREBAY_WORKERS", "3")
    file = tmp_path / "forebay.toml"
    file.write_text("port = 1\nmax-size = 1\nworkers = 1")
    load = settings_loader({"port": "2", "max_size": None, "allow_host": (), "form": "json"})
    monkeypatch.chdir("/")
    assert load() == Settings(port=2, max_size=1, workers=3)
    file.write_text("port = 1\nmax-size = 5")
    assert load() == Settings(port=2, max_size=5, workers=3)
    assert pickle.loads(pickle.dumps(load))() == load()
    file.write_text("max-size = true")
    with pytest.raises(ConfigError, match="max_size"):
        load()
