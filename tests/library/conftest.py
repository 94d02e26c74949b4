"""Applications under test: started once for all tests that use them, stopped at the end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from library.running import SERVERS, Application

Start = Callable[..., Application]


@pytest.fixture(scope="session")
def _applications() -> Iterator[Start]:
    running: dict[object, Application] = {}
    with tempfile.TemporaryDirectory(prefix="forebay-test-", dir=Path.cwd()) as base:

        def start(app: str, server: str = "direct", *options: str) -> Application:
            key = (app, server, *options)
            if key not in running or running[key].process.poll() is not None:
                folder = Path(tempfile.mkdtemp(dir=base))
                running[key] = Application(folder, app, *options, server=server)
            return running[key]

        yield start
        for application in running.values():
            application.stop()


@pytest.fixture
def application(_applications: Start) -> Start:
    """`application("module:app", server)`: running; an earlier test may have used it."""
    return _applications


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """The server to run it with: ours, and uvicorn as it comes."""
    return str(request.param)


@pytest.fixture
def own_application(tmp_path: Path) -> Iterator[Start]:
    """As `application`, for a test that stops or kills it."""
    started: list[Application] = []

    def start(app: str, server: str = "direct", *options: str) -> Application:
        started.append(Application(tmp_path, app, *options, server=server))
        return started[-1]

    yield start
    for application in started:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            if application.process.poll() is None:
                application.kill()
    for application in started:
        application.check_answers()
