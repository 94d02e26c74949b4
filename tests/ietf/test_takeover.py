"""Two requests for one upload (RUFH checklist, section I): the newer one goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from ietf.client import PARTIAL, Client, Upload, ask, content, v
from raw_http import head

BODY = content(3_000_000)
Start = Callable[..., ServerProcess]


@pytest.fixture(params=["1", "2"])
def server(request: pytest.FixtureRequest, reuse_server: Start) -> ServerProcess:
    return reuse_server("--workers", request.param)


@contextlib.contextmanager
def stalled(upload: Upload, offset: int, sent: int):  # type: ignore[no-untyped-def]
    """A last append that holds the upload and waits after `sent` bytes, until the block ends."""
    with Client(upload.server) as client:
        rest = len(BODY) - offset
        client.send(upload.head(offset, "Expect: 100-continue", length=rest))
        assert client.head()[0] == 100
        client.send(BODY[offset : offset + sent])
        yield client


@pytest.mark.parametrize("attempt", range(3))
def test_a_question_ends_a_stalled_append(server: ServerProcess, attempt: int) -> None:
    """Items 47, 67, 69: and is told an offset that the next append may use."""
    upload = Upload.begin(server)
    with stalled(upload, 0, 100_000) as old:
        where = upload.where()
        assert where.status == 204
        assert where.offset <= 100_000
        last = upload.append(where.offset, BODY[where.offset :], last=True)
        assert last.status == 201
        ended = old.reply()
    assert (ended.status, ended.complete) == (503, "?0")
    assert upload.stored() == BODY


@pytest.mark.parametrize("attempt", range(3))
def test_an_append_ends_a_stalled_append(server: ServerProcess, attempt: int) -> None:
    """Items 66, 67: at an offset that is no more it is told the right one."""
    upload = Upload.begin(server)
    with stalled(upload, 0, 100_000) as old:
        reply = upload.append(0, BODY, last=True)
        if reply.status == 409:  # the stalled one had committed some of it
            assert reply.complete == "?0"
            reply = upload.append(reply.offset, BODY[reply.offset :], last=True)
        assert reply.status == 201
        assert old.reply().status == 503
    assert upload.stored() == BODY


@pytest.mark.parametrize("attempt", range(3))
def test_a_question_ends_a_stalled_creation(server: ServerProcess, attempt: int) -> None:
    """Items 67, 33, 34: as soon as its 104 was read."""
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1")
        client.half("PUT", "/files/f.bin", *asks, body=BODY[:50_000], length=len(BODY))
        status, fields = client.head()
        assert status == 104
        upload = Upload(server, fields["location"])
        assert upload.where().offset <= 50_000
        ended = client.reply()
        assert (ended.status, ended.complete) == (503, "?0")
        assert ended.fields["location"] == upload.location  # item 34
    assert upload.finish(BODY).status == 201
    assert upload.stored() == BODY


def test_a_cancellation_ends_a_stalled_append(server: ServerProcess) -> None:
    """Item 64."""
    upload = Upload.begin(server)
    with stalled(upload, 0, 100_000) as old:
        assert upload.ask("DELETE").status == 204
        assert old.reply().status == 503
    assert upload.where().status == 404
    assert server.leftovers() == []
    assert not (server.folder / "f.bin").exists()


def test_looking_at_the_state_ends_nothing(server: ServerProcess) -> None:
    """Item 48: JSON is for others than the uploader."""
    upload = Upload.begin(server)
    with stalled(upload, 0, 100_000) as client:
        for _ in range(5):
            assert upload.ask("GET").json["state"] == "open"
        client.send(BODY[100_000:])
        assert client.reply().status == 201
    assert upload.stored() == BODY


def test_overlapping_writers_leave_what_one_of_them_sent(server: ServerProcess) -> None:
    """Item 66: all at offset 0, each with its own byte."""
    upload = Upload.begin(server)
    replies = []

    def write(byte: int) -> None:
        replies.append(upload.append(0, bytes([byte]) * 500_000).status)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(replies) <= {204, 409, 503}
    offset = upload.where().offset
    assert upload.append(offset, b"", last=True).status == 201
    found = upload.stored()
    assert len(found) == offset
    assert len(set(found)) <= 1


def test_clients_that_share_an_upload_do_not_spoil_it(server: ServerProcess) -> None:
    """Items 66, 47: each asks, appends what is missing, and is interrupted by the others."""
    upload = Upload.begin(server)
    problems: list[object] = []

    def work(size: int) -> None:
        for _ in range(30):
            where = upload.where()
            if where.complete == "?1":
                return
            start = where.offset
            piece = BODY[start : start + size]
            reply = upload.append(start, piece, last=start + len(piece) == len(BODY))
            if reply.status not in (201, 204, 409, 503):
                problems.append(reply)

    threads = [threading.Thread(target=work, args=(size,)) for size in (300_000, 700_000, 500_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    where = upload.where()
    last = upload.append(where.offset, BODY[where.offset :], last=True)
    assert last.status == 201
    assert upload.stored() == BODY


def test_creations_of_one_name_do_not_mix(server: ServerProcess) -> None:
    """Item 66: the second of two to finish is refused, as a plain PUT is."""
    first, second = Upload.begin(server, body=b"1" * 10), Upload.begin(server, body=b"2" * 10)
    assert first.append(10, b"1" * 10, last=True).status == 201
    refused = second.append(10, b"2" * 10, last=True)
    assert (refused.status, refused.complete) == (409, "?1")
    assert first.stored() == b"1" * 20
    assert second.ask("DELETE").status == 204


def test_a_stranger_to_pipelines_is_not_confused(server: ServerProcess) -> None:
    """Item 70: an interim response belongs to the request before it."""
    with Client(server) as client:
        client.send(
            head("PUT", "/files/a.bin", v(), "Upload-Complete: ?1", length=5)
            + b"hello"
            + head("PUT", "/files/b.bin", length=5)
            + b"world"
        )
        first, second = client.reply(), client.reply()
    assert (first.status, len(first.interim)) == (201, 1)
    assert (second.status, second.interim) == (201, [])
    assert ask(server, "GET", "/files/b.bin", PARTIAL).body == b"world"
