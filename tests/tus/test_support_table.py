"""`docs/protocol-support.md` says of each item of tus what is true, and by which test."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs/protocol-support.md"
ROW = re.compile(r"\| (\d+) \| ([a-z ]+) \| ([^|]*) \| ([^|]*) \|")


def rows() -> dict[int, tuple[str, list[str]]]:
    text = DOCS.read_text().partition("## tus 1.0")[2].partition("\n## ")[0]
    found = {}
    for line in text.splitlines():
        if match := ROW.fullmatch(line):
            assert int(match[1]) not in found
            found[int(match[1])] = (match[2], re.findall(r"`([^`]+::[^`]+)`", match[4]))
    return found


@functools.cache
def defined(path: str) -> dict[str, str]:
    """The tests of a file, and their docstrings."""
    tree = ast.parse((TESTS / path).read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_item_has_a_row() -> None:
    assert sorted(rows()) == list(range(1, 119))


@pytest.mark.parametrize("item", range(1, 119))
def test_an_item_is_done_by_tests_that_cite_it(item: int) -> None:
    status, tests = rows()[item]
    assert status in ("done", "partly", "does not arise")
    assert tests or status == "does not arise"
    for test in tests:
        path, _, name = test.partition("::")
        docstring = defined(path)[name]
        cited: set[int] = set()
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", docstring.partition(":")[0]):
            cited |= set(range(int(first), int(last or first) + 1))
        assert item in cited, f"{test} says nothing of item {item}"
