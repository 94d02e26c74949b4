"""A checksum that is understood and does not match never ends in a success, wherever it is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content, head
from tus.client import STREAM, ask, create

Start = Callable[..., ServerProcess]
DATA = content(100_000)
CHUNKED = "Transfer-Encoding: chunked"
BOUNDARY = "form-of-one-file"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'.encode()
    + DATA
    + f"\r\n--{BOUNDARY}--\r\n".encode()
)
FORM_TYPE = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


def b64(algorithm: str, data: bytes) -> str:
    digest = hashlib.new(algorithm, data, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def sha256(data: bytes) -> str:
    return f"sha-256=:{b64('sha256', data)}:"


def told_of(data: bytes) -> list[str]:
    """The fields of a request that tell of `data`."""
    hexed = hashlib.sha256(data).hexdigest()
    return [
        f"Content-Digest: {sha256(data)}",
        f"Repr-Digest: {sha256(data)}",
        f"Content-MD5: {b64('md5', data)}",
        f"Digest: sha-256={b64('sha256', data)}",
        f"Digest: adler32=03da0195, MD5={b64('md5', data)}",
        f"X-Checksum-Sha256: {hexed}",
        f"OC-Checksum: SHA256:{hexed}",
        f"X-Goog-Hash: md5={b64('md5', data)}",
        f"X-Amz-Content-SHA256: {hexed}",
        f"X-Amz-Checksum-Sha256: {b64('sha256', data)}",
    ]


def send(
    server: ServerProcess, method: str, path: str, *fields: str, body: bytes, trailer: str = ""
):
    """One request, chunked when a trailer is announced."""
    with RawClient(server) as client:
        if CHUNKED in fields:
            whole = chunked([body])[:-2] + trailer.encode() + b"\r\n"
            client.send(head(method, path, *fields) + whole)
        else:
            client.send(head(method, path, *fields, length=len(body)) + body)
        status, answer, told = client.response()
        return status, answer, json.loads(told) if told else {}


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [("PUT", "/files/f.bin", DATA, ()), ("POST", "/files/", FORM, (FORM_TYPE,))],
    ids=["file", "form"],
)
def test_a_checksum_in_the_head_is_compared(
    start_any: Start, method: str, path: str, body: bytes, kind: tuple[str, ...]
) -> None:
    server = start_any()
    for field in told_of(body[:-1]):
        status, _, told = send(server, method, path, *kind, field, body=body)
        assert (status, told["code"]) == (400, "FB_DIGEST_MISMATCH"), field
        assert server.published() == {}
    for field in told_of(body):
        assert send(server, method, path, *kind, field, body=body)[0] == 201, field
        assert server.published().popitem()[1] == len(DATA)
        (server.folder / "f.bin").unlink()
    assert server.leftovers() == []


def test_what_is_framed_in_a_way_of_its_own_is_refused(start_any: Start) -> None:
    server = start_any()
    field = "X-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    status, _, told = send(server, "PUT", "/files/f.bin", field, body=DATA)
    assert (status, told["code"]) == (400, "FB_INVALID_FIELD")
    assert server.published() == {}


def test_a_checksum_of_an_append_is_compared(start_any: Start) -> None:
    server = start_any()
    path = create(server, len(DATA))
    wrong = {"Upload_Offset": 0, "Content_Type": STREAM, "Content_MD5": b64("md5", b"other")}
    assert ask(server, "PATCH", path, DATA, **wrong).status == 460
    assert ask(server, "HEAD", path).offset == 0
    right = wrong | {"Content_MD5": b64("md5", DATA)}
    assert ask(server, "PATCH", path, DATA, **right).status == 204
    assert list(server.published().values()) == [len(DATA)]


# --- behind the body -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
def test_an_announced_trailer_is_compared(server: ServerProcess, name: str, size: int) -> None:
    data = content(size)
    announced = (CHUNKED, f"Trailer: X-Other, {name.lower()}")

    def put(trailer: str) -> tuple[int, str]:
        status, _, told = send(
            server, "PUT", "/files/f.bin", *announced, body=data, trailer=trailer
        )
        return status, told.get("code", "")

    assert put(f"{name}: {sha256(b'other')}\r\n") == (400, "FB_DIGEST_MISMATCH")
    assert put(f"{name}: sha-256=abc\r\n") == (400, "FB_INVALID_FIELD")
    assert put(f"X-Other: {name}\r\n") == (400, "FB_INVALID_FIELD")  # it did not come
    sha512 = f"sha-512=:{b64('sha512', b'other')}:"
    assert put(f"{name}: {sha256(data)}, {sha512}\r\n") == (400, "FB_DIGEST_MISMATCH")
    assert server.published() == {}
    assert server.leftovers() == []
    assert put(f"{name.upper()}: {sha256(data)}\r\nX-Other: 1\r\n") == (201, "")
    assert (server.folder / "f.bin").read_bytes() == data


def test_an_announced_trailer_of_a_form_is_compared(server: ServerProcess) -> None:
    announced = (FORM_TYPE, CHUNKED, "Trailer: Content-Digest")
    for digest, status in ((sha256(b"other"), 400), (sha256(FORM), 201)):
        trailer = f"Content-Digest: {digest}\r\n"
        answer = send(server, "POST", "/files/", *announced, body=FORM, trailer=trailer)
        assert answer[0] == status
        assert len(server.published()) == (status == 201)


def test_a_trailer_that_was_not_announced_is_not_looked_at(server: ServerProcess) -> None:
    trailer = f"Repr-Digest: {sha256(b'other')}\r\n"
    assert send(server, "PUT", "/files/f", CHUNKED, body=DATA, trailer=trailer)[0] == 201


def test_a_trailer_that_cannot_come_is_refused_at_once(start_any: Start) -> None:
    server = start_any()
    for fields in (("Trailer: Repr-Digest",), ("Trailer: Repr-Digest", FORM_TYPE)):
        body = FORM if FORM_TYPE in fields else DATA
        status, _, told = send(server, "POST", "/files/", *fields, body=body)
        assert (status, told["code"]) == (400, "FB_INVALID_FIELD")
    part = ("Content-Range: bytes 0-99999/200000", "Trailer: Content-Digest")
    assert send(server, "PUT", "/files/f", *part, body=DATA)[0] == 400
    assert server.published() == {}
    assert server.leftovers() == []


@pytest.mark.parametrize("shell", ["uvicorn", "hypercorn"])
def test_where_trailers_cannot_be_read_a_digest_may_not_be_announced(
    reuse_server: Start, shell: str
) -> None:
    server = reuse_server(shell=shell)
    trailer = f"Repr-Digest: {sha256(DATA)}\r\n"
    announced = (CHUNKED, "Trailer: Repr-Digest")
    status, _, told = send(server, "PUT", "/files/f", *announced, body=DATA, trailer=trailer)
    assert (status, "in the head" in told["detail"]) == (400, True)
    assert server.published() == {}


# --- the answer ------------------------------------------------------------------------------


def test_an_answer_about_a_file_that_was_transformed_has_no_validator(start_any: Start) -> None:
    """RFC 9110, section 9.3.4."""
    server = start_any("--decode-request")
    coded = gzip.compress(DATA)
    answer = send(server, "PUT", "/files/f", "Content-Encoding: gzip", body=coded)
    assert (answer[0], "etag" in answer[1]) == (201, False)
    assert answer[2]["etag"] == server.request("HEAD", "/files/f")[1]["etag"]
    plain = send(server, "PUT", "/files/g", body=DATA)
    assert plain[1]["etag"] == plain[2]["etag"]
