"""A part that a test needs and this machine has not: a skip, or a failure where CI has it all."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def need(problem: str | None) -> None:
    """Skips the calling test for `problem`, if there is one."""
    if problem is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this must not be skipped here: {problem}")
    pytest.skip(problem)


@functools.cache
def no_program(*names: str) -> str | None:
    missing = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@functools.cache
def no_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


@functools.cache
def no_strace() -> str | None:
    """strace is there and may trace, which containers often forbid."""
    if problem := no_program("strace"):
        return problem
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"strace does not work: {tried.stderr.strip()}"


@functools.cache
def no_loop_mounts() -> str | None:
    """A filesystem in a file can be made and mounted."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if problem := no_root() or no_program("mkfs.ext4", "mount", "umount"):
        return problem
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder, "image"), Path(folder, "place")
        with image.open("wb") as file:
            file.truncate(8 << 20)
        place.mkdir()
        made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True)
        mounted = subprocess.run(
            ["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True
        )
        if made.returncode or mounted.returncode:
            return f"cannot mount a loop device: {mounted.stderr.strip()}"
        subprocess.run(["umount", str(place)], check=True)
    return None
