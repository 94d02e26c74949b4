"""Accept and Accept-Encoding (RFC 9110, section 12.5), with what real clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.protocol.negotiation import prefers_html, takes_coding

CHROME = (
    b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    b"*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (None, True),  # rclone, which reads links
        (b"", False),
        (b"*/*", False),  # curl, wget, Python
        (CHROME, True),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),  # Firefox
        (b"application/json", False),
        (b"application/json, text/plain, */*", False),  # axios
        (b"text/html", True),
        (b"TEXT/HTML", True),
        (b"text/*", True),
        (b"text/html, application/json", False),  # equal
        (b"text/html;q=0.5, application/json;q=0.6", False),
        (b"text/html;q=0.6, application/json;q=0.5", True),
        (b"text/html;q=0, */*", False),
        (b"text/html;level=1;q=0.9, application/json;q=0.1", True),
        (b"text/html;q=2", False),  # no weight is more than 1
        (b"text/html;q=-1", False),
        (b"image/png", False),
        (b";;;,,,q=1", False),
        (b"a/b," * 5000 + b"text/html", False),  # too long to be read to its end
    ],
)
def test_a_page_is_for_those_who_would_rather_have_it(accept: bytes | None, html: bool):
    headers = [] if accept is None else [(b"accept", accept)]
    assert prefers_html(headers) is html


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        (None, False),
        (b"", False),
        (b"gzip, deflate, br, zstd", True),  # Chrome, Firefox
        (b"gzip, deflate", False),
        (b"zstd;q=0", False),
        (b"zstd;q=0.5", True),
        (b"ZSTD", True),
        (b"identity, zstd;q=0.5", False),
        (b"identity;q=0.5, zstd", True),
        (b"*", False),
        (b"identity;q=0, *", False),
        (b"zstd;q=junk", False),
    ],
)
def test_a_coding_is_for_those_who_name_it(field: bytes | None, taken: bool):
    headers = [] if field is None else [(b"accept-encoding", field)]
    assert takes_coding(headers, "zstd") is taken


@given(st.binary(max_size=200))
def test_any_bytes_are_read(field: bytes):
    prefers_html([(b"accept", field)])
    takes_coding([(b"accept-encoding", field)], "zstd")
