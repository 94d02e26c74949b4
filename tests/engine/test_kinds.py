"""What is said of the kinds of stores that tests run on is true of tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

from engine.conftest import EVERYWHERE, EXCEPT
from kinds import KINDS

HERE = Path(__file__).parent


def test_every_exception_is_one_of_a_test_that_runs_everywhere_else() -> None:
    found = {
        node.name
        for module in EVERYWHERE
        for node in ast.walk(ast.parse((HERE / module).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set(EXCEPT) <= found
    for without, why in EXCEPT.values():
        assert without < set(KINDS)
        assert why
