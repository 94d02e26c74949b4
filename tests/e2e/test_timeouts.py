"""Slow, silent and dying clients: they are told, their files vanish, and nobody waits for them."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content, head
from waiting import wait_for

Start = Callable[..., ServerProcess]

MiB = 1 << 20
EXPECT = "Expect: 100-continue"
CHUNKED = "Transfer-Encoding: chunked"


def nothing_stays(server: ServerProcess) -> None:
    assert server.published() == {}
    assert server.leftovers() == []


@contextlib.contextmanager
def dripping(client: RawClient, data: bytes, pause: float) -> Iterator[None]:
    """Sends `data` byte by byte meanwhile, until the server has had enough."""
    stop = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                if stop.wait(pause):
                    return
                client.send(data[at : at + 1])

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# --- heads and idle connections ----------------------------------------------------------------


def test_a_head_that_does_not_end_is_told_408_and_closed(reuse_server: Start):
    server = reuse_server("--head-timeout", "0.5s")
    for part in (b"P", b"PUT /files/x HTTP/1.1\r\nHost: localh", head("PUT", "/files/x")[:-2]):
        with RawClient(server) as client:
            client.send(part)
            status, headers, body = client.response()
            assert (status, json.loads(body)["code"]) == (408, "FB_HEAD_TIMEOUT")
            assert headers["connection"] == "close"
            assert client.is_closed()
    nothing_stays(server)


def test_a_head_that_drips_is_told_408_however_often_a_byte_comes(reuse_server: Start):
    server = reuse_server("--head-timeout", "0.5s")
    with RawClient(server) as client, dripping(client, head("PUT", "/x", *["A: b"] * 900), 0.02):
        assert client.response()[0] == 408
    with (
        RawClient(server) as client,
        dripping(client, b"\r\n" * 1000, 0.02),
        contextlib.suppress(EOFError, ConnectionError),  # or closed in silence
    ):
        assert client.response()[0] == 408, "empty lines are no head"


def test_the_second_head_on_a_connection_is_waited_for_no_longer(reuse_server: Start):
    server = reuse_server("--head-timeout", "0.5s")
    with RawClient(server) as client:
        client.send(head("GET", "/healthz"))
        assert client.response()[0] == 200
        client.send(b"GET /heal")
        assert client.response()[0] == 408
        assert client.is_closed()
    with RawClient(server) as client:  # the same where it came along with the first
        client.send(head("PUT", "/files/f", length=1) + b"x" + b"GET /heal")
        assert client.response()[0] == 201
        assert client.response()[0] == 408
        assert client.is_closed()


def test_a_connection_that_says_nothing_is_closed_in_silence(reuse_server: Start):
    server = reuse_server("--head-timeout", "0.5s")
    with RawClient(server) as client:
        assert client.at_end()


def test_a_connection_that_has_nothing_more_to_say_is_closed_in_silence(reuse_server: Start):
    server = reuse_server("--keep-alive-timeout", "0.5s")
    for request, status in (
        (head("GET", "/healthz"), 200),
        (head("PUT", "/files/small", length=1) + b"x", 201),
        (head("PUT", "/files/big", length=2 * MiB) + bytes(2 * MiB), 201),
        (head("PUT", "/files/small", length=1) + b"x", 409),
    ):
        with RawClient(server) as client:
            client.send(request)
            assert client.response()[0] == status
            assert client.at_end()


def test_no_other_time_limit_ends_a_running_body_or_a_download(reuse_server: Start):
    server = reuse_server("--head-timeout", "0.3s", "--keep-alive-timeout", "0.3s")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", length=16 * MiB) + content(8 * MiB))
        time.sleep(1)
        client.send(content(8 * MiB, 1))
        assert client.response()[0] == 201
        client.send(head("GET", "/files/f"))
        assert client.head()[0] == 200
        time.sleep(1)
        assert client.read(16 * MiB) == content(8 * MiB) + content(8 * MiB, 1)


# --- bodies ------------------------------------------------------------------------------------


def test_bodies_that_stop_are_told_408_and_leave_nothing(start_any: Start):
    server = start_any("--body-timeout", "1s")
    with contextlib.ExitStack() as stack:
        clients = []
        for framing, start in (("Content-Length: 9000000", b""), (CHUNKED, b"895440\r\n")):
            for sent in (0, 1, 300_000, 3 * MiB):
                client = stack.enter_context(RawClient(server))
                client.send(head("PUT", f"/files/{sent}", framing) + start + bytes(sent))
                clients.append(client)
        for client in clients:
            status, _, body = client.response()
            assert (status, json.loads(body)["code"]) == (408, "FB_BODY_TIMEOUT")
            assert client.is_closed()
    nothing_stays(server)


def test_a_body_that_was_promised_100_and_never_comes_is_told_408(start_any: Start):
    server = start_any("--body-timeout", "1s")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", EXPECT, length=5))
        assert client.head()[0] == 100
        assert client.response()[0] == 408
    nothing_stays(server)


def test_a_chunked_body_without_its_last_chunk_is_told_408(start_any: Start):
    server = start_any("--body-timeout", "1s")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", CHUNKED) + chunked([b"hello"])[:-5])
        assert client.response()[0] == 408
    nothing_stays(server)


def test_a_body_slower_than_allowed_is_told_408_and_one_that_is_not_goes_on(start_any: Start):
    options = ("--min-rate", "100KiB", "--min-rate-window", "1s", "--body-timeout", "30s")
    server = start_any(*options)
    with RawClient(server) as client:
        client.send(head("PUT", "/files/slow", length=1_000_000))
        with dripping(client, bytes(3000), 0.02):
            status, _, body = client.response()
        assert (status, json.loads(body)["code"]) == (408, "FB_TOO_SLOW")
    nothing_stays(server)
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", length=16 * MiB))
        for _ in range(16):
            client.send(bytes(MiB))
            time.sleep(0.15)
        assert client.response()[0] == 201
    assert server.published() == {"f": 16 * MiB}


def test_after_a_timeout_the_place_of_the_upload_is_free(reuse_server: Start):
    server = reuse_server("--body-timeout", "1s", "--max-uploads", "1")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", EXPECT, length=5))
        assert client.head()[0] == 100
        assert server.request("PUT", "/files/g", b"x")[0] == 503
        assert client.response()[0] == 408
        wait_for(lambda: server.request("PUT", "/files/g", b"x")[0] == 201)


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 * MiB])
def test_a_client_that_half_closes_after_its_request_gets_its_answer(
    reuse_server: Start, size: int
):
    server = reuse_server()
    data = content(size)
    for message, status in (
        (head("PUT", "/files/f", length=size) + data, 201),
        (head("GET", "/files/f"), 200),
        (head("PUT", "/files/g", CHUNKED) + chunked([data]), 201),
        (head("PUT", "/files/g", length=size) + data, 409),
        (head("PUT", "/files/h", length=size) + data + head("GET", "/files/h"), 201),
    ):
        with RawClient(server) as client:
            client.send(message)
            client.half_close()
            got, _, body = client.response()
            assert got == status
            assert status != 200 or body == data
            if b"/files/h" in message:
                assert client.response()[2] == data
            assert client.is_closed()
    assert server.published() == {"f": size, "g": size, "h": size}


def test_many_half_closed_pipelines_are_all_answered(reuse_server: Start):
    server = reuse_server()
    for _ in range(100):
        with RawClient(server) as client:
            client.send(head("GET", "/healthz") * 20)
            client.half_close()
            assert [client.response()[0] for _ in range(20)] == [200] * 20
            assert client.at_end()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_dies_frees_all_it_held(start_server: Start, how: str):
    """Whatever its connection was at: nothing waits for a time limit to find out."""
    server = start_server("--durability", "relaxed", "--body-timeout", "1h", "--head-timeout", "1h")
    assert server.request("PUT", "/files/f", bytes(64 * MiB))[0] == 201
    before = server.descriptors()
    clients = []
    for number, message in enumerate(
        (
            b"",
            b"PUT /fil",
            head("PUT", "/files/a", EXPECT, length=5),
            head("PUT", "/files/b", length=5) + b"x",
            head("PUT", "/files/c", length=9 * MiB) + bytes(5 * MiB),
            head("PUT", "/files/d", CHUNKED) + b"5\r\nhel",
            head("PUT", "/files/f", length=9 * MiB) + bytes(5 * MiB),  # refused: lingering
            head("GET", "/files/f"),  # more than the sockets hold
        )
        * 5
    ):
        client = RawClient(server)
        client.send(message)
        if number % 2:
            with contextlib.suppress(TimeoutError):
                client.socket.settimeout(0.1)
                client.head()
        clients.append(client)
    for client in clients:
        client.reset() if how == "reset" else client.close()
    wait_for(lambda: server.descriptors() <= before)
    assert server.published() == {"f": 64 * MiB}
    assert server.leftovers() == []


def test_thousands_of_silent_clients_hold_nobody_up(start_server: Start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8000, hard), hard))
    server = start_server("--durability", "relaxed")
    assert server.request("PUT", "/files/first", bytes(MiB))[0] == 201
    before = server.descriptors()
    clients: list[socket.socket] = []
    try:
        for number in range(2200):
            client = server.connect()
            clients.append(client)
            if number % 2:
                client.sendall(b"PUT /files/half HTTP/1.1\r\nHost: loc")
            elif number % 11 == 0:  # and some that stall in their bodies
                client.sendall(head("PUT", f"/files/stalled-{number}", length=10 * MiB) + b"x" * 9)
        assert server.request("PUT", "/files/f", content(20 * MiB))[0] == 201
        assert server.request("GET", "/files/f")[2] == content(20 * MiB)
        assert server.request("GET", "/healthz")[0] == 200
        assert server.descriptors() > before + 2000, "they are still there"
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: server.descriptors() <= before)
    assert server.published() == {"first": MiB, "f": 20 * MiB}
