"""`docs/protocol-support.md` says of every item what is done, and who proves it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/protocol-support.md"
STATUSES = {"done", "partly", "not offered", "not needed"}


def section() -> list[list[str]]:
    """The cells of the table's rows."""
    text = PAGE.read_text().partition("\n## IETF draft\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| *([0-9]+) *\|(.*)\|$", text, re.MULTILINE)
    return [[number, *(cell.strip() for cell in rest.split("|"))] for number, rest in rows]


def test_every_item_has_its_row() -> None:
    assert [int(row[0]) for row in section()] == list(range(1, 85))


def test_every_row_has_a_status_and_what_is_done_has_a_test() -> None:
    for number, status, how, tests in section():
        assert status in STATUSES, number
        assert tests or status in ("not offered", "not needed"), number
        assert how or status == "done", number


def test_every_test_that_is_named_exists() -> None:
    for number, _, _, tests in section():
        for name in re.findall(r"`([^`]+)`", tests):
            path, _, function = name.partition("::")
            source = (TESTS / path).read_text()
            assert re.search(rf"^(async )?def {function}", source, re.MULTILINE) or (
                not function
            ), f"item {number}: {name}"


def test_what_a_row_names_cites_the_item() -> None:
    """Only the tests of this dialect's own do."""
    for number, _, _, tests in section():
        for path, function in re.findall(r"`(ietf/[^`]+)::([^`]+)`", tests):
            source = (TESTS / path).read_text()
            body = source.partition(f"def {function}(")[2].partition("\ndef ")[0]
            cited = re.search(r'"""(.*?)"""', body, re.DOTALL)
            spans = re.findall(r"[0-9]+", cited[1]) if cited else []
            whole = re.search(r'^"""(.*?)"""', source, re.DOTALL)
            spans += re.findall(r"[0-9]+", whole[1]) if whole else []
            assert number in spans, f"{path}::{function} does not cite item {number}"
