"""Any server is ours or another, one of each kind."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess


@pytest.fixture(params=["forebay", "hypercorn"])
def start_any(
    request: pytest.FixtureRequest, reuse_server: Callable[..., ServerProcess]
) -> Callable[..., ServerProcess]:
    """As `reuse_server`, on our own server and on one that only has `receive()`."""
    return functools.partial(reuse_server, shell=request.param)
