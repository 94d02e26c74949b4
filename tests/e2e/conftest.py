"""Real servers for tests: each is stopped by the test that started it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.server import ServerProcess
from e2e.shells import SHELLS


@pytest.fixture
def store_folder() -> Iterator[Path]:
    """A folder on the filesystem of the checkout (a temporary one may be a tmpfs)."""
    with tempfile.TemporaryDirectory(prefix="forebay-test-", dir=Path.cwd()) as name:
        yield Path(name)


@pytest.fixture
def start_server(store_folder: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers on `store_folder` (or `folder=`); whatever still runs is killed.

    `shell=` is another ASGI server that runs the same application.
    """
    started: list[ServerProcess] = []

    def start(
        *options: str, folder: Path | None = None, shell: str = "forebay", **more: object
    ) -> ServerProcess:
        server = SHELLS[shell](folder or store_folder, *options, **more)  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start
    for server in started:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            if server.process.poll() is None:
                server.kill()
            elif server.process.stderr is not None:
                server.process.stderr.close()


@pytest.fixture
def server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """One with its defaults, but relaxed: tests of durability start their own."""
    return start_server("--durability", "relaxed")


@pytest.fixture(params=SHELLS)
def start_any(
    request: pytest.FixtureRequest, start_server: Callable[..., ServerProcess]
) -> Callable[..., ServerProcess]:
    """As `start_server`, once on each ASGI server (`having(...)` chooses among them)."""

    def start(*options: str, **more: object) -> ServerProcess:
        return start_server("--durability", "relaxed", *options, shell=request.param, **more)

    return start
