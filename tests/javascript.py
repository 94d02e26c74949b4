"""JavaScript clients for tests: installed once by npm, for all test processes, and kept."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from durability.missing import need, no_program

FOLDER = Path(__file__).parent / "tus" / ".node"
TUS_JS_CLIENT = "tus-js-client@4.3.1"
UPPY = "uppy@5.2.4"


def node_modules() -> Path:
    """The folder that tus-js-client is installed in. Skips the calling test without npm."""
    with _alone():
        if not (FOLDER / "node_modules/tus-js-client").exists():
            _npm("install", "--no-audit", "--no-fund", "--silent", TUS_JS_CLIENT)
    return FOLDER


def tus_bundle() -> bytes:
    """tus-js-client as a script for pages: `window.tus`."""
    return (node_modules() / "node_modules/tus-js-client/dist/tus.min.js").read_bytes()


def uppy_bundle() -> bytes:
    """Uppy (core, Tus, XHRUpload, ...) as a script for pages: `window.Uppy`.

    Its package has the bundle, so that none of the packages it depends on is needed.
    """
    packed = FOLDER / f"{UPPY.replace('@', '-')}.tgz"
    with _alone():
        if not packed.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER) as made:
                _npm("pack", "--silent", "--pack-destination", made, UPPY)
                (Path(made) / packed.name).rename(packed)
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/dist/uppy.min.js")
        assert member is not None
        return member.read()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process installs, and others wait for it."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm(*arguments: str) -> None:
    need(no_program("node", "npm"))
    subprocess.run(["npm", *arguments], cwd=FOLDER, check=True, timeout=100, capture_output=True)
