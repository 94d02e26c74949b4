"""Our protocol class under uvicorn serves applications that know nothing of Forebay."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from e2e.shells import PlainApplication
from raw_http import RawClient, chunked, content, head, split

MiB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = PlainApplication(tmp_path)
    yield server
    server.kill()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def test_bodies_of_any_size_arrive_whole_and_answers_leave_whole(server: ServerProcess):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    for size in (0, 1, 16_383, 16_385, 65_536, 300_000, 5 * MiB):
        data = content(size)
        for body in (data, iter(list(split(data, (1, 70_000, 5))))):
            connection.request("PUT", "/", body, encode_chunked=body is not data)
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, sha256(data))
    connection.close()


def test_requests_in_one_send_are_answered_in_their_order(server: ServerProcess):
    bodies = [content(size) for size in (100_000, 0, 5, 2 * MiB, 16_384)]
    parts = []
    for body in bodies:
        parts.append(head("POST", "/", length=len(body)) + body)
        parts.append(head("POST", "/", "Transfer-Encoding: chunked") + chunked([body]))
    with RawClient(server) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.send, b"".join(parts))
        for body in bodies:
            expected = chunked(bytes([digit]) for digit in sha256(body))
            for _ in range(2):
                status, headers = client.head()
                assert (status, headers["transfer-encoding"]) == (200, "chunked")
                assert client.read(len(expected)) == expected
        sent.result()


def test_100_is_said_when_the_application_asks_for_the_body_and_not_before(
    server: ServerProcess,
):
    with RawClient(server) as client:
        client.send(head("PUT", "/", "Expect: 100-continue", length=MiB))
        assert client.head()[0] == 100
        client.send(bytes(MiB))
        assert client.head()[0] == 200
    with RawClient(server) as client:
        client.send(head("PUT", "/early", "Expect: 100-continue", length=MiB))
        assert client.head()[0] == 200


def test_an_answer_before_the_body_can_be_read_by_who_sends_on(server: ServerProcess):
    with RawClient(server) as client:
        client.send(head("PUT", "/early", length=64 * MiB))
        for _ in range(64):
            client.send(bytes(MiB))
        status, headers = client.head()
        assert (status, headers["connection"]) == (200, "close")
        client.read_until(b"0\r\n\r\n")
        assert client.is_closed()
    assert server.process.poll() is None
