"""The fixtures of `e2e`, and a server for each test of the IETF's resumable uploads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.conftest import _reused, reuse_server, start_any, start_server, store_folder
from e2e.server import ServerProcess
from lifecycle.test_tls import start_tls

__all__ = ["_reused", "reuse_server", "start_any", "start_server", "start_tls", "store_folder"]


@pytest.fixture
def server(reuse_server: Callable[..., ServerProcess]) -> ServerProcess:
    return reuse_server()
