"""Byte ranges (RFC 9110, section 14): of downloads, and of partial PUT and PATCH."""

from __future__ import annotations

import re
from typing import NamedTuple

from forebay.errors import InvalidField, RangeNotSatisfiable
from forebay.model import MAX_OFFSET

__all__ = [
    "ContentRange",
    "Part",
    "coalesced",
    "content_range",
    "multipart",
    "parse",
    "parse_content_range",
]

MAX_RANGES = 64
"""Ranges in one request. Section 14.2 lets a server ignore a field with too many."""

_RANGE = re.compile(rb"bytes=(.*)", re.IGNORECASE | re.DOTALL)  # names of units: 14.1
_SPEC = re.compile(rb"([0-9]*)-([0-9]*)")


def parse(value: bytes, size: int) -> list[tuple[int, int]] | None:
    """The ranges of a Range field as `(start, stop)`, half open, within `size` bytes.

    None when the field is to be ignored: another unit, bad syntax, or too many ranges. When some
    ranges overlap or touch, all are merged and in ascending order (section 15.3.7.2); otherwise
    they are in the order of the request. Raises `RangeNotSatisfiable` if none is within the file.
    """
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    # Splitting stops early: a list of many elements would take long, and is ignored anyway.
    elements = match[1].split(b",", 2 * MAX_RANGES)
    specs = [element.strip(b" \t") for element in elements]
    specs = [spec for spec in specs if spec]  # section 5.6.1.2: ignore empty elements
    if not specs or len(specs) > MAX_RANGES:
        return None
    ranges = []
    for spec in specs:
        bounds = _bounds(spec, size)
        if bounds is None:
            return None
        if bounds[0] < bounds[1]:
            ranges.append(bounds)
        elif size == 0 and spec.startswith(b"-") and spec.strip(b"-0"):
            # Satisfiable (14.1.2), but Content-Range cannot express "none of 0 bytes".
            return None
    if not ranges:
        raise RangeNotSatisfiable(size=size)
    return _merged(ranges)


def _bounds(spec: bytes, size: int) -> tuple[int, int] | None:
    """One range within `size`: empty if it is outside, None if it is malformed (14.1.1)."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == b"-":
        return None
    if not match[1]:
        return max(0, size - _number(match[2])), size
    start = _number(match[1])
    if not match[2]:
        return start, size
    last = _number(match[2])
    return (start, min(last + 1, size)) if start <= last else None


def _number(digits: bytes) -> int:
    """A number, at most MAX_OFFSET; `int` alone refuses thousands of digits."""
    digits = digits.lstrip(b"0")
    return min(int(digits or b"0"), MAX_OFFSET) if len(digits) < 20 else MAX_OFFSET


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return ranges if len(merged) == len(ranges) else merged


def content_range(start: int, stop: int, size: int | None) -> bytes:
    """The value of a Content-Range for the bytes from `start` up to `stop`, not included."""
    total = b"*" if size is None else b"%d" % size
    return b"bytes %d-%d/%b" % (start, stop - 1, total)


PART_OVERHEAD = 80
"""Bytes that the head of a part takes. A smaller gap between ranges is sent instead."""


def coalesced(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges, joined where the gap is smaller than the head of a part (section 15.3.7.2).

    When some are joined, all are in ascending order.
    """
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] < PART_OVERHEAD:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return ranges if len(joined) == len(ranges) else joined


class Part(NamedTuple):
    """One part of a multipart/byteranges: its head, and the range of bytes that follow."""

    head: bytes
    start: int
    stop: int


def multipart(
    ranges: list[tuple[int, int]], size: int, media_type: bytes, boundary: bytes
) -> tuple[list[Part], bytes, int]:
    """The parts of a multipart/byteranges (section 14.6), its end, and its length in bytes.

    `boundary` must be hard to guess: the content of the file could end a part with it.
    """
    parts = [
        Part(
            b"%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n"
            % (b"\r\n" if at else b"", boundary, media_type, content_range(start, stop, size)),
            start,
            stop,
        )
        for at, (start, stop) in enumerate(ranges)
    ]
    end = b"\r\n--%s--\r\n" % boundary
    length = len(end) + sum(len(head) + stop - start for head, start, stop in parts)
    return parts, end, length


class ContentRange(NamedTuple):
    """The Content-Range of a request, half open.

    `bytes a-b/total` and `bytes a-b/*` have both bounds; `bytes */total` has neither.
    """

    start: int | None
    stop: int | None
    total: int | None


_CONTENT_RANGE = re.compile(
    rb"bytes (?:([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)|\*/([0-9]{1,19}))", re.IGNORECASE
)


def parse_content_range(value: bytes) -> ContentRange:
    """The Content-Range of a request (sections 14.4 and 14.5).

    Raises `InvalidField`: if it were ignored, a part would be stored as the whole.
    """
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        raise InvalidField('Content-Range is not of the form "bytes first-last/total".')
    first, last, total, unsatisfied = match.groups()
    if unsatisfied is not None:
        return ContentRange(None, None, _position(unsatisfied))
    start, end = _position(first), _position(last)
    size = None if total == b"*" else _position(total)
    if start > end or (size is not None and end >= size):
        raise InvalidField("The positions of Content-Range contradict each other.")
    return ContentRange(start, end + 1, size)


def _position(digits: bytes) -> int:
    position = int(digits)
    if position >= MAX_OFFSET:
        raise InvalidField("A position of Content-Range is larger than any file can be.")
    return position
