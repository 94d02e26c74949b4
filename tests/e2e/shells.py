"""The servers that one and the same application runs on, and what each of them cannot do."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from e2e.server import ServerProcess


class AnyServer(ServerProcess):
    """Another ASGI server with the application of `asgi_app.py`; flags become its settings."""

    ready_text = "unning on http://127.0.0.1"
    ready = re.compile(r"unning on (https?)://(\S+):(\d+) ")

    def environment(self, *options: str) -> dict[str, str]:
        path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        found = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "FOREBAY_DIR": str(self.folder)}
        given = list(options)
        while given:
            flag = given.pop(0)
            value = given.pop(0) if given and not given[0].startswith("--") else "true"
            name = "FOREBAY_" + flag.removeprefix("--").replace("-", "_").upper()
            found[name] = f"{found[name]},{value}" if name in found else value
        return found


class Uvicorn(AnyServer):
    """With the protocol class of its own that parses with httptools."""

    def command(self, *options: str) -> list[str]:
        start = [
            sys.executable,
            "-m",
            "uvicorn",
            "--port",
            "0",
            "--http",
            "httptools",
            "--no-access-log",
        ]
        return [*start, "e2e.asgi_app:app"]


class Hypercorn(AnyServer):
    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "hypercorn", "--bind", "127.0.0.1:0", "e2e.asgi_app:app"]


SHELLS: dict[str, type[ServerProcess]] = {
    "forebay": ServerProcess,
    "uvicorn": Uvicorn,
    "hypercorn": Hypercorn,
}

LACKING: dict[str, frozenset[str]] = {
    "100 only when accepted": frozenset({"hypercorn"}),
    "gentle close": frozenset({"uvicorn", "hypercorn"}),
    "any name in the path": frozenset(),
}
"""By feature: the servers that do not have it."""


def having(feature: str) -> pytest.MarkDecorator:
    """Runs a test that uses `start_any` on the servers with a feature of `LACKING`."""
    names = [name for name in SHELLS if name not in LACKING[feature]]
    return pytest.mark.parametrize("start_any", names, indirect=True)
