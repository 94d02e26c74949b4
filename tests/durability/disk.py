"""A small filesystem of its own, in a file."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


class Disk:
    """An ext4 filesystem of `size` bytes, mounted at `place`."""

    def __init__(self, folder: Path, size: int) -> None:
        self.place = folder / "disk"
        self.place.mkdir()
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
        self._run("mount", "-o", "loop", str(image), str(self.place))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def free(self) -> int:
        status = os.statvfs(self.place)
        return status.f_bavail * status.f_frsize

    def wait_for_free(self, least: int) -> None:
        """Until there are `least` bytes; ext4 gives some back only when it writes its journal."""
        deadline = time.monotonic() + 20
        while self.free() < least:
            assert time.monotonic() < deadline, f"{self.free()} of {least} bytes came back"
            os.sync()
            time.sleep(0.05)

    def fail(self) -> None:
        """What a broken disk looks like: ext4 notes an error and turns read-only for good."""
        self._run("mount", "-o", "remount,errors=remount-ro", str(self.place))
        found = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(self.place)],
            check=True,
            capture_output=True,
            text=True,
        )
        device = Path(found.stdout.strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("made by a test")

    def close(self) -> None:
        self._run("umount", str(self.place))
