"""What a head of 64 KiB can hold is not all looked at: it would hold up everybody else."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import HeadTooLarge, InvalidField, InvalidName, NotFound
from forebay.http.head import MAX_FIELDS, MAX_TARGET, Head
from forebay.http.urls import query_of
from forebay.library.upload import RequestHead
from forebay.protocol import forwarded, names, negotiation, preconditions

PROXY = forwarded.networks(["127.0.0.1"])


def head_of(fields: int, target: bytes = b"/") -> bytes:
    lines = [b"GET " + target + b" HTTP/1.1", b"Host: a", *[b"x: y"] * (fields - 1)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_a_head_of_more_fields_than_anybody_sends_is_refused():
    assert len(Head(head_of(MAX_FIELDS)).headers) == MAX_FIELDS
    for fields in (MAX_FIELDS + 1, 12_000):
        with pytest.raises(HeadTooLarge, match="256 fields"):
            Head(head_of(fields))


def test_a_target_longer_than_any_name_is_refused():
    target = b"/" + b"a" * (MAX_TARGET - 1)
    assert Head(head_of(1, target)).target() == (target, b"")
    with pytest.raises(HeadTooLarge, match="request target"):
        Head(head_of(1, target + b"a"))


@given(st.lists(st.sampled_from([b"%", b"%4", b"%41", b"%2F", b"%zz", b"a", b"+", b"=", b"&"])))
def test_escapes_and_queries_are_read_as_the_standard_library_does(parts):
    text = b"".join(parts)
    assert names.unescape(text) == unquote_to_bytes(text)
    try:
        expected = dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=16))
    except ValueError:
        with pytest.raises(NotFound):
            query_of(text)
    else:
        assert query_of(text) == expected


@pytest.mark.parametrize("query", [b"a&" * 17, b"&" * 60_000, b"\xff", "ä".encode()])
def test_a_query_that_cannot_be_one_is_refused(query):
    with pytest.raises(NotFound):
        query_of(query)


@pytest.mark.parametrize("path", [b"/" * 60_000, b"a/" * 65, b"%41" * 20_000, b"a" * 60_000])
def test_a_path_that_can_be_no_name_is_refused_before_it_is_unescaped(path):
    with pytest.raises(InvalidName):
        names.split_path(b"/" + path)


def test_tags_by_the_thousand_are_refused_and_not_ignored():
    for count, refused in ((128, False), (129, True), (20_000, True)):
        headers = [(b"if-none-match", b'"x",' * count)]
        if refused:
            with pytest.raises(InvalidField, match="128 entity tags"):
                preconditions.parse(headers)
        else:
            assert len(preconditions.parse(headers).if_none_match or ()) == count


def test_what_a_client_puts_before_a_proxys_own_words_hides_nothing():
    for junk in (b"," * 60_000, b"x," * 20_000):
        headers = [(b"x-forwarded-proto", junk + b"https"), (b"x-forwarded-host", junk + b"a.b")]
        seen = forwarded.outside(headers, "127.0.0.1", PROXY)
        assert (seen.scheme, seen.host) == ("https", "a.b")


def test_a_forwarded_field_beyond_any_chain_of_proxies_is_as_if_absent():
    pair = b"for=192.0.2.1;proto=https;host=a.b"
    for more in (b", for=192.0.2.2" * 500, b";a=b" * 300, b';a="' + b"x" * 9000 + b'"'):
        headers = [(b"forwarded", pair + more)]
        assert forwarded.outside(headers, "127.0.0.1", PROXY) == forwarded.Outside()
    seen = forwarded.outside([(b"forwarded", pair)], "127.0.0.1", PROXY)
    assert (seen.scheme, seen.host) == ("https", "a.b")


def test_parameters_by_the_thousand_do_not_make_a_taste():
    assert negotiation.prefers_html([(b"accept", b"text/html" + b";a" * 20_000)])
    assert negotiation.prefers_html([(b"accept", b"text/html;a;q=0.5, */*;q=0.1")])


def test_a_field_that_came_many_times_is_joined_once():
    scope = {"method": "GET", "path": "/", "headers": [(b"X", b"%d" % n) for n in range(3)]}
    assert RequestHead(scope).headers == {"x": "0, 1, 2"}
