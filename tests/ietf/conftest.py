"""A server for each test of the IETF's resumable uploads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess


@pytest.fixture
def server(reuse_server: Callable[..., ServerProcess]) -> ServerProcess:
    return reuse_server()
