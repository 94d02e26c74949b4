"""What Content-Range of a request means, and what is never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.conditions import Preconditions
from forebay.errors import InvalidField, LengthRequired, UnsupportedCoding, UploadError
from forebay.model import Conflict, Receive
from forebay.protocol import partial
from forebay.protocol.partial import OffsetQuery, Part


def read(value: bytes, length: int | None, *more: tuple[bytes, bytes]) -> Part | OffsetQuery:
    return partial.read([(b"host", b"x"), (b"content-range", value), *more], length)


@pytest.mark.parametrize(
    ("value", "length", "expected"),
    [
        (b"bytes 0-0/1", 1, Part(0, 1, 1)),
        (b"bytes 0-9/20", 10, Part(0, 10, 20)),
        (b"BYTES 10-19/20", 10, Part(10, 20, 20)),
        (b"bytes 10-19/*", 10, Part(10, 20, None)),
        (b"bytes */20", 0, OffsetQuery(20)),
        (b"bytes */0", 0, OffsetQuery(0)),
        (b"bytes */*", 0, OffsetQuery(None)),
    ],
)
def test_what_is_asked(value: bytes, length: int, expected: Part | OffsetQuery) -> None:
    assert read(value, length) == expected


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"bytes 5-3/10", 0),
        (b"bytes 0-9/9", 10),
        (b"bytes 0-9/5", 10),
        (b"bytes 0-9/20", 9),
        (b"bytes 0-9/20", 11),
        (b"bytes 0-9/20", 0),
        (b"bytes */20", 1),
        (b"bytes */*", 1),
        (b"items 0-9/20", 10),
        (b"bytes=0-9/20", 10),
        (b"bytes 0-9", 10),
        (b"bytes 0-/20", 20),
        (b"bytes -9/20", 10),
        (b"bytes 0 - 9/20", 10),
        (b"bytes +0-9/20", 10),
        (b"bytes 0-9/20, bytes 10-19/20", 10),
        (b"bytes 0-9/0x20", 10),
        (b"bytes 0-99999999999999999999/*", 10),
        (b"bytes 0-9223372036854775807/*", 10),
        (b"", 0),
        (b"bytes", 0),
    ],
)
def test_what_cannot_be_is_refused(value: bytes, length: int) -> None:
    with pytest.raises(InvalidField):
        read(value, length)


def test_a_part_needs_its_length() -> None:
    with pytest.raises(LengthRequired):
        read(b"bytes 0-9/20", None)
    with pytest.raises(LengthRequired):
        read(b"bytes */20", None)


def test_several_fields_are_refused() -> None:
    with pytest.raises(InvalidField, match="more than once"):
        read(b"bytes 0-9/20", 10, (b"content-range", b"bytes 0-9/20"))


def test_without_the_field_nothing_is_stored() -> None:
    with pytest.raises(InvalidField, match="needs Content-Range"):
        partial.read([(b"host", b"x")], 10)


@pytest.mark.parametrize("coding", [b"gzip", b"identity, gzip", b"br", b"x"])
def test_encoded_parts_are_refused(coding: bytes) -> None:
    with pytest.raises(UnsupportedCoding):
        read(b"bytes 0-9/20", 10, (b"content-encoding", coding))


@pytest.mark.parametrize(
    "name", [b"tus-resumable", b"upload-complete", b"upload-offset", b"upload-length"]
)
def test_two_protocols_in_one_request_are_refused(name: bytes) -> None:
    with pytest.raises(InvalidField, match="another upload protocol"):
        read(b"bytes 0-9/20", 10, (name, b"1"))
    assert not partial.speaks("PATCH", [(b"content-range", b"x"), (name, b"1")])


@pytest.mark.parametrize(
    ("method", "expected"), [("PUT", True), ("PATCH", True), ("POST", False), ("GET", False)]
)
def test_which_requests_are_meant(method: str, expected: bool) -> None:
    assert partial.speaks(method, [(b"content-range", b"x")]) is expected
    assert not partial.speaks(method, [(b"host", b"x")])


@given(st.integers(0, 2**62), st.integers(1, 2**60), st.none() | st.integers(0, 2**60))
def test_every_range_that_can_be_is_read(start: int, size: int, beyond: int | None) -> None:
    stop = start + size
    total = None if beyond is None else stop + beyond
    told = b"*" if total is None else b"%d" % total
    part = read(b"bytes %d-%d/%b" % (start, stop - 1, told), size)
    assert part == Part(start, stop, total)
    assert part.completes is (None if total is None else stop == total)


@given(st.binary(max_size=40), st.integers(0, 50))
def test_anything_is_read_or_refused(value: bytes, length: int) -> None:
    try:
        asked = read(value, length)
    except UploadError:
        return
    if isinstance(asked, Part):
        assert 0 <= asked.start < asked.stop == asked.start + length
        assert asked.total is None or asked.stop <= asked.total
    else:
        assert length == 0


def test_a_creation_keeps_what_a_put_of_the_whole_would() -> None:
    conditions = Preconditions(if_none_match=())
    target = Receive("a/b", Conflict.REPLACE, conditions, "text/x", wanted=("sha-256",))
    command = partial.create(target, 20, [(b"content-digest", b"junk")])
    assert (command.name, command.conflict, command.length) == ("a/b", Conflict.REPLACE, 20)
    assert (command.preconditions, command.media_type) == (conditions, "text/x")
    assert (command.wanted, command.by_name, command.dialect) == (("sha-256",), True, partial.NAME)


def test_what_is_told_of_the_bytes_that_are_here() -> None:
    assert partial.received_range(0) == []
    assert partial.received_range(10) == [(b"range", b"bytes=0-9")]
