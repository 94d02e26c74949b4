"""tus 1.0: checksum and checksum-trailer (items 82 to 95)."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from forebay.engine.transfer.hashes import known, make
from forebay.protocol.tus_checksum import ALGORITHMS
from raw_http import RawClient, chunked, content
from tus.client import (
    STREAM,
    ask,
    checksum,
    create,
    head,
    metadata,
    patch,
    patch_head,
    reply_of,
    request_head,
)

Start = Callable[..., ServerProcess]


def digest(algorithm: str, data: bytes) -> str:
    hasher = make(algorithm)
    hasher.update(data)
    return f"{algorithm} {base64.b64encode(hasher.digest()).decode()}"


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name in known()])
def test_each_algorithm_that_is_offered_is_compared(start_any: Start, algorithm: str) -> None:
    """Items 82, 83, 86 and 87."""
    server = start_any()
    assert algorithm in ask(server, "OPTIONS").fields["tus-checksum-algorithm"].split(",")
    data = content(300_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename=algorithm))
    wrong = patch(server, path, 0, data, Upload_Checksum=digest(algorithm, data + b"x"))
    assert wrong.status == 460
    assert head(server, path).offset == 0
    assert algorithm not in server.published()
    half = data[:100_000]
    assert patch(server, path, 0, half, Upload_Checksum=digest(algorithm, half)).status == 204
    rest = data[100_000:]
    assert patch(server, path, 100_000, rest, Upload_Checksum=digest(algorithm, rest)).status == 204
    assert (server.folder / algorithm).read_bytes() == data


def test_the_digests_are_the_usual_ones() -> None:
    """Item 83."""
    assert digest("sha1", b"abc") == checksum(b"abc")
    assert (
        digest("crc32", b"abc").split()[1]
        == base64.b64encode(zlib.crc32(b"abc").to_bytes(4, "big")).decode()
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha1",
        "sha1 ",
        "sha1 AAAA",
        "sha1 !!!!",
        "SHA1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        "sha-256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        "sha3 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        "sha1  qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0",
    ],
)
def test_a_checksum_that_cannot_be_compared_is_refused(start_any: Start, value: str) -> None:
    """Items 84, 85 and 89."""
    server = start_any()
    path = create(server, 3)
    assert patch(server, path, 0, b"abc", Upload_Checksum=value).status == 400
    assert head(server, path).offset == 0


def test_what_was_announced_with_a_checksum_and_broke_off_is_forgotten(
    server: ServerProcess,
) -> None:
    """Items 88 and 91: not one byte is told before all of them were compared."""
    data = content(1_000_000)
    path = create(server, len(data))
    with RawClient(server) as client:
        client.send(
            patch_head(
                path, 0, f"Content-Length: {len(data)}", f"Upload-Checksum: {checksum(data)}"
            )
        )
        client.send(data[:-1])
        client.reset()
    assert head(server, path).offset == 0
    assert patch(server, path, 0, data, Upload_Checksum=checksum(data)).status == 204


# --- J. checksum-trailer ---------------------------------------------------------------------


def send(
    server: ServerProcess, path: str, body: bytes, trailers: list[str], *fields: str
) -> tuple[int, int]:
    """A chunked PATCH at 0 with trailers; its status and the offset afterwards."""
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Transfer-Encoding: chunked", *fields))
        client.send(chunked([body[:2], body[2:]]).removesuffix(b"\r\n"))
        client.send("".join(f"{line}\r\n" for line in [*trailers, ""]).encode())
        status = reply_of(client).status
    return status, head(server, path).offset


ANNOUNCED = "Trailer: Upload-Checksum"


def test_the_trailer_is_compared(server: ServerProcess) -> None:
    """Items 92 to 94."""
    assert "checksum-trailer" in ask(server, "OPTIONS").fields["tus-extension"].split(",")
    right, wrong = f"Upload-Checksum: {checksum(b'abc')}", f"Upload-Checksum: {checksum(b'x')}"
    path = create(server, 9)
    assert send(server, path, b"abc", [wrong], ANNOUNCED) == (460, 0)
    assert send(server, path, b"abc", [wrong], ANNOUNCED, right) == (400, 0)
    assert send(server, path, b"abc", [right], ANNOUNCED, wrong) == (460, 0)
    assert send(server, path, b"abc", [right, right], ANNOUNCED) == (400, 0)
    assert send(server, path, b"abc", ["Upload-Checksum: sha1 x"], ANNOUNCED) == (400, 0)
    assert send(server, path, b"abc", [right], ANNOUNCED, right) == (204, 3)
    path = create(server, 9)
    others = ["Upload-Length: 3", "Content-Length: 1", "X: y"]
    assert send(server, path, b"abc", [*others, right], "Trailer: X, upload-checksum") == (204, 3)
    assert head(server, path).fields["upload-length"] == "9"


def test_an_announced_trailer_must_come(server: ServerProcess) -> None:
    """Item 95."""
    path = create(server, 3, Upload_Metadata=metadata(filename="t"))
    assert send(server, path, b"abc", [], ANNOUNCED) == (400, 0)
    assert send(server, path, b"abc", ["X: y"], ANNOUNCED) == (400, 0)
    assert "t" not in server.published()


def test_a_trailer_that_nobody_announced_is_not_looked_at(server: ServerProcess) -> None:
    """Item 94: its bytes may have been acknowledged long before it comes."""
    path = create(server, 9)
    assert send(server, path, b"abc", [f"Upload-Checksum: {checksum(b'x')}"]) == (204, 3)


def test_the_trailer_of_a_creation_counts_as_well(server: ServerProcess) -> None:
    """Items 71 and 93."""
    for data, status in ((b"abc", 201), (b"abd", 460)):
        with RawClient(server) as client:
            client.send(
                request_head(
                    "POST",
                    "/uploads/",
                    "Upload-Length: 3",
                    f"Content-Type: {STREAM}",
                    "Transfer-Encoding: chunked",
                    ANNOUNCED,
                )
                + chunked([data]).removesuffix(b"\r\n")
                + f"Upload-Checksum: {checksum(b'abc')}\r\n\r\n".encode()
            )
            reply = reply_of(client)
        assert reply.status == status
        assert head(server, reply.location).offset == (3 if status == 201 else 0)


@pytest.mark.parametrize("shell", ["uvicorn", "hypercorn"])
def test_where_trailers_cannot_be_read_they_are_not_offered(
    reuse_server: Start, shell: str
) -> None:
    """Item 92."""
    server = reuse_server(shell=shell)
    assert "checksum-trailer" not in ask(server, "OPTIONS").fields["tus-extension"]
    path = create(server, 3)
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Transfer-Encoding: chunked", ANNOUNCED))
        client.send(b"3\r\nabc\r\n0\r\n" + f"Upload-Checksum: {checksum(b'abc')}\r\n\r\n".encode())
        assert client.head()[0] == 400
    assert head(server, path).offset == 0


@pytest.mark.parametrize("path", ["/uploads/", "/files/"])
def test_a_digest_of_the_file_is_compared_where_a_creation_brings_it_whole(
    reuse_server: Start, path: str
) -> None:
    server = reuse_server()
    data = content(1000)
    for name in ("Repr-Digest", "Digest", "X-Checksum-Sha256"):
        for said, status in ((b"other", 460), (data, 201)):
            digest = hashlib.sha256(said)
            encoded = base64.b64encode(digest.digest()).decode()
            value = {"Repr-Digest": f"sha-256=:{encoded}:", "Digest": f"sha-256={encoded}"}
            told = {name: value.get(name, digest.hexdigest())}
            reply = ask(server, "POST", path, data, Upload_Length=1000, Content_Type=STREAM, **told)
            assert reply.status == status, name
            assert len(server.published()) == (status == 201)
        for stored in server.published():
            (server.folder / stored).unlink()
