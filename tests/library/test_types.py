"""What strict type checkers say of an application that is written as the guides say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

APP = """
from typing import Annotated

import forebay
from forebay import Forebay, Form, Upload

uploads = Forebay("data/", max_size="5GB", durability="relaxed")

@uploads.on_verify
def verify(upload: Upload) -> None: ...

Video = Annotated[Upload, uploads.receive("videos/", max_size="2GB", types=["video/*"])]
Clip = Annotated[Form, uploads.form({"clip": "videos/"}, required=["clip"])]

async def handler(video: Video, form: Clip) -> tuple[str, str | None]:
    clip: Upload = form["clip"]
    return clip.name, video.path

reveal_type(verify)
reveal_type(forebay.__version__)
uploads.receive("videos/", max_sise=1)
"""


def mypy(*arguments: str, folder: Path) -> str:
    options = ["--strict", "--python-version=3.11", f"--cache-dir={folder}", "--config-file="]
    command = [sys.executable, "-m", "mypy", *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder).stdout


@pytest.mark.slow
def test_strict_type_checkers_find_nothing_in_the_examples(tmp_path: Path):
    # Django comes without types.
    examples = [str(path) for path in EXAMPLES.glob("*.py") if path.name != "django_app.py"]
    assert len(examples) > 4
    assert "Success" in mypy(*examples, folder=tmp_path)


@pytest.mark.slow
def test_strict_type_checkers_know_what_is_declared(tmp_path: Path):
    (tmp_path / "app.py").write_text(APP)
    told = mypy("app.py", folder=tmp_path)
    assert 'Revealed type is "def (upload: forebay.library.upload.Upload)"' in told
    assert 'Revealed type is "str"' in told or 'Revealed type is "builtins.str"' in told
    assert told.count("error:") == 1
    assert 'Unexpected keyword argument "max_sise"' in told
