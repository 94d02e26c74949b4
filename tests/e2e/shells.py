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


class PlainApplication(AnyServer):
    """uvicorn with our protocol class, and an application that knows nothing of Forebay."""

    def command(self, *options: str) -> list[str]:
        ours = ["--http", "forebay.http.direct:DirectProtocol", "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", "--port", "0", *ours, "e2e.plain_app:app"]


SHELLS: dict[str, type[ServerProcess]] = {
    "forebay": ServerProcess,
    "uvicorn": Uvicorn,
    "hypercorn": Hypercorn,
}

LACKING: dict[str, frozenset[str]] = {
    # hypercorn says 100 as soon as it has the head.
    "100 only when accepted": frozenset({"hypercorn"}),
    # They close, or stop reading, while the client sends: it may see a reset and no answer.
    "gentle close": frozenset({"uvicorn", "hypercorn"}),
    # They read ahead for each connection before the application asks.
    "memory apart from the number of uploads": frozenset({"uvicorn", "hypercorn"}),
}
"""By feature: the servers that do not have it.

What the connection itself does before there is a request (time limit and size of a head, what
is malformed, closing of idle connections) is each server's own and is not tested on others.
"""


def servers_having(feature: str) -> list[str]:
    return [name for name in SHELLS if name not in LACKING[feature]]


def having(feature: str) -> pytest.MarkDecorator:
    """Runs a test that uses `start_any` on the servers with a feature of `LACKING`."""
    return pytest.mark.parametrize("start_any", servers_having(feature), indirect=True)
