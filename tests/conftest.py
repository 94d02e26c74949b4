"""For every test: answers are checked where they leave, and where they arrive."""

from __future__ import annotations

import functools
import http.client
import os
import sys
from typing import Any

# Before anything of Forebay is imported; servers that tests start inherit it.
os.environ["CHECK_FOREBAY_ANSWERS"] = "1"

import httpx
import pytest
from hypothesis import settings

from answer_fields import check_once

# Without bytecode each server that a test starts compiles every module again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["e2e.fixtures"]

# How long an example takes is no result: other tests run beside it.
settings.register_profile("forebay", deadline=None)
settings.load_profile("forebay")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        action="append",
        choices=["files", "memory", "objects"],
        help="run suites that have a choice of stores on this kind only (may be repeated)",
    )


class CheckedResponse(http.client.HTTPResponse):
    """Of `http.client`, and so of requests, urllib and tuspy too."""

    def begin(self) -> None:
        super().begin()
        check_once(self.headers.items())


_init = httpx.Response.__init__


def _checked_init(self: httpx.Response, *args: Any, **more: Any) -> None:
    """Of httpx, which otherwise joins what was sent twice."""
    _init(self, *args, **more)
    check_once(self.headers.multi_items())


# How late an answer is, is no result either. This is what `httpx.get` has for its default.
httpx._config.DEFAULT_TIMEOUT_CONFIG.read = 60.0
# A context for TLS takes 35 ms to make, and else each `httpx.get` makes one.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)
http.client.HTTPConnection.response_class = CheckedResponse
httpx.Response.__init__ = _checked_init  # type: ignore[method-assign]
