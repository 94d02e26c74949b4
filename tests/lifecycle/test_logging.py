"""What is written to the log, and what a client cannot write to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from lifecycle.uploading import HeldUpload, ready
from raw_http import RawClient

Start = Callable[..., ServerProcess]
FORGED = "2020-01-01 00:00:00,000 INFO forged"
_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |Forebay listens on ")
NASTY = [
    b"PUT /files/a%0A" + FORGED.replace(" ", "%20").encode() + b"/%1B%5B31m HTTP/1.1\r\n",
    b"PUT /files/%0D%0A%00.bin HTTP/1.1\r\n",
    b"PUT /files/\x1b[31m\x07red\xc2\x9b HTTP/1.1\r\n",
    b"PUT /files/\xff\xfe\x85\x9b HTTP/1.1\r\n",
    b"GET /files/%E2%80%A8%C2%85%9B?\x1b]0;title\x07 HTTP/1.1\r\n",
    b"GET /nothing%1B%5B2J%0A" + FORGED.replace(" ", "%20").encode() + b" HTTP/1.1\r\n",
    b"B\x1bD / HTTP/1.1\r\n",
    b"POST /files/?name=%1B%5B31m%0A HTTP/1.1\r\n",
    b"POST /files/ HTTP/1.1\r\nX-Filename: %0A" + FORGED.replace(" ", "%20").encode() + b"\r\n",
    b'POST /files/ HTTP/1.1\r\nContent-Disposition: attachment; filename="\x1b[31m"\r\n',
    b"PUT /files/a HTTP/1.1\r\nContent-Type: \x1b[31m\x9b\r\n",
    b"PUT /files/b HTTP/1.1\r\nOrigin: http://\x1b[31m\x9b\r\n",
    b"PUT /files/c HTTP/1.1\r\nContent-Digest: \x1b\x9b\r\n",
]


def send_nasty(server: ServerProcess) -> None:
    for head in NASTY:
        with RawClient(server) as client:
            client.send(head + b"Host: localhost\r\nContent-Length: 3\r\n\r\nabc")
            client.response()
    with RawClient(server) as client:
        client.send(b"GET /files/ HTTP/1.1\r\nHost: \x1b[31m\n\r\n\r\n")
        client.response()


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_control_character_and_no_line_of_a_client_gets_into_the_log(
    start_server: Start, form: str
) -> None:
    options = ["--durability", "relaxed", "--log-format", form, "--log-level", "debug"]
    server = ready(start_server(*options))
    send_nasty(server)
    assert server.request("GET", "/healthz")[0] == 200
    assert server.stop() == 0
    assert FORGED not in "".join(line[:60] for line in server.log.splitlines(keepends=True))
    assert all(c.isprintable() or c == "\n" for c in server.log), server.log
    for line in server.log.splitlines()[1:] if form == "json" else []:
        assert isinstance(json.loads(line)["message"], str)
    if form == "text":
        assert all(_LINE.match(line) for line in server.log.splitlines()), server.log


def test_each_line_is_an_object_and_a_failed_upload_has_its_id_and_code(
    start_server: Start,
) -> None:
    server = ready(
        start_server("--durability", "relaxed", "--log-format", "json", "--max-size", "1000")
    )
    assert server.request("PUT", "/files/a.bin", b"abc")[0] == 201
    status, fields, answer = server.request("PUT", "/files/big.bin", bytes(2000))
    assert status == 413
    broken = HeldUpload(server, "broken.bin", bytes(900), 100)
    broken.client.reset()
    server.wait_for_log("FB_INCOMPLETE_BODY")
    assert server.stop() == 0
    announcement, *lines = server.log.splitlines()
    assert "listens on" in announcement
    records = [json.loads(line) for line in lines]
    for record in records:
        assert {"time", "level", "logger", "message", "process"} <= record.keys()
    refused = next(record for record in records if record.get("code") == "FB_TOO_LARGE")
    assert refused["status"] == 413
    assert re.fullmatch(r"\S{8,}", refused["upload"])
    assert refused["upload"] in json.dumps([json.loads(answer), fields.pairs])
    assert "/files/big.bin" in refused["message"]
    incomplete = next(record for record in records if record.get("code") == "FB_INCOMPLETE_BODY")
    assert incomplete["upload"] != refused["upload"]
