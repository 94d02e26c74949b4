"""SIGHUP reads forebay.toml again, without a restart and without touching what runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from lifecycle.uploading import HeldUpload, eventually, ready

Start = Callable[..., ServerProcess]
BODY = bytes(300_000)


class Configured:
    """A server that reads a file, and is told when the file changes."""

    def __init__(self, start: Start, file: Path, text: str, workers: int = 1) -> None:
        self.file = file
        self.workers = workers
        file.write_text(text)
        options = ["--durability", "relaxed", "--config", str(file), "--workers", str(workers)]
        self.server = ready(start(*options))

    def change(self, text: str, said: str) -> None:
        """Writes the file, sends SIGHUP, and waits until every process said so."""
        count = self.server.log.count(said)
        self.file.write_text(text)
        self.server.process.send_signal(signal.SIGHUP)
        eventually(said, lambda: self.server.log.count(said) >= count + self.workers)

    def put(self, name: str) -> int:
        return self.server.request("PUT", f"/files/{name}", BODY)[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lower_limit_applies_to_the_next_upload_and_not_to_a_running_one(
    start_server: Start, tmp_path: Path, workers: int
) -> None:
    configured = Configured(start_server, tmp_path / "f.toml", 'max-size = "1MB"', workers)
    running = HeldUpload(configured.server, "running.bin", BODY, 1000)
    configured.change('max-size = "1kB"', "settings read again")
    for number in range(4):
        assert configured.put(f"{number}.bin") == 413
    assert running.finish()[0] == 201
    configured.change("", "settings read again")
    assert configured.put("after.bin") == 201
    assert configured.server.published() == {"running.bin": len(BODY), "after.bin": len(BODY)}


@pytest.mark.parametrize(
    "wrong",
    ['max-size = "lots"', "max-size = ", 'no-such-thing = "1"', "\0", 'max-size = "-1"'],
)
def test_a_wrong_file_is_told_and_the_old_settings_stay(
    start_server: Start, tmp_path: Path, wrong: str
) -> None:
    configured = Configured(start_server, tmp_path / "f.toml", 'max-size = "1kB"')
    configured.change(wrong, "settings not read again")
    assert "f.toml" in configured.server.wait_for_log("settings not read again")
    assert configured.put("a.bin") == 413
    configured.change('max-size = "1MB"', "settings read again")
    assert configured.put("a.bin") == 201


def test_a_file_that_is_gone_is_told_and_the_old_settings_stay(
    start_server: Start, tmp_path: Path
) -> None:
    configured = Configured(start_server, tmp_path / "f.toml", 'max-size = "1kB"')
    configured.file.unlink()
    configured.server.process.send_signal(signal.SIGHUP)
    configured.server.wait_for_log("settings not read again")
    assert configured.put("a.bin") == 413


def test_a_setting_that_needs_a_restart_is_named_and_the_others_apply(
    start_server: Start, tmp_path: Path
) -> None:
    configured = Configured(start_server, tmp_path / "f.toml", 'threads = 3\nmax-size = "1MB"')
    configured.change('threads = 4\nhost = "::1"\nmax-size = "1kB"', "settings read again")
    line = configured.server.wait_for_log("only at a restart")
    assert "threads" in line
    assert "host" in line
    assert "max_size" not in line
    assert configured.put("a.bin") == 413


def test_a_changed_port_is_named_as_needing_a_restart(start_server: Start, tmp_path: Path) -> None:
    """`--port 0` of the harness decides over the file, so the file has to win by another way."""
    file = tmp_path / "f.toml"
    file.write_text("port = 0")
    server = ready(start_server("--config", str(file), port_flag=False))
    file.write_text("port = 9")
    server.process.send_signal(signal.SIGHUP)
    assert "port" in server.wait_for_log("only at a restart")
    assert server.request("PUT", "/files/a.bin", b"abc")[0] == 201


def test_many_signals_in_the_middle_of_traffic_do_no_harm(
    start_server: Start, tmp_path: Path
) -> None:
    configured = Configured(start_server, tmp_path / "f.toml", 'max-size = "1MB"', 2)
    for number in range(30):
        configured.server.process.send_signal(signal.SIGHUP)
        assert configured.put(f"{number}.bin") == 201
    assert len(configured.server.published()) == 30
    assert configured.server.stop() == 0
