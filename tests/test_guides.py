"""What the guides say: their code runs, their names and settings exist, every code has an entry."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import forebay
from forebay import errors
from forebay.config import describe
from forebay.http.answers import InternalError
from forebay.protocol.status import status_of

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = [
    DOCS / "guides" / f"{name}.md"
    for name in (
        "streaming-uploads",
        "resumable-uploads",
        "forms",
        "testing",
        "migrate-from-uploadfile",
        "migrate-from-django",
        "migrate-from-tusd",
    )
]
TROUBLE = DOCS / "troubleshooting.md"


def blocks(guide: Path) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^ *```", guide.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


CODE = [
    pytest.param(text, id=f"{guide.stem}-{number}")
    for guide in GUIDES
    if guide.stem != "testing"  # whose tests are run by pytest: tests/library/test_testing.py
    for number, text in enumerate(blocks(guide))
]


@pytest.mark.parametrize("text", CODE)
def test_the_code_of_the_guides_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    if "django" in text:
        setup = "import django.conf; django.conf.settings.configure()\n"
        subprocess.run([sys.executable, "-c", setup + text], check=True, timeout=60)
        return
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    exec(compile(text, "guide", "exec"), module.__dict__)  # its own namespace, as a file has
    if "uploads" in module.__dict__:
        module.uploads.close()


@pytest.mark.parametrize("guide", [*GUIDES, TROUBLE], ids=lambda path: path.stem)
def test_flags_and_public_names_in_the_guides_exist(guide: Path):
    text = guide.read_text()
    flags = {setting.flag for setting in describe()} | {"--http", "--workers"}
    named = {flag for flag in re.findall(r"`(--[a-z][a-z-]+)", text) if not flag.endswith("-")}
    assert named <= flags
    methods = set(re.findall(r"(?<![-/])\buploads\.([a-z_]+)", text))
    assert methods <= {name for name in dir(forebay.Forebay) if name[0] != "_"} | {"files"}
    for imported in re.findall(r"^ *from forebay import (.*)$", text, re.MULTILINE):
        assert {name.strip() for name in imported.split(",")} <= set(forebay.__all__)


@pytest.mark.parametrize("guide", [*GUIDES, TROUBLE], ids=lambda path: path.stem)
def test_links_in_the_guides_lead_somewhere(guide: Path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", guide.read_text()):
        if "://" not in target:
            assert (guide.parent / target).exists(), target


def every_error() -> dict[str, type[errors.ForebayError]]:
    found: dict[str, type[errors.ForebayError]] = {"FB_INTERNAL": InternalError}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.ForebayError):
            found[kind.code] = kind
    return found


def test_every_error_code_has_an_entry_that_says_cause_and_remedy():
    entries = re.findall(
        r"^### (FB_\w+)(?: \((\d+)\))?\n(.*?)(?=^#|\Z)",
        TROUBLE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    known = every_error()
    assert sorted(code for code, _, _ in entries) == sorted(known)
    for code, status, text in entries:
        assert "**Cause:**" in text and "**What to do:**" in text, code
        kind = known[code]
        if issubclass(kind, errors.UploadError):
            assert status == str(status_of(kind())), code
        else:
            assert status == ""
