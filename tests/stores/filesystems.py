"""Small filesystems of their own, mounted for one test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .tools import missing, need, need_root

MiB = 1 << 20
SIZES = {"ext4": 64 * MiB, "xfs": 300 * MiB, "tmpfs": 16 * MiB}
MAKE = {"ext4": ["mkfs.ext4", "-q", "-m", "0"], "xfs": ["mkfs.xfs", "-q"]}


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[None]:
    """`mount ARGUMENTS PLACE`, undone in any case."""
    need_root()
    need("mount", "umount")
    place.mkdir(exist_ok=True)
    try:
        run("mount", *arguments, str(place))
    except subprocess.CalledProcessError as error:
        missing(f"nothing can be mounted here: {error.stderr.strip()}")
    try:
        yield
    finally:
        try:
            run("umount", str(place))
        except subprocess.CalledProcessError:  # something of a failed test is still open
            run("umount", "--lazy", str(place))
            raise


@contextlib.contextmanager
def filesystem(kind: str, folder: Path) -> Iterator[Path]:
    place = folder / kind
    if kind == "tmpfs":
        with mounted(place, "-t", "tmpfs", "-o", f"size={SIZES[kind]}", "tmpfs"):
            yield place
        return
    need(MAKE[kind][0])
    image = folder / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(SIZES[kind])
    run(*MAKE[kind], str(image))
    with mounted(place, "-o", "loop", str(image)):
        yield place
    image.unlink()


def free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def wait_for_free(place: Path, least: int) -> None:
    """Journals give room back only when they are written, and some in the background."""
    deadline = time.monotonic() + 60
    while free(place) < least:
        assert time.monotonic() < deadline, f"only {free(place)} of {least} bytes came back"
        os.sync()
        time.sleep(0.02)
