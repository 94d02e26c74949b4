"""Content-Encoding of requests: none, one that can be taken off, or a refusal."""

from __future__ import annotations

import pytest

from forebay.errors import UnsupportedCoding
from forebay.protocol import content_codings
from forebay.protocol.fields import every
from forebay.protocol.status import render

OFFERED = ("gzip", "zstd")


def headers(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"content-encoding", value) for value in values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((b"",), None),
        ((b"identity",), None),
        ((b"Identity, , identity", b"identity"), None),
        ((b"gzip",), "gzip"),
        ((b"GZip",), "gzip"),
        ((b"x-gzip",), "gzip"),
        ((b"identity, zstd ",), "zstd"),
        ((b"identity", b"zstd"), "zstd"),
    ],
)
def test_what_is_to_be_taken_off(values: tuple[bytes, ...], expected: str | None) -> None:
    assert content_codings.to_decode(headers(*values), OFFERED) == expected
    if expected is None:
        content_codings.check_identity(headers(*values))
        assert content_codings.to_decode(headers(*values), ()) is None


@pytest.mark.parametrize(
    "values",
    [
        (b"gzip, gzip",),
        (b"gzip", b"gzip"),
        (b"gzip, zstd",),
        (b"br",),
        (b"deflate",),
        (b"gzip;q=1",),
        (b"gzip zstd",),
        (b'"gzip"',),
        (b"\xff",),
    ],
)
def test_what_is_refused(values: tuple[bytes, ...]) -> None:
    for offered, accepted in ((OFFERED, b"gzip, zstd"), ((), b"identity")):
        with pytest.raises(UnsupportedCoding) as caught:
            content_codings.to_decode(headers(*values), offered)
        answer = render(caught.value, None)
        assert (answer.status, every(answer.headers, b"accept-encoding")) == (415, [accepted])
    with pytest.raises(UnsupportedCoding) as caught:
        content_codings.check_identity(headers(*values))
    assert every(render(caught.value, None).headers, b"accept-encoding") == [b"identity"]
