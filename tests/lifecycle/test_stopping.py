"""SIGTERM and SIGINT: what runs may end, nothing new begins, nothing stays, and the code is 0."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from lifecycle.uploading import HeldUpload, alive, eventually, ready, refused
from raw_http import RawClient

Start = Callable[..., ServerProcess]
BODY = bytes(range(256)) * 20_000
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def start(start_server: Start, workers: int, *options: str, **more: object) -> ServerProcess:
    workers_option = ["--workers", str(workers)]
    return ready(start_server("--durability", "relaxed", *workers_option, *options, **more))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sig", SIGNALS)
def test_an_upload_that_is_nearly_done_is_finished(
    start_server: Start, sig: int, workers: int
) -> None:
    server = start(start_server, workers)
    children = server.processes()[1:]
    upload = HeldUpload(server, "a.bin", BODY, len(BODY) - 1)
    os.kill(server.pid, sig)
    server.wait_for_log("draining")
    eventually("new connections are refused", lambda: refused(server))
    assert server.process.poll() is None
    assert upload.finish()[0] == 201
    assert server.process.wait(60) == 0
    assert (server.folder / "a.bin").read_bytes() == BODY
    assert server.leftovers() == []
    assert not any(alive(pid) for pid in children)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sig", SIGNALS)
def test_a_signal_to_the_whole_group_is_one_signal(
    start_server: Start, sig: int, workers: int
) -> None:
    """As Ctrl-C in a terminal sends it, and systemd to a service."""
    server = start(start_server, workers, wrap=["setsid"])
    upload = HeldUpload(server, "a.bin", BODY, len(BODY) - 1)
    os.killpg(server.pid, sig)
    server.wait_for_log("draining")
    eventually("new connections are refused", lambda: refused(server))
    assert upload.finish()[0] == 201
    assert server.process.wait(60) == 0
    assert (server.folder / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("workers", [1, 2])
def test_an_upload_that_cannot_finish_in_time_is_ended_and_leaves_nothing(
    start_server: Start, workers: int
) -> None:
    server = start(start_server, workers, "--drain-timeout", "1")
    upload = HeldUpload(server, "a.bin", BODY, 100_000)
    os.kill(server.pid, signal.SIGTERM)
    assert upload.answer_or_end() in (503, None)
    assert server.process.wait(60) == 0
    assert server.published() == {}
    assert server.leftovers() == []


def test_a_request_on_a_connection_that_was_open_already_is_refused_while_draining(
    start_server: Start,
) -> None:
    server = start(start_server, 1)
    upload = HeldUpload(server, "a.bin", BODY, len(BODY) - 1)
    late = RawClient(server)
    late.send(b"PUT /files/late.bin HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    os.kill(server.pid, signal.SIGTERM)
    server.wait_for_log("draining")
    eventually("new connections are refused", lambda: refused(server))
    status: int | None
    try:
        late.send(b"ngth: 3\r\n\r\nabc")
        status = late.response()[0]
    except (OSError, EOFError):
        status = None
    late.close()
    assert status in (503, None)
    assert upload.finish()[0] == 201
    assert server.process.wait(60) == 0
    assert server.published() == {"a.bin": len(BODY)}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sig", SIGNALS)
def test_asked_twice_it_ends_at_once_and_leaves_nothing(
    start_server: Start, sig: int, workers: int
) -> None:
    server = start(start_server, workers, "--drain-timeout", "600")
    children = server.processes()[1:]
    upload = HeldUpload(server, "a.bin", BODY, 100_000)
    os.kill(server.pid, sig)
    server.wait_for_log("draining")
    os.kill(server.pid, sig)
    assert server.process.wait(30) == 128 + sig
    eventually("no worker stays", lambda: not any(alive(pid) for pid in children))
    assert upload.answer_or_end() is None
    assert server.published() == {}
    assert server.leftovers() == []


@pytest.mark.parametrize("workers", [1, 3])
def test_idle_connections_do_not_hold_up_the_end(start_server: Start, workers: int) -> None:
    server = start(start_server, workers, "--drain-timeout", "600")
    clients = [RawClient(server) for _ in range(5)]
    for client in clients[:3]:
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response()[0] == 200
    clients[4].send(b"GET /half-a-head")
    assert server.stop() == 0
    for client in clients:
        with client:
            assert client.at_end()


@pytest.mark.parametrize("sig", SIGNALS)
def test_a_signal_while_the_workers_start_ends_them_all(start_server: Start, sig: int) -> None:
    for _ in range(2):
        server = start_server("--durability", "relaxed", "--workers", "4")
        children = server.processes()[1:]  # as many as there are yet
        server.process.send_signal(sig)
        assert server.process.wait(60) in (0, -sig)
        eventually("no worker stays", lambda: not any(alive(pid) for pid in children))  # noqa: B023
        eventually("nobody listens", lambda: refused(server))  # noqa: B023


def test_a_longer_time_to_drain_can_be_given_while_running(start_server: Start, tmp_path) -> None:
    """uvicorn has a time limit of its own, which must follow."""
    file = tmp_path / "forebay.toml"
    file.write_text('drain-timeout = "0s"\n')
    server = start(start_server, 1, "--config", str(file))
    file.write_text('drain-timeout = "10m"\n')
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("settings read again")
    upload = HeldUpload(server, "a.bin", BODY, len(BODY) - 1)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("draining for at most 600 s")
    with pytest.raises(TimeoutError):
        upload.client.socket.settimeout(8)
        upload.client.socket.recv(1)
    assert upload.finish()[0] == 201
    assert server.process.wait(60) == 0
