"""No field that must be single comes twice in one answer (invariant 18)."""

from __future__ import annotations

import pytest

from forebay.protocol.response_fields import faults, merge_vary

ORIGIN = (b"access-control-allow-origin", b"https://app.example")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [ORIGIN]),
        (200, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]),
        (200, [(b"link", b"<a>"), (b"Link", b"<b>"), (b"vary", b"a"), (b"vary", b"b")]),
        (401, [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b"Basic")]),
        (200, [(b"content-length", b"1")]),
        (200, [(b"transfer-encoding", b"chunked")]),
        (304, [(b"content-length", b"1")]),
        (204, []),
    ],
)
def test_what_may_come_twice_is_no_fault(status, headers):
    assert faults(status, headers) == []


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, [ORIGIN, ORIGIN], "access-control-allow-origin comes 2 times"),
        (200, [ORIGIN, (b"Access-Control-Allow-Origin", b"*")], "comes 2 times"),
        (200, [(b"date", b"x"), (b"Date", b"y"), (b"date", b"z")], "date comes 3 times"),
        (200, [(b"content-length", b"1"), (b"content-length", b"1")], "content-length comes"),
        (200, [(b"location", b"/a"), (b"location", b"/b")], "location comes"),
        (200, [(b"upload-offset", b"1"), (b"upload-offset", b"2")], "upload-offset comes"),
        (405, [(b"allow", b"GET"), (b"allow", b"PUT")], "allow comes"),
        (200, [(b"x-mine", b"1"), (b"x-mine", b"2")], "x-mine comes"),
        (
            200,
            [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
            "exclude each other",
        ),
        (204, [(b"content-length", b"0")], "204 has no content-length"),
        (104, [(b"content-length", b"0")], "104 has no content-length"),
    ],
)
def test_what_clients_read_in_different_ways_is_a_fault(status, headers, said):
    [fault] = faults(status, headers)
    assert said in fault


@pytest.mark.parametrize(
    ("values", "once"),
    [
        ([], []),
        ([b"Accept"], [b"Accept"]),
        ([b"Accept", b"Origin"], [b"Accept, Origin"]),
        (
            [b"Accept, X-A", b"accept,Origin,", b""],
            [b"Accept, X-A, Origin"],
        ),
        ([b"Accept", b"*"], [b"*"]),
    ],
)
def test_all_that_an_answer_varies_by_is_told_in_one_field(values, once):
    other = (b"etag", b'"1"')
    found = merge_vary([*((b"vary", value) for value in values), other])
    assert [value for name, value in found if name == b"vary"] == once
    assert other in found
