"""Upload-Metadata and Upload-Concat of tus 1.0, and what proxies say."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField, NotFound
from forebay.protocol.forwarded import Outside, networks, outside
from forebay.protocol.tus_concat import Concat, parse_concat
from forebay.protocol.tus_metadata import media_type_of, name_of, parse_metadata

ID = "AZaz09_-" * 4
KEYS = st.text(
    st.characters(codec="latin-1", exclude_characters=",\x7f", min_codepoint=0x21),
    min_size=1,
    max_size=20,
)


@given(st.dictionaries(KEYS, st.binary(max_size=50), max_size=20), st.booleans())
def test_what_is_written_as_pairs_is_read_as_pairs(pairs: dict[str, bytes], space: bool) -> None:
    """Item 48."""
    comma = ", " if space else ","
    text = comma.join(f"{k} {base64.b64encode(v).decode()}" for k, v in pairs.items())
    assert parse_metadata(text.encode("latin-1")) == pairs


@given(st.binary(max_size=60))
def test_any_metadata_is_read_or_refused(value: bytes) -> None:
    """Items 48 and 50."""
    try:
        pairs = parse_metadata(value)
    except InvalidField:
        return
    assert name_of(pairs, "made-up")


def test_an_empty_field_has_no_pairs() -> None:
    """Item 49."""
    assert parse_metadata(b"") == parse_metadata(b"  ") == {}
    assert parse_metadata(b"a, b ,c YQ==") == {"a": b"", "b": b"", "c": b"a"}


@pytest.mark.parametrize("value", [b",", b"a YQ==,", b"a YQ", b"a,a", b"a Y Q==", b"a !", b"a\nb"])
def test_what_is_no_pair_is_refused(value: bytes) -> None:
    """Items 48 and 49."""
    with pytest.raises(InvalidField):
        parse_metadata(value)


def test_the_media_type_is_one_or_none() -> None:
    """Item 50."""
    assert media_type_of({"filetype": b"Image/PNG; a=b"}) == "image/png"
    assert media_type_of({"type": b"text/html"}) == "text/html"
    assert media_type_of({"filetype": b"no type", "type": b"a/b"}) == "a/b"
    assert media_type_of({"filetype": b"a/b\r\nx: y"}) is None
    assert media_type_of({"filetype": b"a/" + b"b" * 300}) is None


@pytest.mark.parametrize(
    ("value", "mount", "parts"),
    [
        ("partial", "/uploads", None),
        (f"final;/uploads/{ID}", "/uploads", (ID,)),
        (f"final; /uploads/{ID}  {ID}", "/uploads", (ID, ID)),
        (f"final;https://any.example:8080/uploads/{ID}/", "/uploads", (ID,)),
        (f"final;/prefix/of/proxy/uploads/{ID}", "/uploads", (ID,)),
        (f"final;/{ID}", "", (ID,)),
        (f"final;/api/v1/tus/{ID}", "/api/v1/tus", (ID,)),
    ],
)
def test_what_a_concatenation_is_made_of(
    value: str, mount: str, parts: tuple[str, ...] | None
) -> None:
    """Items 102 and 115."""
    assert parse_concat(value.encode(), mount) == Concat(parts)


@given(st.text(st.sampled_from("/.:;%? #aAx0_-" + "é")))
def test_no_url_leads_anywhere_but_to_an_id(text: str) -> None:
    """Item 111."""
    try:
        found = parse_concat(b"final;" + text.encode("latin-1"), "/uploads")
    except (InvalidField, NotFound):
        return
    assert found.parts
    assert all(set(part) <= set("aAx0_-") and len(part) >= 16 for part in found.parts)


def test_a_long_path_is_judged_in_no_time() -> None:
    """Item 52."""
    for hostile in ("a" * 60_000 + "?", "/a" * 30_000 + "?", "a/" * 30_000 + "%"):
        with pytest.raises(InvalidField):
            parse_concat(b"final;" + hostile.encode(), "/uploads")


# --- proxies ---------------------------------------------------------------------------------

TRUSTED = networks(["127.0.0.1", "10.0.0.0/8", "::1"])
Headers = list[tuple[bytes, bytes]]


def said(**fields: str) -> Headers:
    return [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()]


ALL = said(x_forwarded_proto="https", x_forwarded_host="a.example", x_forwarded_prefix="/p/")


@pytest.mark.parametrize("peer", [None, "192.0.2.1", "unknown", "", "::2", "/run/socket"])
def test_nobody_else_is_believed(peer: str | None) -> None:
    """Item 45."""
    assert outside(ALL, peer, TRUSTED) == Outside()
    assert outside(ALL, "127.0.0.1", ()) == Outside()


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.9.8.7", "::1", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    """Item 45."""
    assert outside(ALL, peer, TRUSTED) == Outside("https", "a.example", "/p")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (said(forwarded="proto=https;host=a.example"), Outside("https", "a.example")),
        (said(forwarded='Host="a.example:8443"; Proto=HTTPS'), Outside("https", "a.example:8443")),
        (said(forwarded='host="[::1]:80"'), Outside(None, "[::1]:80")),
        # the nearest is the last; what stands before it counts only if its proxy is trusted
        (said(forwarded="host=evil, for=192.0.2.9;host=good"), Outside(None, "good")),
        (said(forwarded="host=outer, for=10.0.0.2;host=inner"), Outside(None, "outer")),
        (said(forwarded='for="[::1]:99";host=b, host=a'), Outside(None, "a")),
        (said(forwarded="nonsense"), Outside()),
        (said(forwarded="host=a b"), Outside()),
        (said(forwarded="proto=ftp;host=a/b"), Outside()),
        (said(x_forwarded_proto="http", x_forwarded_host="evil, good"), Outside("http", "good")),
        (
            said(x_forwarded_for="192.0.2.1, 10.0.0.2", x_forwarded_host="outer, inner"),
            Outside(None, "outer"),
        ),
        (said(x_forwarded_host="a\tb"), Outside()),
        (said(x_forwarded_host="a.example/x"), Outside()),
        (said(x_forwarded_prefix="//evil.example"), Outside()),
        (said(x_forwarded_prefix="/a/../b"), Outside()),
        (said(x_forwarded_prefix="a"), Outside()),
        (said(x_forwarded_prefix="/"), Outside()),
        (said(x_forwarded_prefix="/a b"), Outside()),
        (said(x_forwarded_prefix="/outer/, /inner"), Outside(None, None, "/outer/inner")),
        (said(x_forwarded_prefix="/outer, //evil"), Outside()),
    ],
)
def test_what_a_proxy_says_is_read_or_ignored(headers: Headers, expected: Outside) -> None:
    """Item 45."""
    assert outside(headers, "127.0.0.1", TRUSTED) == expected


@pytest.mark.parametrize(
    ("seen", "origin"),
    [
        (Outside(), "http://h:8000"),
        (Outside("https", "a.example:443"), "https://a.example"),
        (Outside("http", "a.example:80"), "http://a.example"),
        (Outside("https", "a.example:80"), "https://a.example:80"),
        (Outside("https"), "https://h:8000"),
    ],
)
def test_an_origin_has_no_default_port(seen: Outside, origin: str) -> None:
    """Item 45."""
    assert seen.origin("http", "h:8000") == origin


@given(st.binary(max_size=80))
def test_any_field_of_a_proxy_makes_a_host_or_none(value: bytes) -> None:
    headers = [(b"forwarded", value), (b"x-forwarded-host", value), (b"x-forwarded-prefix", value)]
    found = outside(headers, "127.0.0.1", TRUSTED)
    text = f"{found.host or ''}{found.prefix}"
    assert not set(text) & set(' \r\n\t"<>\\\0')


@pytest.mark.parametrize("value", [b"/..", b"/a/../b", b"/%2e%2e", b"/a/.%2E", b"/a/%2e/b"])
def test_a_prefix_that_leads_elsewhere_is_ignored(value: bytes) -> None:
    """A browser takes an escaped dot in a path for a dot (WHATWG URL, section 4.4)."""
    assert outside([(b"x-forwarded-prefix", value)], "127.0.0.1", TRUSTED).prefix == ""
