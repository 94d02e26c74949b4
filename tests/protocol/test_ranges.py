"""RFC 9110, section 14. Ranges are compared with the set of positions they name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidField, RangeNotSatisfiable
from forebay.protocol.ranges import (
    MAX_RANGES,
    ContentRange,
    content_range,
    parse,
    parse_content_range,
)


@pytest.mark.parametrize(
    ("value", "size", "ranges"),
    [
        # section 14.1.2, the examples
        (b"bytes=0-499", 10000, [(0, 500)]),
        (b"bytes=500-999", 10000, [(500, 1000)]),
        (b"bytes=-500", 10000, [(9500, 10000)]),
        (b"bytes=9500-", 10000, [(9500, 10000)]),
        (b"bytes=0-0,-1", 10000, [(0, 1), (9999, 10000)]),
        (b"bytes= 0-999, 4500-5499, -1000", 10000, [(0, 1000), (4500, 5500), (9000, 10000)]),
        (b"bytes=500-600,601-999", 10000, [(500, 1000)]),
        (b"bytes=500-700,601-999", 10000, [(500, 1000)]),
        # within the file
        (b"bytes=0-", 10, [(0, 10)]),
        (b"bytes=5-100", 10, [(5, 10)]),
        (b"bytes=-100", 10, [(0, 10)]),
        (b"bytes=9-9", 10, [(9, 10)]),
        (b"bytes=0-99999999999999999999999", 10, [(0, 10)]),
        (b"bytes=0-" + b"9" * 5000, 10, [(0, 10)]),
        (b"bytes=" + b"0" * 5000 + b"1-1", 10, [(1, 2)]),
        # the satisfiable ones of several
        (b"bytes=20-30,5-6", 10, [(5, 7)]),
        (b"bytes=-0,5-6", 10, [(5, 7)]),
        # in the order asked for, unless merged
        (b"bytes=8-9,0-1", 10, [(8, 10), (0, 2)]),
        (b"bytes=8-9,0-1,1-2", 10, [(0, 3), (8, 10)]),
        # lenient
        (b"Bytes=0-1", 10, [(0, 2)]),
        (b"bytes=,0-1 ,\t, 4-5,", 10, [(0, 2), (4, 6)]),
        # no Content-Range can say "the last bytes of none"
        (b"bytes=-5", 0, None),
        # ignored, section 14.2
        (b"items=0-1", 10, None),
        (b"bytes", 10, None),
        (b"bytes=", 10, None),
        (b"bytes=,", 10, None),
        (b"bytes=-", 10, None),
        (b"bytes=5-4", 10, None),
        (b"bytes=0-1,5-4", 10, None),
        (b"bytes=a-b", 10, None),
        (b"bytes=0-1;2-3", 10, None),
        (b"bytes=+0-1", 10, None),
        (b"bytes=0 - 1", 10, None),
        (b"bytes=--1", 10, None),
        (b"bytes=1-2-3", 10, None),
        (b"bytes =0-1", 10, None),
        (b"bytes=0-1\n", 10, None),
        (b"bytes=" + b"0-1," * (MAX_RANGES + 1), 10, None),
        (b"bytes=" + b"," * 10000 + b"0-1", 10, None),
    ],
)
def test_ranges_are_read(value, size, ranges):
    assert parse(value, size) == ranges


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"bytes=10-", 10),
        (b"bytes=10-10", 10),
        (b"bytes=-0", 10),
        (b"bytes=10-,20-30,-0", 10),
        (b"bytes=0-", 0),
        (b"bytes=-0", 0),
        (b"bytes=99999999999999999999-", 10),
    ],
)
def test_ranges_outside_the_file_cannot_be_satisfied(value, size):
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse(value, size)
    assert caught.value.detail == {"size": size}


POSITION = st.integers(min_value=0, max_value=40)
SPEC = st.one_of(
    st.tuples(POSITION, POSITION).map(lambda pair: (min(pair), max(pair))),
    st.tuples(POSITION, st.none()),
    st.tuples(st.none(), POSITION),
)


def positions(spec, size):
    first, last = spec
    if first is None:
        return set(range(size)[size - min(last, size) :])
    return {p for p in range(size) if first <= p <= (size if last is None else last)}


@given(
    st.lists(SPEC, min_size=1, max_size=MAX_RANGES),
    st.integers(min_value=1, max_value=30),
    st.sampled_from([b",", b", ", b",,\t"]),
)
def test_the_ranges_are_exactly_the_positions_asked_for_and_each_once(specs, size, comma):
    texts = [
        b"%b-%b" % tuple(b"" if p is None else str(p).encode() for p in spec) for spec in specs
    ]
    expected = set().union(*(positions(spec, size) for spec in specs))
    try:
        ranges = parse(b"bytes=" + comma.join(texts), size)
    except RangeNotSatisfiable:
        assert not expected
        return
    got = [p for start, stop in ranges for p in range(start, stop)]
    assert set(got) == expected
    assert len(got) == len(set(got))
    assert all(0 <= start < stop <= size for start, stop in ranges)


@given(st.binary(max_size=40))
def test_noise_is_ignored_or_a_range(noise):
    try:
        ranges = parse(b"bytes=" + noise, 10)
    except RangeNotSatisfiable:
        return
    assert ranges is None or all(0 <= a < b <= 10 for a, b in ranges)


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # section 14.4
        (b"bytes 42-1233/1234", ContentRange(42, 1234, 1234)),
        (b"bytes 42-1233/*", ContentRange(42, 1234, None)),
        (b"bytes */1234", ContentRange(None, None, 1234)),
        (b"bytes 0-0/1", ContentRange(0, 1, 1)),
        (b"BYTES 0-0/1", ContentRange(0, 1, 1)),
        (b"bytes */0", ContentRange(None, None, 0)),
    ],
)
def test_a_content_range_is_read(value, expected):
    assert parse_content_range(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes */*",
        b"bytes 0-1",
        b"bytes 0-/2",
        b"bytes -1/2",
        b"bytes 1-0/2",
        b"bytes 0-2/2",
        b"bytes 0-1/0",
        b"bytes=0-1/2",
        b"bytes  0-1/2",
        b"bytes 0 - 1/2",
        b"bytes 0-1/2 ",
        b"bytes 0-1/2\n",
        b"bytes 0-1/2, 3-4/5",
        b"bytes +0-1/2",
        b"items 0-1/2",
        b"bytes 0-9223372036854775807/*",
        b"bytes 0-1/99999999999999999999",
        b"bytes */" + b"9" * 5000,
    ],
)
def test_a_content_range_that_cannot_be_read_is_refused(value):
    with pytest.raises(InvalidField, match="Content-Range"):
        parse_content_range(value)


@given(st.integers(min_value=0, max_value=2**60), st.integers(min_value=1, max_value=2**60))
def test_a_content_range_reads_back_as_written(start, length):
    stop = start + length
    assert parse_content_range(content_range(start, stop, stop)) == (start, stop, stop)
    assert parse_content_range(content_range(start, stop, None)) == (start, stop, None)
