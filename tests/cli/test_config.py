"""The command line as people meet it: each test runs the real program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.config import Settings, describe, load
from forebay.version import __version__


def forebay(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "forebay", *arguments],
        cwd=cwd,
        env={**clean, "COLUMNS": "80", **(env or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def printed(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    result = forebay(*arguments, cwd=cwd, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refused(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    result = forebay(*arguments, cwd=cwd, env=env)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert printed("--version", cwd=tmp_path) == f"forebay {__version__}\n"


def test_the_installed_program_is_the_same_as_the_module(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("forebay")
    if not program.exists():
        pytest.skip("forebay is not installed beside this Python")
    result = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout == printed("--help", cwd=tmp_path)
    assert result.stdout.startswith("Usage: forebay ")


def test_help_does_not_import_what_serving_needs(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['forebay', 'serve', '--help']\n"
        "from forebay.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    loaded = result.stderr
    assert "'click'" in loaded
    for heavy in ("uvicorn", "uvloop", "httptools", "asyncio", "sqlite3", "tomllib"):
        assert f"'{heavy}'" not in loaded


def test_reading_settings_imports_neither_click_nor_a_server() -> None:
    code = (
        "import sys, forebay.config as c; c.load({}, {}, '/nowhere')\n"
        "print(sorted(m.split('.')[0] for m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0
    for heavy in ("click", "uvicorn", "asyncio", "tomllib", "difflib"):
        assert f"'{heavy}'" not in result.stdout


@pytest.mark.parametrize("command", ["serve", "config"])
def test_help_shows_every_setting_with_its_variable_and_default(
    tmp_path: Path, command: str
) -> None:
    text = " ".join(printed(command, "--help", cwd=tmp_path).split())
    for setting in describe():
        default = setting.kind.show(setting.default)
        default = default.replace(",", ", ") or ("empty" if setting.kind.repeats else "none")
        assert setting.flag in text
        assert setting.help in text
        assert setting.group + ":" in text
        star = r" \*" if setting.live else r"(?! \*)"
        assert re.search(rf"\[{setting.env}; default: {re.escape(default)}\]{star}", text)
    assert "--no-access-log" in text
    assert "[FOREBAY_CONFIG; default: ./forebay.toml" in text


def test_help_of_serve_has_three_examples_that_its_flags_allow(tmp_path: Path) -> None:
    text = printed("serve", "--help", cwd=tmp_path)
    examples = re.findall(r"^ +(forebay serve (?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        arguments = example.replace("\\\n", " ").replace("'", "").split()[2:]
        printed("config", *arguments, cwd=tmp_path)


def test_config_prints_each_value_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "forebay.toml").write_text('max-size = "10GB"\nport = 1')
    env = {"FOREBAY_PORT": "2", "FOREBAY_ALLOW_HOST": "a,b"}
    text = printed("config", "inbox", "--no-access-log", cwd=tmp_path, env=env)
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in text.splitlines()}
    assert list(rows) == [setting.name for setting in describe()]
    assert rows["dir"] == ["inbox", "flag DIR"]
    assert rows["access_log"] == ["false", "flag --access-log"]
    assert rows["port"] == ["2", "environment FOREBAY_PORT"]
    assert rows["allow_host"] == ["a,b", "environment FOREBAY_ALLOW_HOST"]
    assert rows["max_size"] == ["10GB", f"file {tmp_path}/forebay.toml"]
    assert rows["host"] == ["127.0.0.1", "default"]


def test_config_as_json_has_numbers_in_bytes_and_seconds(tmp_path: Path) -> None:
    flags = ["--max-size", "1MiB", "--retention", "7d", "--allow-origin", "*"]
    found = json.loads(printed("config", *flags, "--json", cwd=tmp_path))
    assert list(found) == [setting.name for setting in describe()]
    assert found["max_size"] == {
        "value": 2**20, "source": "flag", "from": "--max-size", "live": True
    }  # fmt: skip
    assert found["retention"]["value"] == 604800
    assert found["allow_origin"]["value"] == ["*"]
    assert found["file_mode"]["value"] == "640"
    assert found["ssl_keyfile"] == {
        "value": None, "source": "default", "from": None, "live": False
    }  # fmt: skip


def test_config_as_toml_can_be_saved_and_read_back(tmp_path: Path) -> None:
    flags = [
        'in "quotes" \\ é', "--max-size", "10GB", "--durability", "relaxed", "--no-resumable",
        "--allow-host", "a.example", "--allow-host", "b.example:8000", "--file-mode", "600",
        "--linger-timeout", "250ms",
    ]  # fmt: skip
    # An ASCII terminal must not make another file of it.
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    text = printed("config", *flags, "--toml", cwd=tmp_path)
    assert forebay("config", *flags[1:], "--toml", cwd=tmp_path, env=env).returncode == 0
    (tmp_path / "forebay.toml").write_text(text, encoding="utf-8")
    settings = load({}, {}, tmp_path).settings
    assert settings == Settings(
        dir='in "quotes" \\ é',
        max_size=10**10,
        durability=settings.durability.RELAXED,
        resumable=False,
        allow_host=("a.example", "b.example:8000"),
        file_mode=0o600,
        linger_timeout=0.25,
    )
    assert printed("config", "--toml", cwd=tmp_path) == text


def test_a_negative_flag_undoes_a_variable(tmp_path: Path) -> None:
    env = {"FOREBAY_ALLOW_DELETE": "true", "FOREBAY_ACCESS_LOG": "false"}
    flags = ["--no-allow-delete", "--access-log", "--json"]
    found = json.loads(printed("config", *flags, cwd=tmp_path, env=env))
    assert (found["allow_delete"]["value"], found["access_log"]["value"]) == (False, True)


@pytest.mark.parametrize("command", ["serve", "config", "sweep"])
def test_a_wrong_setting_ends_with_a_message_and_exit_code_2(tmp_path: Path, command: str) -> None:
    message = refused(command, cwd=tmp_path, env={"FOREBAY_MAX_SIZE": "10XB"})
    assert message.startswith("forebay: max_size (environment FOREBAY_MAX_SIZE) cannot be '10XB'")
    message = refused(command, cwd=tmp_path, env={"FOREBAY_MAX_SIZ": "1"})
    assert "FOREBAY_MAX_SIZ is no setting. Did you mean FOREBAY_MAX_SIZE?" in message
    assert "no file" in refused(command, "--config", "missing.toml", cwd=tmp_path)
    (tmp_path / "forebay.toml").write_text("prot = 1")
    assert "Did you mean port?" in refused(command, cwd=tmp_path)


def test_a_wrong_flag_ends_with_a_message_and_exit_code_2(tmp_path: Path) -> None:
    message = refused("serve", "--port", "http", cwd=tmp_path)
    assert message == (
        "forebay: port (flag --port) cannot be 'http': it is not a whole number. "
        "Give a whole number from 0 to 65535.\n"
    )
    assert "--max-size" in refused("serve", "--max-siz", "1", cwd=tmp_path)
    message = refused("serve", "--memory-budget", "1MiB", cwd=tmp_path)
    assert "(memory_threshold: default; memory_budget: flag --memory-budget)" in message


def test_a_tls_file_that_is_missing_is_told_before_anything_starts(tmp_path: Path) -> None:
    message = refused("serve", "--ssl-certfile", "c", "--ssl-keyfile", "k", cwd=tmp_path)
    assert message == "forebay: ssl_certfile: c cannot be read: No such file or directory.\n"
    assert not (tmp_path / "data").exists()


def test_a_folder_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    assert "dir (flag DIR) cannot be" in refused("serve", name, cwd=tmp_path)
