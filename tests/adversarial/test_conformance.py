"""An ordinary framework on our protocol class gets what it gets on uvicorn's own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from e2e.server import ServerProcess
from e2e.shells import AnyServer
from raw_http import RawClient, chunked, content, head, split
from waiting import wait_for

MiB = 1 << 20
CLOSE = "Connection: close"


class Framework(AnyServer):
    """`apps.py` on our protocol class, with more of uvicorn's own flags."""

    def command(self, *options: str) -> list[str]:
        ours = ["--http", "forebay.http.direct:DirectProtocol", "--no-access-log"]
        uvicorn = [sys.executable, "-m", "uvicorn", "--port", "0", *ours]
        return [*uvicorn, *options, "adversarial.apps:app"]

    def environment(self, *options: str) -> dict[str, str]:
        path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.fixture(
    scope="module",
    params=["uvloop wsproto", "asyncio websockets-sansio"],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    loop, ws = request.param.split()
    folder = tmp_path_factory.mktemp("apps")
    server = Framework(folder, "--loop", loop, "--ws", ws, "--root-path", "/mounted")
    yield server
    server.kill()


def ask(server: ServerProcess, request: bytes) -> tuple[bytes, bytes]:
    """Head and content, to the end of the connection."""
    with RawClient(server) as client:
        client.send(request)
        got = client.read_all()
    fields, _, body = got.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in fields.lower():
        parts = []
        while not body.startswith(b"0\r\n"):
            size, _, body = body.partition(b"\r\n")
            parts.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        assert body == b"0\r\n\r\n"
        body = b"".join(parts)
    return fields, body


def told(server: ServerProcess) -> dict[str, list[str]]:
    return json.loads(ask(server, head("GET", "/told", CLOSE))[1])


def test_bodies_are_read_as_streams_and_whole_through_middleware(server: ServerProcess):
    for size in (0, 1, 70_000, 3 * MiB):
        data = content(size)
        pieces = list(split(data, (1, 70_000)))
        for request in (
            head("PUT", "/digest", CLOSE, length=size) + data,
            head("PUT", "/digest", CLOSE, "Transfer-Encoding: chunked") + chunked(pieces),
        ):
            fields, body = ask(server, request)
            assert b"x-marked: yes" in fields
            answer = json.loads(body)
            assert answer == {"sha256": hashlib.sha256(data).hexdigest(), "began": "with lifespan"}
        assert ask(server, head("PUT", "/body", CLOSE, length=size) + data)[1] == data


def test_trailers_of_a_request_are_left_out(server: ServerProcess):
    request = head("PUT", "/body", CLOSE, "Transfer-Encoding: chunked", "Trailer: X-Late")
    late = b"3\r\nabc\r\n0\r\nX-Late: 1\r\nContent-Length: 9\r\n\r\n"
    assert ask(server, request + late)[1] == b"abc"


def test_a_streamed_answer_is_chunked_or_ends_with_an_http_1_0_connection(server: ServerProcess):
    expected = b"".join(b"%d\n" % number for number in range(1000))
    fields, body = ask(server, head("GET", "/stream", CLOSE))
    assert b"transfer-encoding: chunked" in fields
    assert body == expected
    fields, body = ask(server, b"GET /stream HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in fields
    assert body == expected


def test_a_head_request_has_no_content(server: ServerProcess):
    fields, body = ask(server, head("HEAD", "/stream", CLOSE))
    assert b" 200 " in fields
    assert body == b""


def test_where_it_is_mounted_is_told(server: ServerProcess):
    answer = json.loads(ask(server, head("GET", "/url/a%20b%2Fc?x=%20", CLOSE))[1])
    assert answer.pop("url").startswith("http://localhost/mounted/url/")
    assert answer == {
        "root_path": "/mounted",
        "path": "/mounted/url/a b/c",
        "raw_path": "/mounted/url/a%20b%2Fc",
        "query_string": "x=%20",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
    }


def test_a_client_that_leaves_ends_an_endless_answer(server: ServerProcess):
    before = len(told(server)["left"])
    with RawClient(server) as client:
        client.send(head("GET", "/endless"))
        assert client.head()[0] == 200
    wait_for(lambda: len(told(server)["left"]) > before)
    assert "without completing" not in server.log


def test_work_after_the_answer_is_done_and_does_not_hold_up_the_connection(
    server: ServerProcess,
):
    before = len(told(server)["done"])
    with RawClient(server) as client:
        client.send(head("GET", "/background") * 3)
        assert [client.response()[2] for _ in range(3)] == [b"now"] * 3
    wait_for(lambda: len(told(server)["done"]) == before + 3)


def test_an_exception_is_a_500_and_the_server_goes_on(server: ServerProcess):
    with RawClient(server) as client:
        client.send(head("GET", "/fails") + head("GET", "/told"))
        assert client.response()[0] == 500
    assert told(server)


def test_websockets_are_handed_over_also_behind_another_request(server: ServerProcess):
    with connect(f"ws://{server.host}:{server.port}/echo") as socket:
        for message in ("a", "b" * 100_000, "ö"):
            socket.send(message)
            assert socket.recv() == message
    with RawClient(server) as client:
        upgrade = head(
            "GET",
            "/echo",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        )
        hello = b"\x81\x85\0\0\0\0hello"
        client.send(head("GET", "/told") + upgrade)
        assert client.response()[0] == 200
        status, fields = client.head()
        assert (status, fields["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        client.send(hello)
        assert client.read(7) == b"\x81\x05hello"


def test_an_upgrade_to_something_else_is_an_ordinary_request(server: ServerProcess):
    fields, _ = ask(server, head("GET", "/told", "Upgrade: h2c", "Connection: Upgrade, close"))
    assert b" 200 " in fields


def test_an_idle_connection_lives_as_long_as_uvicorn_was_told(tmp_path: Path):
    """Its flag counts where nothing of ours says otherwise."""
    server = Framework(tmp_path, "--timeout-keep-alive", "1")
    try:
        with RawClient(server) as client:
            client.send(head("GET", "/nothing-here"))
            assert client.response()[0] == 404
            assert client.at_end()
    finally:
        server.kill()
