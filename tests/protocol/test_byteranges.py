"""multipart/byteranges (RFC 9110, section 14.6), read back by a parser that is not ours."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import RangeNotSatisfiable
from forebay.protocol.ranges import MAX_RANGES, PART_OVERHEAD, coalesced, multipart, parse

SIZE = 3000
DATA = bytes(n * 7 % 251 for n in range(SIZE))


def assemble(ranges: list[tuple[int, int]], data: bytes = DATA) -> tuple[bytes, int]:
    parts, end, length = multipart(ranges, len(data), b"text/plain", b"BOUNDARY")
    return b"".join(head + data[start:stop] for head, start, stop in parts) + end, length


def test_the_example_of_the_rfc_comes_out_as_it_is_printed():
    """Section 14.6: the ranges 500-999 and 7000-7999 of 8000 bytes, as application/pdf."""
    parts, end, _ = multipart(
        [(500, 1000), (7000, 8000)], 8000, b"application/pdf", b"THIS_STRING_SEPARATES"
    )
    assert parts[0].head == (
        b"--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
        b"Content-Range: bytes 500-999/8000\r\n\r\n"
    )
    assert parts[1].head == (
        b"\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n"
        b"Content-Range: bytes 7000-7999/8000\r\n\r\n"
    )
    assert end == b"\r\n--THIS_STRING_SEPARATES--\r\n"


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ([(0, 1), (2, 3)], [(0, 3)]),
        ([(0, 1), (PART_OVERHEAD, 200)], [(0, 200)]),
        ([(0, 1), (PART_OVERHEAD + 1, 200)], [(0, 1), (PART_OVERHEAD + 1, 200)]),
        ([(900, 901), (0, 1)], [(900, 901), (0, 1)]),  # apart: in the order asked for
        ([(900, 901), (0, 1), (2, 3)], [(0, 3), (900, 901)]),
        ([(5, 9)], [(5, 9)]),
    ],
)
def test_ranges_closer_than_the_head_of_a_part_are_joined(given, joined):
    assert coalesced(given) == joined


_BOUNDS = st.integers(0, SIZE + 200)
_SPECS = st.one_of(
    st.builds(lambda a, n: f"{a}-{a + n}", _BOUNDS, st.integers(0, 400)),
    st.builds(lambda a: f"{a}-", _BOUNDS),
    st.builds(lambda n: f"-{n}", _BOUNDS),
)


def model(specs: list[str]) -> set[int]:
    """The positions that a list of range-specs names."""
    named: set[int] = set()
    for spec in specs:
        first, _, last = spec.partition("-")
        if not first:
            named.update(range(max(0, SIZE - int(last)), SIZE))
        else:
            named.update(range(int(first), min(SIZE, int(last) + 1 if last else SIZE)))
    return named


@given(specs=st.lists(_SPECS, min_size=1, max_size=80))
def test_every_answer_holds_the_positions_asked_for_and_is_bounded(specs: list[str]):
    wanted = model(specs)
    try:
        found = parse(("bytes=" + ",".join(specs)).encode(), SIZE)
    except RangeNotSatisfiable:
        assert not wanted
        return
    if found is None:
        assert len(specs) > MAX_RANGES
        return
    joined = coalesced(found)
    body, length = assemble(joined)
    assert length == len(body) <= SIZE + MAX_RANGES * 150 + 50
    message = email.message_from_bytes(
        b"Content-Type: multipart/byteranges; boundary=BOUNDARY\r\n\r\n" + body,
        policy=email.policy.HTTP,
    )
    covered: set[int] = set()
    for (start, stop), part in zip(joined, message.iter_parts(), strict=True):
        assert part["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        positions = range(start, stop)
        assert covered.isdisjoint(positions)
        covered.update(positions)
    assert wanted <= covered
    # No more than what lies between two neighbours for less than a head.
    extra = sorted(covered - wanted)
    runs = sum(1 for at, n in enumerate(extra) if at == 0 or extra[at - 1] != n - 1)
    assert len(extra) < runs * PART_OVERHEAD + 1
