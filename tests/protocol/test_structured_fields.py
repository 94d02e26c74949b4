from __future__ import annotations

import pytest

from forebay.protocol.structured_fields import structured_dictionary, structured_item


def test_lines_of_a_dictionary_are_combined():
    assert structured_dictionary([b"a=1", b"b;x=2, c=:YQ==:"]) == {
        "a": (1, {}),
        "b": (True, {"x": 2}),
        "c": (b"a", {}),
    }
    assert structured_dictionary([]) == {}


@pytest.mark.parametrize("value", [b"a=", b"A=1", b"\xff", b"a=1,", b"a=@999999999999999"])
def test_what_is_no_dictionary_is_none(value):
    assert structured_dictionary([value]) is None


def test_items_are_read():
    assert structured_item(b"?1") == (True, {})
    assert structured_item(b"42;a") == (42, {"a": True})
    assert structured_item(b"?2") is None
    assert structured_item(b"") is None
    assert structured_item(b"1, 2") is None


@pytest.mark.parametrize("more", [b",a" * 200, b";a" * 200, b" ,a" * 2000, b", a=" + b"1" * 5000])
def test_a_structured_field_beyond_any_use_is_none(more):
    assert structured_dictionary([b"a=1" + more]) is None
    assert structured_item(b"1" + more) is None
