"""The wheel, built and installed into an empty environment, does what the README says."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from test_readme import run_library_example

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        reason = "the build's own packages cannot be installed here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("forebay-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and what it needs, alone."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip(python, str(wheel))
    return python


def pip(python: Path, *packages: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(python: Path, *args: str, cwd: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(python), *args], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "forebay/py.typed" in names
    assert "forebay/library/application.py" in names
    assert any(name.endswith("/LICENSE") for name in names)
    assert not [name for name in names if name.split("/")[0] in ("tests", "docs", "examples")]


def test_the_core_needs_no_framework(installed: Path, tmp_path: Path):
    listed = run(installed, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    for name in ("fastapi", "starlette", "django", "litestar", "httpx"):
        assert f"{name}==" not in listed
    code = (
        "import forebay; [getattr(forebay, name) for name in forebay.__all__];"
        "uploads = forebay.Forebay('data', durability='relaxed'); uploads.files; uploads.resumable;"
        "uploads.close(); print(forebay.__file__)"
    )
    assert str(installed.parents[1]) in run(installed, "-c", code, cwd=tmp_path)
    assert "serve" in run(installed, "-m", "forebay", "--help", cwd=tmp_path)


def test_the_readmes_library_example_runs_there(installed: Path, tmp_path: Path):
    pip(installed, "fastapi")
    run_library_example(tmp_path, str(installed))
