from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField
from forebay.model import Digest
from forebay.protocol.digest_fields import ALGORITHMS, parse, serialise, wanted_algorithms

SHA256 = hashlib.sha256(b"x").digest()
SHA512 = hashlib.sha512(b"x").digest()


def member(algorithm, value):
    return f"{algorithm}=:{b64encode(value).decode()}:".encode()


def test_what_is_listed_can_be_computed():
    for name in ALGORITHMS.values():
        assert hashlib.new(name)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        ([b""], ()),
        ([member("sha-256", SHA256)], (Digest("sha-256", SHA256),)),
        (
            [member("sha-512", SHA512) + b", " + member("sha-256", SHA256)],
            (Digest("sha-512", SHA512), Digest("sha-256", SHA256)),
        ),
        (
            [member("sha-512", SHA512), member("sha-256", SHA256)],
            (Digest("sha-512", SHA512), Digest("sha-256", SHA256)),
        ),
        ([b"md5=:AAAA:, crc32c=:AAAA:, new=1, odd=(1 2)"], ()),
        ([b"md5=:AAAA:, " + member("sha-256", SHA256) + b";p=1"], (Digest("sha-256", SHA256),)),
    ],
)
def test_known_digests_are_kept_and_others_ignored(values, expected):
    assert parse(values, "Repr-Digest") == expected


@pytest.mark.parametrize(
    "value",
    [
        b"sha-256",
        b"sha-256=1",
        b"sha-256=abc",
        b'sha-256="abc"',
        b"sha-256=::",
        b"sha-256=(:AAAA:)",
        b"sha-256=:not base64!:",
        b"SHA-256=:AAAA:",
        b"junk,,",
        b"\xff",
        member("sha-256", SHA512),
        member("sha-512", SHA256),
        member("sha-256", SHA256[:-1]),
    ],
)
def test_a_digest_that_could_not_be_verified_is_refused(value):
    with pytest.raises(InvalidField, match="Content-Digest"):
        parse([value], "Content-Digest")


@pytest.mark.parametrize(
    ("values", "expected"),
    [  # RFC 9530, section 4
        ([], ()),
        ([b"sha-256=1"], ("sha-256",)),
        ([b"sha-256=3, sha-512=10"], ("sha-512", "sha-256")),
        ([b"sha-256=3", b"sha-512=3"], ("sha-256", "sha-512")),
        ([b"sha-256=0, sha-512=1"], ("sha-512",)),
        ([b"md5=10, sha-256=1"], ("sha-256",)),
        ([b"sha-256=11"], ()),
        ([b"sha-256=-1"], ()),
        ([b"sha-256"], ()),
        ([b"sha-256=1.0"], ()),
        ([b"junk="], ()),
    ],
)
def test_wanted_algorithms_are_ranked(values, expected):
    assert wanted_algorithms(values) == expected


@given(st.binary(max_size=100))
def test_digests_read_back_as_written(body):
    digests = tuple(
        Digest(key, hashlib.new(name, body).digest()) for key, name in ALGORITHMS.items()
    )
    assert parse([serialise(digests)], "Repr-Digest") == digests
    assert serialise(()) == b""
