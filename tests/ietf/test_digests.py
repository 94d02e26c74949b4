"""Digests of a request's content and of the whole (RUFH checklist, section L)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from e2e.server import ServerProcess
from ietf.client import PARTIAL, Client, Upload, ask, content, v
from raw_http import head

BODY = content(2_500_000)


def digest(data: bytes, algorithm: str = "sha-256") -> str:
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


def test_content_that_is_as_announced_is_appended(server: ServerProcess) -> None:
    """Items 77, 78."""
    upload = Upload.begin(server, "f.bin", f"Content-Digest: {digest(BODY[:9])}", body=BODY[:9])
    both = f"{digest(BODY[9:], 'sha-512')}, {digest(BODY[9:])}"
    reply = upload.append(9, BODY[9:], f"Content-Digest: {both}", last=True)
    assert reply.status == 201
    assert upload.stored() == BODY


def test_content_that_is_not_as_announced_is_forgotten(server: ServerProcess) -> None:
    """Item 77: the offset is as it was, and the upload goes on."""
    upload = Upload.begin(server, body=BODY[:9])
    for last in (False, True):
        reply = upload.append(9, BODY[9:], f"Content-Digest: {digest(b'else')}", last=last)
        assert (reply.status, reply.complete) == (400, "?0")
        assert reply.json["algorithm"] == "sha-256"
        assert upload.where().offset == 9
    assert upload.append(9, BODY[9:], last=True).status == 201
    assert upload.stored() == BODY


def test_a_creation_with_wrong_content_can_be_gone_on_with_from_its_start(
    server: ServerProcess,
) -> None:
    """Item 77."""
    fields = (v(), "Upload-Complete: ?1", f"Content-Digest: {digest(b'else')}")
    reply = ask(server, "PUT", "/files/f.bin", *fields, body=BODY)
    assert (reply.status, reply.complete) == (400, "?0")
    upload = Upload(server, reply.announced)
    assert upload.where().offset == 0
    assert upload.finish(BODY).status == 201


def test_what_is_cut_under_a_digest_is_not_acknowledged(server: ServerProcess) -> None:
    """Items 13, 77: and no progress is told of it."""
    upload = Upload.begin(server, body=b"abc")
    reply = upload.cut(3, BODY[:2_000_000], len(BODY), v(), f"Content-Digest: {digest(BODY)}")
    assert (reply.status, reply.interim) == (400, [])
    assert upload.where().offset == 3


@pytest.mark.parametrize("right", [True, False])
def test_a_digest_may_come_behind_the_content(server: ServerProcess, right: bool) -> None:
    """Item 78: in a trailer, which the head has announced."""
    upload = Upload.begin(server)
    value = digest(BODY if right else b"else")
    with Client(server) as client:
        client.send(upload.head(0, "Trailer: Content-Digest", length=None))
        client.send(
            b"%x\r\n%b\r\n0\r\nContent-Digest: %b\r\n\r\n" % (len(BODY), BODY, value.encode())
        )
        reply = client.reply()
    assert (reply.status, reply.complete) == ((201, "?1") if right else (400, "?0"))
    assert upload.where().offset == (len(BODY) if right else 0)


def test_the_digest_of_a_whole_file_may_come_behind_it(server: ServerProcess) -> None:
    """Item 78."""
    for number, (value, status) in enumerate(((digest(BODY), 201), (digest(b"else"), 400))):
        fields = (v(), "Upload-Complete: ?1", "Trailer: Repr-Digest", "Transfer-Encoding: chunked")
        with Client(server) as client:
            client.send(head("PUT", f"/files/{number}", *fields))
            client.send(b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY))
            client.send(f"Repr-Digest: {value}\r\n\r\n".encode())
            assert client.reply().status == status
    assert server.published() == {"0": len(BODY)}


def test_unknown_algorithms_are_ignored(server: ServerProcess) -> None:
    """Item 78."""
    fields = ("Content-Digest: md5=:AAAA:, crc32c=:AAAA:", "Repr-Digest: sha=:AAAA:")
    reply = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?1", *fields, body=BODY)
    assert reply.status == 201


@pytest.mark.parametrize("number", [9, 99])
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
def test_a_digest_that_is_none_is_refused(server: ServerProcess, field: str, number: int) -> None:
    """Item 78: else it would be stored unverified."""
    value = f"{field}: sha-256=:AAAA:"
    reply = ask(server, "PUT", "/files/f.bin", v(number), "Upload-Complete: ?1", value, body=b"x")
    assert (reply.status, reply.interim) == (400, [])


def test_the_whole_is_verified_at_the_end(server: ServerProcess) -> None:
    """Items 75, 79: over all requests, and a restart would not matter."""
    upload = Upload.begin(server, "f.bin", f"Repr-Digest: {digest(BODY)}", body=BODY[:1_000_000])
    assert upload.append(1_000_000, BODY[1_000_000:], last=True).status == 201
    assert upload.stored() == BODY


def test_a_whole_that_is_not_as_announced_is_not_kept(server: ServerProcess) -> None:
    """Item 75: and its client shall not resume."""
    upload = Upload.begin(server, "f.bin", f"Repr-Digest: {digest(b'else')}", body=BODY[:9])
    reply = upload.append(9, BODY[9:], last=True)
    assert (reply.status, reply.complete) == (400, "?1")
    assert upload.where().status == 410
    assert not (server.folder / "f.bin").exists()
    assert server.leftovers() == []


@pytest.mark.parametrize("number", [9, 99])
def test_a_whole_in_one_request_is_verified_too(server: ServerProcess, number: int) -> None:
    """Item 75: announced or not."""
    fields = (v(number), "Upload-Complete: ?1", f"Repr-Digest: {digest(b'else')}")
    reply = ask(server, "PUT", "/files/f.bin", *fields, body=BODY)
    assert (reply.status, reply.complete) == (400, "?1")
    assert not (server.folder / "f.bin").exists()
    assert server.leftovers() == []
    fields = (v(number), "Upload-Complete: ?1", f"Content-Digest: {digest(b'else')}")
    reply = ask(server, "PUT", "/files/f.bin", *fields, body=BODY)
    assert (reply.status, reply.complete) == (400, "?0")


@pytest.mark.parametrize("number", [9, 99])
def test_the_digest_that_is_wanted_comes_with_the_final_answer(
    server: ServerProcess, number: int
) -> None:
    """Item 76."""
    fields = (v(number), "Want-Repr-Digest: sha-512=3, sha-256=9, md5=10")
    whole = ask(server, "PUT", "/files/f.bin", "Upload-Complete: ?1", *fields, body=BODY)
    told = {"sha-256": digest(BODY).removeprefix("sha-256=:").removesuffix(":")}
    assert (whole.json["digest"], "repr-digest" in whole.fields) == (told, False)
    begun = ask(server, "PUT", "/files/g.bin", "Upload-Complete: ?0", *fields, body=BODY[:5])
    last = (PARTIAL, "Upload-Offset: 5", "Upload-Complete: ?1")
    reply = ask(server, "PATCH", begun.fields["location"], *last, body=BODY[5:])
    assert (reply.json["digest"], "repr-digest" in reply.fields) == (told, False)


def test_a_plain_request_is_not_concerned(server: ServerProcess) -> None:
    """Item 31."""
    with Client(server) as client:
        client.send(head("PUT", "/files/f.bin", f"Repr-Digest: {digest(BODY)}", length=len(BODY)))
        client.send(BODY)
        reply = client.reply()
    assert (reply.status, reply.complete) == (201, None)
