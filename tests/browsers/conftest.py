"""A real browser with a page of another origin, and the servers that it sends files to."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers.pages import Pages
from durability.missing import need, no_program
from e2e.server import ServerProcess
from library.running import Application

SERVERS = ("serve", "library on our class", "library on uvicorn")
COOKIE, TOKEN = "who=ann", "Bearer ann"

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def pages() -> Iterator[Pages]:
    need(no_program("chromium"))
    served = Pages()
    yield served
    served.close()


@pytest.fixture(scope="module")
def _shown(browser: Any, pages: Pages) -> Any:
    shown = browser.new_page()
    shown.goto(pages.url)
    return shown


@pytest.fixture
def page(_shown: Any, pages: Pages) -> Any:
    """The page, shown. It has a cookie that the server sees if credentials are sent."""
    if _shown.url.rstrip("/") != pages.url:
        _shown.goto(pages.url)
    _shown.evaluate("cookie => { document.cookie = cookie; localStorage.clear() }", COOKIE)
    return _shown


@pytest.fixture(scope="session")
def _started() -> Iterator[Start]:
    running: dict[tuple[str, ...], ServerProcess] = {}
    with tempfile.TemporaryDirectory(prefix="forebay-test-", dir=Path.cwd()) as base:

        def start(kind: str, origins: str, *options: str) -> ServerProcess:
            key = (kind, origins, *options)
            if key not in running:
                folder = Path(tempfile.mkdtemp(dir=base))
                if kind == "serve":
                    named = [f"--allow-origin={origin}" for origin in origins.split(",")]
                    more = ("--max-size", "3MB", "--durability", "relaxed", *options)
                    (folder / "data").mkdir()
                    running[key] = ServerProcess(folder / "data", *named, *more)
                else:
                    http = "direct" if kind == SERVERS[1] else "uvicorn"
                    env = {"PAGES": origins}
                    running[key] = Application(folder, "browsers.app:app", server=http, env=env)
            return running[key]

        yield start
        for server in running.values():
            server.stop()


@pytest.fixture
def start(_started: Start) -> Start:
    """`start(kind, origins)`: one of `SERVERS` that allows these, emptied."""

    def started(kind: str, origins: str, *options: str) -> ServerProcess:
        server = _started(kind, origins, *options)
        for name in server.published():
            with contextlib.suppress(FileNotFoundError):
                (server.folder / name).unlink()
        server.check_answers()
        return server

    return started


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, start: Start, pages: Pages) -> ServerProcess:
    """Each of them, where the page's origin is named."""
    return start(request.param, pages.url)


@dataclasses.dataclass(frozen=True)
class Way:
    """How the page says who sends: by a field that it sets, or by what the browser knows."""

    credentials: bool

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.credentials else {"Authorization": TOKEN}

    @property
    def init(self) -> dict[str, Any]:
        mode = "include" if self.credentials else "omit"
        return {"headers": self.headers, "credentials": mode}


@pytest.fixture(params=[False, True], ids=["without credentials", "with credentials"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)
