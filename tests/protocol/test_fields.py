from __future__ import annotations

import pytest

from forebay.errors import InvalidField
from forebay.protocol import fields
from forebay.protocol.fields import content_length

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


def test_a_list_of_tokens_is_read_as_far_as_lists_go():
    headers = [(b"trailer", b"A, b"), (b"x", b"c"), (b"trailer", b" C")]
    assert fields.elements(headers, b"trailer") == [b"a", b" b", b" c"]
    assert len(fields.elements([(b"trailer", b"," * 60_000)], b"trailer")) == 65
