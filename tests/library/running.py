"""Applications that use the library, run by real servers."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from e2e.server import ServerProcess

ROOT = Path(__file__).parents[2]
SERVERS = {"direct": "forebay.http.direct:DirectProtocol", "uvicorn": "httptools"}


class Application(ServerProcess):
    """`module:app` under uvicorn in an empty folder; what it stores is in `data` there."""

    ready_text = "Uvicorn running on"
    ready = re.compile(r"running on (https?)://(\S+):(\d+) ")

    def __init__(
        self, base: Path, app: str, *options: str, server: str = "direct", **more: object
    ) -> None:
        self.app = app
        self.server = server
        wrap = ["env", "-C", str(base)]
        super().__init__(base / "data", *options, wrap=wrap, **more)  # type: ignore[arg-type]

    def command(self, *options: str) -> list[str]:
        http = SERVERS[self.server]
        flags = ["--port", "0", "--http", http, "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", *flags, *options, self.app]

    def environment(self, *options: str) -> dict[str, str]:
        path = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path))}
