"""Real servers for tests, in any folder of them."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import self_signed
from durability.missing import need, no_program
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
    for server in started:
        server.check_answers()


@pytest.fixture
def server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """One with its defaults, but relaxed: tests of durability start their own."""
    return start_server("--durability", "relaxed")


CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MOST_REUSED = 12
"""Servers that wait for their next test. Each costs memory, and wakes up ten times a second."""


class ReusedServers:
    """Servers that wait for the next test with the same options, those used last."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._running: dict[tuple[str, ...], ServerProcess] = {}  # used last: at the end
        self._count = 0

    def start(self, *options: str, shell: str = "forebay") -> ServerProcess:
        key = (shell, *options)
        server = self._running.pop(key, None)
        if server is None or not self._is_as_new(server):
            while len(self._running) >= MOST_REUSED:
                self._stop(self._running.pop(next(iter(self._running))))
            self._count += 1
            folder = self._base / str(self._count)
            folder.mkdir()
            server = SHELLS[shell](folder, "--durability", "relaxed", *options)
        self._running[key] = server
        return server

    def _is_as_new(self, server: ServerProcess) -> bool:
        server.check_answers()
        if self._emptied(server):
            return True
        self._stop(server)
        return False

    def _stop(self, server: ServerProcess) -> None:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)

    def _emptied(self, server: ServerProcess) -> bool:
        """Whether it runs, and has nothing of its last test any more."""
        if server.process.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            for name in server.leftovers():
                path = f"/uploads/{name.rpartition('/')[2]}"
                for fields in ({"Tus-Resumable": "1.0.0"}, {}):  # whichever began it
                    server.request("DELETE", path, headers=fields)
        if server.leftovers():
            return False
        self._empty(server.folder)
        return True

    def _empty(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                if path.name != ".forebay":
                    shutil.rmtree(path)
            else:
                path.unlink()

    def stop(self) -> None:
        for server in self._running.values():
            self._stop(server)


@pytest.fixture(scope="session")
def _reused() -> Iterator[ReusedServers]:
    with tempfile.TemporaryDirectory(prefix="forebay-test-", dir=Path.cwd()) as name:
        reused = ReusedServers(Path(name))
        yield reused
        reused.stop()


@pytest.fixture
def reuse_server(_reused: ReusedServers) -> Callable[..., ServerProcess]:
    """As `start_server` and relaxed, but one that an earlier test may have used, emptied.

    For tests that leave it as they found it: running, and with no memory of what they did.
    """
    return _reused.start


@pytest.fixture(params=SHELLS)
def start_any(
    request: pytest.FixtureRequest, _reused: ReusedServers
) -> Callable[..., ServerProcess]:
    """As `reuse_server`, once on each ASGI server (`having(...)` chooses among them)."""
    return functools.partial(_reused.start, shell=request.param)


@pytest.fixture
def start_tls(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> Callable[..., ServerProcess]:
    """As `start_server` and relaxed, with TLS by the files in `tmp_path`."""
    key, certificate = self_signed(tmp_path)
    tls = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]

    def start(*options: str) -> ServerProcess:
        server = start_server("--durability", "relaxed", *tls, *options)
        assert server.scheme == "https"
        return server

    return start


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Not for all of a session: while it runs, no other test can use asyncio."""
    need(no_program("chromium"))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM
        )
        yield started
        started.close()
