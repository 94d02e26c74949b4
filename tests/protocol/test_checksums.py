"""Every way in which a request may say what the checksum of its body is."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol import checksums

DATA = b"the file"


def raw(algorithm: str, data: bytes = DATA) -> bytes:
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()


def b64(algorithm: str) -> str:
    return base64.b64encode(raw(algorithm)).decode()


def hexed(algorithm: str) -> str:
    return raw(algorithm).hex()


SHA256 = Digest("sha-256", raw("sha256"))
MD5 = Digest("md5", raw("md5"))
SHA1 = Digest("sha1", raw("sha1"))

UNDERSTOOD: list[tuple[str, str, list[Digest]]] = [
    ("content-digest", f"sha-256=:{b64('sha256')}:", [SHA256]),
    ("repr-digest", f"sha-256=:{b64('sha256')}:", [SHA256]),
    ("content-md5", b64("md5"), [MD5]),
    ("digest", f"SHA-256={b64('sha256')}", [SHA256]),
    ("digest", f"md5={b64('md5')}, SHA={b64('sha1')}, unixsum=30637", [MD5, SHA1]),
    ("x-goog-hash", f"crc32c=AAAAAA==,md5={b64('md5')}", [MD5]),
    ("oc-checksum", f"SHA1:{hexed('sha1')}", [SHA1]),
    ("oc-checksum", "ADLER32:0e2c0321", []),
    ("x-checksum-sha1", hexed("sha1"), [SHA1]),
    ("x-checksum-sha256", hexed("sha256").upper(), [SHA256]),
    ("x-checksum-md5", hexed("md5"), [MD5]),
    ("x-checksum-sha512", hexed("sha512"), [Digest("sha-512", raw("sha512"))]),
    ("x-amz-content-sha256", hexed("sha256"), [SHA256]),
    ("x-amz-content-sha256", "UNSIGNED-PAYLOAD", []),
    ("x-amz-checksum-sha256", b64("sha256"), [SHA256]),
    ("x-amz-checksum-sha1", b64("sha1"), [SHA1]),
    ("x-amz-checksum-crc32", b64("crc32"), [Digest("crc32", raw("crc32"))]),
    ("x-amz-checksum-crc64nvme", "junk", []),
    ("digest", "id-sha-256=abc, adler32=1", []),
    ("content-digest", "md5=:AAAA:, sha=:AAAA:", []),
]


@pytest.mark.parametrize(("name", "value", "found"), UNDERSTOOD)
def test_a_checksum_is_read(name: str, value: str, found: list[Digest]) -> None:
    headers = [(b"host", b"x"), (name.encode(), value.encode())]
    assert list(checksums.all_digests(headers)) == found
    content, file = checksums.content_digests(headers), checksums.file_digests(headers)
    assert sorted([*content, *file], key=str) == sorted(found, key=str)
    assert not (content and file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name.decode(), "")
            for name in sorted(
                checksums.FIELDS
                - {b"content-digest"}
                - {b"repr-digest"}
                - {b"digest"}
                - {b"x-goog-hash"}
                - {b"oc-checksum"}
            )
        ),
        ("content-md5", "%%%"),
        ("content-md5", "AAAA"),
        ("content-md5", hexed("md5")),
        ("digest", "sha-256=AAAA"),
        ("digest", "sha-256"),
        ("oc-checksum", "SHA1:xyz"),
        ("oc-checksum", "MD5:"),
        ("x-checksum-sha256", b64("sha256")),
        ("x-checksum-sha256", hexed("sha1")),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-checksum-crc32", "AAAA"),
        ("content-digest", "sha-256=abc"),
    ],
)
def test_one_that_cannot_be_read_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidField):
        checksums.all_digests([(name.encode(), value.encode())])


def test_one_that_comes_twice_is_refused() -> None:
    twice = [(b"content-md5", b64("md5").encode())] * 2
    with pytest.raises(InvalidField):
        checksums.all_digests(twice)


def test_what_is_announced_to_come_behind() -> None:
    lines = [(b"trailer", b"X, Content-Digest"), (b"trailer", b"REPR-DIGEST ,content-md5")]
    names = checksums.announced_trailers(lines, whole=True)
    assert names == (b"content-digest", b"content-md5", b"repr-digest")
    assert checksums.announced_trailers(lines, whole=False) == (b"content-digest", b"content-md5")
    assert checksums.announced_trailers([(b"trailer", b"expires")], whole=True) == ()
    assert checksums.trailer_algorithms(names) == ("md5", "sha-256", "sha-512")


def test_what_was_announced_must_come_and_nothing_else_is_looked_at() -> None:
    right = (b"content-digest", f"sha-256=:{b64('sha256')}:".encode())
    other = (b"content-md5", b"junk")
    assert checksums.trailer_digests([right, other], [b"content-digest"]) == (SHA256,)
    with pytest.raises(InvalidField, match="did not come"):
        checksums.trailer_digests([other], [b"content-digest"])
    with pytest.raises(InvalidField):
        checksums.trailer_digests([(b"content-digest", b"junk=")], [b"content-digest"])


def test_where_no_trailer_can_come_none_may_be_announced() -> None:
    names = [b"repr-digest"]
    checksums.check_trailers([], readable=False, content_length=5)
    checksums.check_trailers(names, readable=True, content_length=None)
    with pytest.raises(InvalidField, match="in the head"):
        checksums.check_trailers(names, readable=False, content_length=None)
    with pytest.raises(InvalidField, match="not chunked"):
        checksums.check_trailers(names, readable=True, content_length=5)
