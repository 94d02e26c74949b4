from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.protocol.http_dates import parse_http_date
from forebay.protocol.parameters import (
    disposition_for,
    matches_media_type,
    parse_content_disposition,
    parse_media_type,
)
from forebay.protocol.structured_fields import structured_dictionary, structured_item

# --- RFC 9110, section 8.3.1 ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/plain", ("text/plain", {})),
        (b"Text/HTML; Charset=UTF-8", ("text/html", {"charset": "UTF-8"})),
        (b"text/html;charset=utf-8", ("text/html", {"charset": "utf-8"})),
        (
            b'multipart/form-data; boundary="a;b=\\"c"; x=y',
            ("multipart/form-data", {"boundary": 'a;b="c', "x": "y"}),
        ),
        (b"multipart/form-data; boundary=--x", ("multipart/form-data", {"boundary": "--x"})),
        (b"a/b; x=1; x=2", ("a/b", {"x": "1"})),
        (b"a/b;;; x=1", ("a/b", {"x": "1"})),
        (b"a/b; junk; x=1", ("a/b", {"x": "1"})),
        (b"a/b; ", ("a/b", {})),
        ("image/png", ("image/png", {})),
        (b"", ("", {})),
        (b"text", ("", {})),
        (b"text/", ("", {})),
        (b"text/plain, text/html", ("", {})),
        (b"\xff/\xff", ("", {})),
    ],
)
def test_media_types_are_read_leniently(value, expected):
    assert parse_media_type(value) == expected


@pytest.mark.parametrize(
    ("value", "patterns", "expected"),
    [
        (b"image/png", ["image/*"], True),
        (b"image/png; q=1", ["text/plain", "IMAGE/PNG"], True),
        (b"image/png", ["*/*"], True),
        (b"image/png", ["imag/*", "image", "image/jpeg"], False),
        (b"image/png", [], False),
        (b"junk", ["*/*"], False),
    ],
)
def test_media_types_match_patterns(value, patterns, expected):
    assert matches_media_type(value, patterns) is expected


# --- RFC 6266, RFC 8187, RFC 7578 ---


@pytest.mark.parametrize(
    ("value", "filename"),
    [
        (b"attachment", None),
        (b"attachment; filename=a.txt", "a.txt"),
        (b"ATTACHMENT; FILENAME=a.txt", "a.txt"),
        (b'attachment; filename="a b.txt"', "a b.txt"),
        (b"attachment; filename=a b.txt", "a b.txt"),
        (b'attachment; filename="a;b.txt"; x=y', "a;b.txt"),
        (b'attachment; filename="a\\"b\\\\c"', 'a"b\\c'),
        # a quoted pair is its second character, whatever that is: RFC 9110, section 5.6.4
        (b'attachment; filename="f\\oo.html"', "foo.html"),
        (b'attachment; filename="C:\\dir\\file.txt"', "C:dirfile.txt"),
        (b'attachment; filename="a\\\\b"', "a\\b"),
        (b'attachment; filename="unclosed', "unclosed"),
        (b'attachment ; filename = "a"', "a"),
        (b'attachment;filename="a"junk;x=y', "a"),
        (b'attachment; filename=""', ""),
        # raw bytes as browsers send them, RFC 7578, section 5.1.1
        ('attachment; filename="naïve.txt"'.encode(), "naïve.txt"),
        ('attachment; filename="naïve.txt"'.encode("latin-1"), "naïve.txt"),
        (b'attachment; filename="50%25.txt"', "50%25.txt"),
        # RFC 6266, section 4.3: filename* first, in any order
        (b"attachment; filename*=UTF-8''%e2%82%ac.txt; filename=\"e.txt\"", "€.txt"),
        (b"attachment; filename=\"e.txt\"; filename*=utf-8'en'%E2%82%AC.txt", "€.txt"),
        (b"attachment; filename*=iso-8859-1''%A3.txt", "£.txt"),
        (b"attachment; filename*=\"UTF-8''%e2%82%ac\"", "€"),
        (b"attachment; filename*=UTF-8''a%2Fb", "a/b"),
        # what cannot be decoded is as if absent
        (b"attachment; filename*=UTF-8''%ff; filename=e.txt", "e.txt"),
        (b"attachment; filename*=UTF-8''%e; filename=e.txt", "e.txt"),
        (b"attachment; filename*=UTF-8''%zz; filename=e.txt", "e.txt"),
        (b"attachment; filename*=utf-16''%41; filename=e.txt", "e.txt"),
        (b"attachment; filename*=plain; filename=e.txt", "e.txt"),
        (b"attachment; filename*=UTF-8''%ff", None),
    ],
)
def test_the_filename_is_told(value, filename):
    disposition = parse_content_disposition(value)
    assert disposition is not None
    assert disposition.kind == "attachment"
    assert disposition.filename == filename


def test_a_form_part_has_a_name():
    value = 'form-data; name="füld"; filename="x"'.encode()
    assert parse_content_disposition(value) == ("form-data", "füld", "x")
    assert parse_content_disposition(b"form-data; name=a") == ("form-data", "a", None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b";",
        b'="x"',
        b'"attachment"',
        b"form-data name=a",
        b"form-data; filename=a; filename=b",
        b"form-data; name=a; NAME=a",
    ],
)
def test_a_disposition_that_cannot_be_told_is_none(value):
    assert parse_content_disposition(value) is None


@given(st.binary(max_size=200).map(lambda junk: b"form-data;" + junk))
def test_no_junk_makes_the_parsers_raise(value):
    parse_content_disposition(value)
    parse_content_disposition(value[10:])
    parse_media_type(b"a/b;" + value)
    structured_dictionary([value, value[10:]])
    structured_item(value[10:])
    parse_http_date(value)


@given(st.text(min_size=1, max_size=60).filter(lambda name: "/" not in name), st.booleans())
def test_a_written_disposition_reads_back_and_cannot_be_broken_out_of(name, inline):
    value = disposition_for(name, inline)
    assert all(0x20 <= octet <= 0x7E for octet in value)
    assert value.startswith(b"inline" if inline else b"attachment")
    disposition = parse_content_disposition(value)
    assert disposition is not None
    assert disposition.filename == name


def test_a_written_disposition_has_an_ascii_fallback():
    assert disposition_for("dir/a.txt") == b'attachment; filename="a.txt"'
    assert disposition_for('é"\r\n.txt') == (
        b"attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A9%22%0D%0A.txt"
    )
    assert b"%3F" in disposition_for("\udcff")


def test_more_parameters_than_anybody_means_make_a_field_unreadable():
    for value in (b";" * 60_000, b";a=b" * 65, b';a="' * 20_000, b"; " * 300, b";a=" + b"b" * 9000):
        assert parse_media_type(b"multipart/form-data" + value) == ("", {})
        assert parse_content_disposition(b"form-data" + value) is None
    many = b"".join(b"; a%d=b" % number for number in range(63))
    assert parse_media_type(b"a/b" + many + b"; x=y")[1]["x"] == "y"
    disposition = parse_content_disposition(b"attachment" + many + b"; filename=x")
    assert disposition is not None
    assert disposition.filename == "x"
