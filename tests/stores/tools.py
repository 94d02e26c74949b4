"""Programs and rights that some of these tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def missing(reason: str) -> None:
    """Skips; but where every test is meant to run, nothing may be left out unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (under CI=true that is a failure)")
    pytest.skip(reason)


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            missing(f"{program} is not installed")


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount filesystems")
