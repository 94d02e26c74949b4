"""Memory does not grow with the size of a body, of a chunk, or the number of uploads."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from e2e.shells import servers_having
from raw_http import RawClient, content, head

Start = Callable[..., ServerProcess]

MiB, GiB = 1 << 20, 1 << 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def idle_memory(server: ServerProcess) -> int:
    """What it holds when it has done each kind of thing once."""
    assert server.request("PUT", "/files/small", b"x")[0] == 201
    assert server.request("GET", "/files/small")[0] == 200
    return server.rss()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_two_gibibytes_with_curl_arrive_whole_in_flat_memory(
    start_server: Start, store_folder: Path, kind: str
):
    server = start_server("--durability", "relaxed")
    idle = idle_memory(server)
    source = store_folder.with_name(store_folder.name + "-source")
    try:
        with source.open("wb") as file:
            for number in range(32):
                file.write(content(64 * MiB, number))
            file.write(b"an odd end")
        command = ["curl", "-sS", "--fail", "-T", str(source)]
        if kind == "chunked":
            command += ["-H", "Transfer-Encoding: chunked"]
        subprocess.run([*command, f"{server.url}/files/big"], check=True, capture_output=True)
        assert server.rss("VmHWM") - idle <= 16 * MiB
        stored = server.folder / "big"
        assert stored.stat().st_size == 2 * GiB + 10
        assert sha256(stored) == sha256(source)
        stored.unlink()
    finally:
        source.unlink(missing_ok=True)
    assert server.leftovers() == []


def test_one_chunk_of_a_gibibyte_is_taken_in_flat_memory(start_server: Start):
    server = start_server("--durability", "relaxed")
    idle = idle_memory(server)
    piece = content(MiB)
    expected = hashlib.sha256()
    with RawClient(server, timeout=300) as client:
        client.send(head("PUT", "/files/big", "Transfer-Encoding: chunked") + b"%x\r\n" % GiB)
        for _ in range(1024):
            client.send(piece)
            expected.update(piece)
        client.send(b"\r\n0\r\n\r\n")
        assert client.response()[0] == 201
    assert server.rss("VmHWM") - idle <= 16 * MiB
    assert sha256(server.folder / "big") == expected.hexdigest()


def test_a_gibibyte_is_read_back_in_flat_memory(start_server: Start):
    server = start_server("--durability", "relaxed")
    with (server.folder / "big").open("wb") as file:
        for number in range(16):
            file.write(content(64 * MiB, number))
    idle = idle_memory(server)
    done = subprocess.run(
        ["sh", "-c", f"curl -sS --fail {server.url}/files/big | sha256sum"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[0] == sha256(server.folder / "big")
    assert server.rss("VmHWM") - idle <= 16 * MiB


@pytest.mark.parametrize("shell", servers_having("memory apart from the number of uploads"))
def test_three_hundred_slow_uploads_share_a_bounded_memory(start_server: Start, shell: str):
    server = start_server("--durability", "relaxed", shell=shell)
    idle = idle_memory(server)
    count, rounds = 300, 20
    piece = content(100_000)
    clients = [RawClient(server, timeout=300) for _ in range(count)]
    try:
        for number, client in enumerate(clients):
            length = rounds * len(piece) + 4
            client.send(head("PUT", f"/files/{number}", "Expect: 100-continue", length=length))
        for client in clients:
            assert client.head()[0] == 100
        for _ in range(rounds):
            for client in clients:
                client.send(piece)
        for number, client in enumerate(clients):
            client.send(b"%04d" % number)
        for client in clients:
            assert client.response()[0] == 201
    finally:
        for client in clients:
            client.close()
    for number in range(count):
        assert (server.folder / str(number)).read_bytes() == piece * rounds + b"%04d" % number
    assert server.rss("VmHWM") - idle <= 48 * MiB


def test_hundreds_of_refused_bodies_that_go_on_coming_cost_nothing(start_server: Start):
    server = start_server("--durability", "relaxed", "--max-size", "1MiB")
    idle = idle_memory(server)
    clients = [RawClient(server, timeout=300) for _ in range(500)]
    try:
        for client in clients:
            client.send(head("PUT", "/files/big", length=GiB))
        for client in clients:
            assert client.head()[0] == 413
        for _ in range(20):
            for client in clients:
                client.send(bytes(100_000))
    finally:
        for client in clients:
            client.close()
    assert server.rss("VmHWM") - idle <= 16 * MiB
    assert server.leftovers() == []
