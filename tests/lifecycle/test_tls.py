"""Uploads over TLS, where no worker can read the socket itself."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import self_signed
from e2e.server import ServerProcess
from lifecycle.uploading import eventually
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]
MiB = 1 << 20


def curl(*arguments: str) -> tuple[int, bytes]:
    """Status and body; curl must not have complained."""
    done = subprocess.run(
        ["curl", "-sS", "-k", "--max-time", "60", "-w", "\n%{http_code}", *arguments],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_a_digest_behind_a_body_is_compared_over_tls_too(start_tls: Start) -> None:
    server = start_tls()
    data = b"over TLS"
    for name, digested, status in (("f", b"other", 400), ("g", data, 201)):
        digest = base64.b64encode(hashlib.sha256(digested).digest()).decode()
        with RawClient(server) as client:
            context = ssl._create_unverified_context()
            client.socket = context.wrap_socket(client.socket)
            announced = ("Transfer-Encoding: chunked", "Trailer: Repr-Digest")
            client.send(head("PUT", f"/files/{name}", *announced))
            client.send(b"%x\r\n%b\r\n0\r\n" % (len(data), data))
            client.send(f"Repr-Digest: sha-256=:{digest}:\r\n\r\n".encode())
            assert client.response()[0] == status
    assert server.published() == {"g": len(data)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "fifty.bin"
    path.write_bytes(hashlib.shake_128(b"fifty").digest(50 * MiB))
    return path


@pytest.mark.parametrize("workers", ["1", "2"])
def test_fifty_mebibytes_come_and_go_unchanged(
    start_tls: Start, source: Path, workers: str
) -> None:
    server = start_tls("--workers", workers)
    status, _ = curl("-T", str(source), f"{server.url}/files/")
    assert status == 201
    stored = server.folder / "fifty.bin"
    wanted = hashlib.sha256(source.read_bytes()).digest()
    assert hashlib.sha256(stored.read_bytes()).digest() == wanted
    status, found = curl(f"{server.url}/files/fifty.bin")
    assert status == 200
    assert hashlib.sha256(found).digest() == wanted
    assert server.leftovers() == []
    assert server.stop() == 0


def test_a_chunked_body_comes_whole(start_tls: Start, source: Path) -> None:
    server = start_tls()
    status, _ = curl(
        "-T", str(source), "-H", "Transfer-Encoding: chunked", f"{server.url}/files/c.bin"
    )
    assert status == 201
    assert (server.folder / "c.bin").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize("framing", ["Content-Type: a/b", "Transfer-Encoding: chunked"])
def test_a_refusal_can_be_read_while_the_client_still_sends(
    start_tls: Start, source: Path, expect: str, framing: str
) -> None:
    server = start_tls("--max-size", "1MiB")
    arguments = ["-T", str(source), "-H", expect, "-H", framing, "-H", "Accept: application/json"]
    status, body = curl(*arguments, f"{server.url}/files/big.bin")
    assert status == 413
    assert json.loads(body)["code"] == "FB_TOO_LARGE"
    assert server.published() == {}
    assert server.leftovers() == []


def test_a_client_that_goes_away_leaves_nothing(start_tls: Start, source: Path) -> None:
    server = start_tls()
    cut = subprocess.run(
        [
            *("curl", "-sk", "--max-time", "1", "--limit-rate", "2M"),
            *("-T", str(source), f"{server.url}/files/cut.bin"),
        ],
        capture_output=True,
    )
    assert cut.returncode == 28  # its own time-out
    server.wait_for_log("FB_INCOMPLETE_BODY")
    assert server.published() == {}
    assert server.leftovers() == []
    assert curl("-T", str(source), f"{server.url}/files/again.bin")[0] == 201


def name_served(server: ServerProcess) -> str:
    """The subject of the certificate that a new connection gets."""
    pem = ssl.get_server_certificate((server.host, server.port), timeout=30)
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True
    )
    return told.stdout.strip().rpartition("=")[2].strip()


@pytest.mark.parametrize("workers", [1, 2])
def test_renewed_files_are_served_after_sighup_and_running_connections_stay(
    start_tls: Start, tmp_path: Path, workers: int
) -> None:
    server = start_tls("--workers", str(workers))
    assert name_served(server) == "localhost"
    context = ssl._create_unverified_context()
    running = http.client.HTTPSConnection(server.host, server.port, timeout=30, context=context)
    running.request("GET", "/healthz")
    assert running.getresponse().read() == b"ok\n"

    def reload(said: str) -> None:
        count = server.log.count(said)
        server.process.send_signal(signal.SIGHUP)
        eventually(said, lambda: server.log.count(said) >= count + workers)

    self_signed(tmp_path, "renewed.example")
    reload("settings read again")
    assert {name_served(server) for _ in range(4)} == {"renewed.example"}
    running.request("GET", "/healthz")
    assert running.getresponse().read() == b"ok\n"
    running.close()
    # Half of a pair, and nonsense, leave what is served as it is.
    kept = (tmp_path / "key.pem").read_bytes()
    self_signed(tmp_path, "third.example")
    (tmp_path / "key.pem").write_bytes(kept)
    reload("the TLS files were not read again")
    assert {name_served(server) for _ in range(4)} == {"renewed.example"}
    (tmp_path / "cert.pem").unlink()
    reload("the TLS files were not read again")
    assert name_served(server) == "renewed.example"
