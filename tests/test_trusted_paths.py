"""What the process reads by name is never what a client may have written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forebay.errors import ConfigError, InvalidName
from forebay.model import RESERVED_NAMES
from forebay.protocol.names import (
    from_client_name,
    is_hidden_name_error,
    validate_name,
    validate_path,
)
from forebay.trusted_paths import check_modules, lies_within, may_be_uploaded


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_name_that_programs_read_settings_from_is_not_stored(name: str) -> None:
    for written in (
        name,
        name.upper(),
        name.title(),
        f"\u200b{name}",
        name[:3] + "\u00ad" + name[3:],
    ):
        with pytest.raises(InvalidName):
            validate_name(written)
        with pytest.raises(InvalidName):
            validate_path(["folder", written])
        with pytest.raises(InvalidName):
            from_client_name(f"C:\\{written}")
    with pytest.raises(InvalidName) as caught:
        validate_name(name)
    assert is_hidden_name_error(caught.value)  # of a folder's files the others are taken
    assert validate_name(f"my-{name}") == f"my-{name}"
    assert validate_name(f"{name}.txt") == f"{name}.txt"


@pytest.mark.parametrize(
    ("path", "within", "uploadable"),
    [
        ("served/a", True, True),
        ("served", True, True),
        ("served/d/e", True, True),
        ("served/.d/e", True, False),
        ("served/.env", True, False),
        ("served/forebay.toml", True, False),
        ("served/d/Forebay.TOML", True, False),
        ("served2/a", False, False),
        ("a", False, False),
        ("served/../a", False, False),
        ("into/a", True, True),
        ("served/out", True, False),
    ],
)
def test_where_a_path_lies_is_judged_through_links(
    tmp_path: Path, path: str, within: bool, uploadable: bool
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").symlink_to("served")
    (tmp_path / "served" / "out").symlink_to("../elsewhere")
    folder = str(tmp_path / "served")
    assert lies_within(str(tmp_path / path), folder) is within
    if path != "served/out":  # a link that clients could replace; it lies there all the same
        assert may_be_uploaded(str(tmp_path / path), folder) is uploadable


def test_a_folder_with_modules_of_this_python_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / ".venv").mkdir()
    with pytest.raises(ConfigError, match="looks for modules in"):
        check_modules(str(tmp_path), [str(tmp_path / "lib")])
    check_modules(str(tmp_path), [str(tmp_path / ".venv"), "/nowhere", str(tmp_path / "no.zip")])
    check_modules(str(tmp_path / "lib"), [str(tmp_path)])


@pytest.mark.parametrize("command", ["serve", "config", "uploads"])
def test_a_module_in_the_working_folder_is_never_run(tmp_path: Path, command: str) -> None:
    """`cd D; python -m forebay serve .` has D among the places where modules are looked for."""
    for name in ("click", "uvicorn", "http_sf", "tomllib", "httptools", "json"):
        (tmp_path / f"{name}.py").write_text("open('was-run', 'w').close()\nraise SystemExit(9)\n")
    arguments = {
        "serve": ["serve", ".", "--port", "0", "--workers", "x"],
        "config": ["config", "."],
        "uploads": ["uploads", "list", "."],
    }[command]
    subprocess.run(
        [sys.executable, "-m", "forebay", *arguments],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert not (tmp_path / "was-run").exists()
