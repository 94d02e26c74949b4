"""A standard error that is full, closed or broken ends nothing."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """The answer to a PUT, as soon as the server listens."""
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("PUT", "/files/a.bin", b"hello")
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError:
            assert process.poll() is None, "the server has ended"
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError("the server never listened")


@pytest.mark.parametrize("kind", ["full", "closed", "broken"])
@pytest.mark.parametrize(
    "options", [[], ["--workers", "2"], ["--host", "0.0.0.0", "--log-format", "json"]]
)
def test_a_server_whose_standard_error_takes_nothing_serves(
    tmp_path: Path, kind: str, options: list[str]
) -> None:
    port = free_port()
    redirected = {"full": "2>/dev/full", "closed": "2>&-", "broken": ""}[kind]
    reading, writing = os.pipe()
    serve = [sys.executable, "-m", "forebay", "serve", str(tmp_path / "d"), "--port", str(port)]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *serve, *options],
        stderr=writing if kind == "broken" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")},
    )
    os.close(writing)
    os.close(reading)  # whoever read it is gone
    try:
        assert ask(port, process)[0] == 201
        held = {os.readlink(f"/proc/{process.pid}/fd/{n}") for n in (0, 1, 2)}
        assert not any(".forebay" in path or path.startswith("socket:") for path in held)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    finally:
        process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def test_a_wrong_setting_has_its_exit_code_though_nobody_can_be_told(tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "forebay", "serve", str(tmp_path), "--port", "99999"]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *serve], timeout=60)
    assert done.returncode == 2
