"""From a module of the sources one finds its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src/forebay"
NAME = re.compile(r"`([a-z0-9_/.]+)`")
ROWS = re.findall(r"^\| (`.*`) \| (.*) \|$", (TESTS / "README.md").read_text(), re.MULTILINE)
SOURCE_ROWS = [row for row in ROWS if (SOURCES / NAME.findall(row[0])[0]).exists()]
NAMED = {name.rstrip("/") for sources, _ in SOURCE_ROWS for name in NAME.findall(sources)}


@pytest.mark.parametrize("module", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.name)
def test_every_module_has_a_place_for_its_tests(module: Path):
    path = module.relative_to(SOURCES)
    if module.stem.startswith("_"):
        return
    beside = TESTS / path.parent / f"test_{path.name}"
    assert beside.exists() or path.parts[0] in NAMED, f"tests/README.md: where is {path}?"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_place_is_there(row: tuple[str, str]):
    sources, tests = row
    if row in SOURCE_ROWS:
        assert [name for name in NAME.findall(sources) if not (SOURCES / name).exists()] == []
        assert [name for name in NAME.findall(tests) if not (TESTS / name).exists()] == []
    else:
        assert [name for name in NAME.findall(sources) if not (TESTS / name).exists()] == []
