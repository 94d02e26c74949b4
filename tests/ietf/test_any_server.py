"""The same on other ASGI servers. What they cannot do is named: no 104 (items 33, 72), so what a
client cannot be told of is not made resumable, and a body's trailers are not seen (item 78).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from ietf.client import Client, Upload, ask, content, v

BODY = content(700_000)
Start = Callable[..., ServerProcess]
WITHOUT_104 = ("uvicorn", "hypercorn")


@pytest.fixture(params=WITHOUT_104)
def server(request: pytest.FixtureRequest, reuse_server: Start) -> ServerProcess:
    return reuse_server(shell=request.param)


def test_no_104_where_it_cannot_be_sent(server: ServerProcess) -> None:
    """Items 32, 33, 72."""
    reply = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?1", body=BODY)
    assert (reply.status, reply.complete, reply.interim) == (201, "?1", [])
    assert reply.offset == len(BODY)
    assert (server.folder / "f.bin").read_bytes() == BODY


def test_an_upload_in_parts(server: ServerProcess) -> None:
    """Items 37, 38, 44, 55, 56, 58: careful creation needs no 104."""
    upload = Upload.begin(server, "f.bin", f"Upload-Length: {len(BODY)}")
    assert upload.append(0, BODY[:300_000], v()).offset == 300_000
    where = upload.where(v())
    assert (where.status, where.offset, where.complete) == (204, 300_000, "?0")
    assert where.limits["max-age"] > 0
    refused = upload.append(5, b"x")
    assert (refused.status, refused.complete, refused.offset) == (409, "?0", 300_000)
    last = upload.append(300_000, BODY[300_000:], last=True)
    assert (last.status, last.complete, last.fields["location"]) == (201, "?1", "/files/f.bin")
    assert upload.append(len(BODY), b"", last=True).body == last.body
    assert upload.stored() == BODY


def test_a_cut_append_keeps_its_prefix(server: ServerProcess) -> None:
    """Items 59, 47, 67."""
    upload = Upload.begin(server)
    with Client(server) as client:
        client.send(upload.head(0, length=len(BODY)) + BODY[:100_000])
        offset = upload.where().offset
    assert offset <= 100_000
    assert upload.finish(BODY).status == 201
    assert upload.stored() == BODY


def test_more_than_the_length_makes_the_upload_invalid(server: ServerProcess) -> None:
    """Item 18."""
    upload = Upload.begin(server, "f.bin", "Upload-Length: 10")
    with Client(server) as client:
        client.send(upload.head(0, length=None) + b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n")
        reply = client.reply()
    assert (reply.status, reply.complete) == (400, "?0")
    assert upload.where().status == 410


def test_cancel_and_options(server: ServerProcess) -> None:
    """Items 22, 63."""
    upload = Upload.begin(server, body=b"abc")
    assert upload.ask("DELETE", v()).status == 204
    assert upload.where(v()).status == 404
    for target in ("/files/", "/uploads/"):
        assert ask(server, "OPTIONS", target).limits["max-age"] == 86_400
