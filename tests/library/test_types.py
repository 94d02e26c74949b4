"""What strict type checkers say of an application that is written as the guides say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

APP = """
from typing import Annotated

from pydantic import BaseModel
from starlette.requests import Request

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

class Film(BaseModel):
    title: str
    year: int = 2000

Films = Annotated[
    Form[Film], uploads.form({"clips": ["videos/"], "cover": None}, fields=Film, required="clips")
]
Simple = Annotated[Form, uploads.form("videos/", fields={"count": (int, 1), "tags": list[str]})]

async def films(form: Films, simple: Simple) -> tuple[str, list[str]]:
    reveal_type(form.model.year)
    reveal_type(form.files["cover"])
    reveal_type(form.files.getall("clips"))
    reveal_type(form.fields["title"])
    return form.model.title, [clip.name for clip in form["clips"]]

async def by_scope(request: Request) -> int:
    async with uploads.body(request.scope, request.receive) as body:
        size = body.size
    async with uploads.received(request.scope, request.receive, to="videos/") as upload:
        uploads.upload_of(request.scope)
    return uploads.answer_to(forebay.Forbidden(), request.scope).status + size + upload.size

async def by_hand(request: Request) -> str:
    async with uploads.received_form(request, files="videos/", fields=Film) as form:
        title = form.model.title
    async with uploads.received_form(request, files={"clip": "videos/"}) as plain:
        return title + plain.fields["title"]

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
    for revealed in ("int", "str", "Upload", "list["):
        assert re.search(rf'Revealed type is "[a-z_.]*{re.escape(revealed)}', told), told
    assert told.count("error:") == 1, told
    assert 'Unexpected keyword argument "max_sise"' in told
