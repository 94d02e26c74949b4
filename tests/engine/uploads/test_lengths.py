"""What a request says of a length against what is known: every case, as a table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.engine.uploads import lengths
from forebay.errors import InconsistentLength, OffsetMismatch, TooLarge
from forebay.model import AppendUpload, UploadRecord, UploadState


def record(offset: int = 0, length: int | None = None, limit: int | None = None) -> UploadRecord:
    extra = json.dumps({} if limit is None else {"limit": limit}).encode()
    state = UploadState.OPEN
    return UploadRecord("id", "", "ietf", state, offset, length, "f", 0.0, None, extra=extra)


def wish(offset: int, completes: bool | None, length: int | None = None) -> AppendUpload:
    return AppendUpload("id", "ietf", offset, length=length, completes=completes)


@pytest.mark.parametrize(
    ("told", "completes", "offset", "content", "found"),
    [
        (None, True, 3, 7, 10),
        (10, True, 3, 7, 10),
        (11, True, 3, 7, InconsistentLength),
        (None, True, 3, None, None),
        (10, True, 3, None, 10),
        (None, False, 3, 7, None),
        (10, False, 3, 7, 10),
        (9, False, 3, 7, InconsistentLength),
        (None, None, 3, 7, None),
        (5, None, 3, 7, 5),
    ],
)
def test_the_length_that_a_request_tells(
    told: int | None, completes: bool | None, offset: int, content: int | None, found: Any
) -> None:
    if isinstance(found, type):
        with pytest.raises(found):
            lengths.whole_length(told, completes, offset, content)
    else:
        assert lengths.whole_length(told, completes, offset, content) == found


@pytest.mark.parametrize(
    ("known", "asked", "content", "found"),
    [
        (record(3), wish(3, False), 5, None),
        (record(3), wish(3, False, 8), 5, 8),
        (record(3, 8), wish(3, False, 8), 5, None),
        (record(3), wish(3, True), 5, 8),
        (record(3, 8), wish(3, True), 5, None),
        (record(3), wish(3, True), None, None),
        (record(3), wish(2, True), 5, OffsetMismatch),
        (record(3, 9), wish(3, True), 5, InconsistentLength),
        (record(3, 9), wish(3, False, 8), 5, InconsistentLength),
        (record(3), wish(3, False, 2), None, InconsistentLength),
        (record(3, 7), wish(3, False), 5, InconsistentLength),
        (record(3, 7), wish(3, None), 5, TooLarge),
        (record(3, None, 7), wish(3, False), 5, TooLarge),
        (record(3, None, 7), wish(3, True), 5, TooLarge),
        (record(3, None, 7), wish(3, False, 8), None, TooLarge),
        (record(3, None, 8), wish(3, True), 5, 8),
    ],
)
def test_what_is_recorded_or_refused(
    known: UploadRecord, asked: AppendUpload, content: int | None, found: Any
) -> None:
    if isinstance(found, type):
        with pytest.raises(found):
            lengths.validate_length(known, asked, content)
    else:
        assert lengths.validate_length(known, asked, content) == found


@pytest.mark.parametrize(
    ("known", "completes", "found"),
    [
        (record(3, 3), None, True),
        (record(3, 4), None, False),
        (record(3), None, False),
        (record(3, 3), True, True),
        (record(3), True, True),
        (record(3, 4), True, InconsistentLength),
        (record(3, 3), False, False),
        (record(3), False, False),
    ],
)
def test_what_ends_an_upload(known: UploadRecord, completes: bool | None, found: Any) -> None:
    if isinstance(found, type):
        with pytest.raises(found):
            lengths.ends(known.offset, known.length, completes)
    else:
        assert lengths.ends(known.offset, known.length, completes) is found


def test_no_byte_passes_the_length_nor_else_the_limit() -> None:
    assert lengths.bound(record(0, 5, 9)) == 5
    assert lengths.bound(record(0, None, 9)) == 9
    assert lengths.bound(record()) is None
