from __future__ import annotations

import datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField
from forebay.protocol import fields
from forebay.protocol.fields import content_disposition, content_length, media_type

HEADERS = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


def test_fields_are_found_by_name():
    assert fields.first(HEADERS, b"a") == b"1"
    assert fields.first(HEADERS, b"c") is None
    assert fields.every(HEADERS, b"a") == [b"1", b"3"]
    assert fields.single(HEADERS, b"b") == b"2"
    assert fields.single(HEADERS, b"c") is None
    with pytest.raises(InvalidField, match="field a was"):
        fields.single(HEADERS, b"a")


# --- RFC 9110, section 8.6 ---


@pytest.mark.parametrize(
    ("values", "length"),
    [([], None), ([b"0"], 0), ([b"007"], 7), ([b"9223372036854775807"], 2**63 - 1)],
)
def test_content_length_is_a_number(values, length):
    assert content_length([(b"content-length", value) for value in values]) == length


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"-1"],
        [b"+1"],
        [b" 1"],
        [b"1 "],
        [b"1_0"],
        [b"0x1"],
        [b"1.0"],
        [b"1e3"],
        [b"5,5"],
        [b"5, 5"],
        [b"5", b"5"],
        [b"5", b"6"],
        [b"9223372036854775808"],
        [b"9" * 5000],
        ["٣".encode()],
        [b"\xb2"],
    ],
)
def test_any_other_content_length_is_refused(values):
    with pytest.raises(InvalidField):
        content_length([(b"content-length", value) for value in values])


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
    assert media_type(value) == expected


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
    assert fields.matches_media_type(value, patterns) is expected


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
    disposition = content_disposition(value)
    assert disposition is not None
    assert disposition.kind == "attachment"
    assert disposition.filename == filename


def test_a_form_part_has_a_name():
    value = 'form-data; name="füld"; filename="x"'.encode()
    assert content_disposition(value) == ("form-data", "füld", "x")
    assert content_disposition(b"form-data; name=a") == ("form-data", "a", None)


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
    assert content_disposition(value) is None


@given(st.binary(max_size=200).map(lambda junk: b"form-data;" + junk))
def test_no_junk_makes_the_parsers_raise(value):
    content_disposition(value)
    content_disposition(value[10:])
    media_type(b"a/b;" + value)
    fields.structured_dictionary([value, value[10:]])
    fields.structured_item(value[10:])
    fields.parse_http_date(value)


@given(st.text(min_size=1, max_size=60).filter(lambda name: "/" not in name), st.booleans())
def test_a_written_disposition_reads_back_and_cannot_be_broken_out_of(name, inline):
    value = fields.disposition_for(name, inline)
    assert all(0x20 <= octet <= 0x7E for octet in value)
    assert value.startswith(b"inline" if inline else b"attachment")
    disposition = content_disposition(value)
    assert disposition is not None
    assert disposition.filename == name


def test_a_written_disposition_has_an_ascii_fallback():
    assert fields.disposition_for("dir/a.txt") == b'attachment; filename="a.txt"'
    assert fields.disposition_for('é"\r\n.txt') == (
        b"attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A9%22%0D%0A.txt"
    )
    assert b"%3F" in fields.disposition_for("\udcff")


# --- what a head of 64 KiB could make of a field ---


def test_more_parameters_than_anybody_means_make_a_field_unreadable():
    for value in (b";" * 60_000, b";a=b" * 65, b';a="' * 20_000, b"; " * 300, b";a=" + b"b" * 9000):
        assert media_type(b"multipart/form-data" + value) == ("", {})
        assert content_disposition(b"form-data" + value) is None
    many = b"".join(b"; a%d=b" % number for number in range(63))
    assert media_type(b"a/b" + many + b"; x=y")[1]["x"] == "y"
    disposition = content_disposition(b"attachment" + many + b"; filename=x")
    assert disposition is not None
    assert disposition.filename == "x"


@pytest.mark.parametrize("more", [b",a" * 200, b";a" * 200, b" ,a" * 2000, b", a=" + b"1" * 5000])
def test_a_structured_field_beyond_any_use_is_none(more):
    assert fields.structured_dictionary([b"a=1" + more]) is None
    assert fields.structured_item(b"1" + more) is None


def test_a_list_of_tokens_is_read_as_far_as_lists_go():
    headers = [(b"trailer", b"A, b"), (b"x", b"c"), (b"trailer", b" C")]
    assert fields.elements(headers, b"trailer") == [b"a", b" b", b" c"]
    assert len(fields.elements([(b"trailer", b"," * 60_000)], b"trailer")) == 65


# --- RFC 9651 ---


def test_lines_of_a_dictionary_are_combined():
    assert fields.structured_dictionary([b"a=1", b"b;x=2, c=:YQ==:"]) == {
        "a": (1, {}),
        "b": (True, {"x": 2}),
        "c": (b"a", {}),
    }
    assert fields.structured_dictionary([]) == {}


@pytest.mark.parametrize("value", [b"a=", b"A=1", b"\xff", b"a=1,", b"a=@999999999999999"])
def test_what_is_no_dictionary_is_none(value):
    assert fields.structured_dictionary([value]) is None


def test_items_are_read():
    assert fields.structured_item(b"?1") == (True, {})
    assert fields.structured_item(b"42;a") == (42, {"a": True})
    assert fields.structured_item(b"?2") is None
    assert fields.structured_item(b"") is None
    assert fields.structured_item(b"1, 2") is None


# --- RFC 9110, section 5.6.7 ---


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_forms_of_a_date_are_one_instant(value):
    assert fields.parse_http_date(value) == 784111777


@given(st.integers(min_value=0, max_value=253402300799))
def test_a_date_reads_back_and_others_read_it_too(seconds):
    value = fields.http_date(seconds)
    assert fields.parse_http_date(value) == seconds
    assert parsedate_to_datetime(value.decode()) == datetime.datetime.fromtimestamp(
        seconds, datetime.UTC
    )


def test_dates_out_of_range_are_clamped_and_fractions_cut():
    assert fields.http_date(-5) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert fields.http_date(1e18) == b"Fri, 31 Dec 9999 23:59:59 GMT"
    assert fields.http_date(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "year"),
    [(b"Monday, 01-Jan-70 00:00:00 GMT", 1970), (b"Monday, 01-Jan-69 00:00:00 GMT", 2069)],
)
def test_two_digit_years_have_a_fixed_pivot(value, year):
    seconds = fields.parse_http_date(value)
    assert datetime.datetime.fromtimestamp(seconds, datetime.UTC).year == year


def test_a_leap_second_is_the_last_second_of_its_minute():
    assert fields.parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == 1483228799


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"yesterday",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)
def test_what_is_no_date_is_none(value):
    assert fields.parse_http_date(value) is None
