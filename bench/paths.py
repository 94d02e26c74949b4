"""Where things are: the checkout, what `setup` built, and programs from either PATH or there."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
BUILD = BENCH / ".build"
BIN = BUILD / "bin"
PEERS = BUILD / "py"
NODE = BUILD / "node"
APPS = BENCH / "contenders" / "apps"
RESULTS = BENCH / "results"
ENDED = BUILD / "small-ended"
"""Touched when very many files were deleted."""


def program(name: str) -> str | None:
    """The path of a program: one that `setup` built, else one on PATH or in the sbin folders."""
    places = [str(BIN), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def forebay_program() -> Path:
    return ROOT / ".venv" / "bin" / "forebay"


def project_python() -> Path:
    return ROOT / ".venv" / "bin" / "python"


def peers_python() -> Path:
    return PEERS / "bin" / "python"
