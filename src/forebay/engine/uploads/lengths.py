"""What a request says of an upload's length against what is known of it. Pure decisions.

Lengths come from two places: told outright, or an announced body that ends the upload. All
that was ever said has to agree, and no byte may come beyond it.
"""

from __future__ import annotations

import json

from forebay.errors import InconsistentLength, OffsetMismatch, TooLarge
from forebay.model import AppendUpload, UploadRecord

__all__ = ["agree", "bound", "ends", "limit_of", "settle", "whole_length"]


def limit_of(record: UploadRecord) -> int | None:
    """The most bytes this upload may come to, as it was when it began; None for no limit."""
    if b'"limit"' not in record.extra:
        return None
    limit: int | None = json.loads(record.extra).get("limit")
    return limit


def bound(record: UploadRecord) -> int | None:
    """The offset that no byte may pass: the length once it is known, else the limit."""
    return record.length if record.length is not None else limit_of(record)


def whole_length(
    told: int | None, completes: bool | None, offset: int, content_length: int | None
) -> int | None:
    """The length of the whole upload that a request tells of, None when it tells nothing.

    Raises InconsistentLength when it tells two.
    """
    if content_length is None or completes is None:
        return told
    end = offset + content_length
    if completes:
        if told is not None and told != end:
            raise InconsistentLength(f"The body ends the upload at {end} of {told} bytes.")
        return end
    if told is not None and end > told:
        raise InconsistentLength(f"The body leads to {end} of {told} bytes.")
    return told


def agree(told: int | None, known: int | None) -> None:
    """Raises InconsistentLength unless both are the same, or one is not known."""
    if told is not None and known is not None and told != known:
        raise InconsistentLength(f"The upload has {known} bytes, not {told}.")


def settle(record: UploadRecord, wish: AppendUpload, content_length: int | None) -> int | None:
    """The length to record now, None when that changes nothing.

    Raises OffsetMismatch, InconsistentLength and TooLarge; nothing has changed then.
    """
    if wish.offset != record.offset:
        raise OffsetMismatch(expected=record.offset, provided=wish.offset)
    length = whole_length(wish.length, wish.completes, wish.offset, content_length)
    agree(length, record.length)
    known = record.length if length is None else length
    limit = limit_of(record)
    if known is not None and known < record.offset:
        raise InconsistentLength("The length is less than what has arrived already.")
    if limit is not None and known is not None and known > limit:
        raise TooLarge(limit=limit, max_size=limit)
    most = known if known is not None else limit
    if content_length is not None and most is not None and wish.offset + content_length > most:
        if known is not None and wish.completes is not None:
            raise InconsistentLength(f"The upload has {known} bytes; no more may come.")
        raise TooLarge(
            f"At most {most - wish.offset} more bytes may come.", limit=most - wish.offset
        )
    return length if record.length is None else None


def ends(offset: int, length: int | None, completes: bool | None) -> bool:
    """Whether an upload that has taken all of a request is over. Raises InconsistentLength."""
    if completes is None:
        return offset == length
    if completes and length is not None and offset != length:
        raise InconsistentLength(
            f"The upload was said to be complete at {offset} of {length} bytes."
        )
    return completes
