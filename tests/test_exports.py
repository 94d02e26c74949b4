"""The public names exist, and type checkers see the same ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import forebay


def test_every_public_name_can_be_loaded():
    for name in forebay.__all__:
        assert getattr(forebay, name) is not None


def test_type_checkers_see_exactly_the_public_names():
    tree = ast.parse(Path(forebay.__file__).read_text())
    blocks = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {
        alias.name
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(forebay.__all__) - {"__version__"}


def test_importing_the_package_loads_no_server():
    heavy = ("uvicorn", "asyncio", "click")
    code = f"import sys, forebay; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
