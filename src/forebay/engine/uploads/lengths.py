"""What a request says of an upload's length against what is known of it. Pure decisions.

Lengths come from two places: told outright, or an announced body that ends the upload. All
that was ever said has to agree, and no byte may come beyond it.
"""

from __future__ import annotations

from forebay.errors import InconsistentLength, OffsetMismatch, TooLarge
from forebay.model import AppendUpload, UploadRecord
from forebay.record import Extra

__all__ = ["agree", "bound", "ends", "validate_length", "whole_length"]


def bound(record: UploadRecord) -> int | None:
    """The offset that no byte may pass: the length once it is known, else the limit."""
    return record.length if record.length is not None else Extra.of(record).limit


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


def validate_length(
    record: UploadRecord, command: AppendUpload, content_length: int | None
) -> int | None:
    """The length to record now, None when that changes nothing.

    Raises OffsetMismatch, InconsistentLength and TooLarge; nothing has changed then.
    """
    if command.offset != record.offset:
        raise OffsetMismatch(expected=record.offset, provided=command.offset)
    length = whole_length(command.length, command.completes, command.offset, content_length)
    agree(length, record.length)
    known = record.length if length is None else length
    limit = Extra.of(record).limit
    if known is not None and known < record.offset:
        raise InconsistentLength("The length is less than what has arrived already.")
    if limit is not None and known is not None and known > limit:
        raise TooLarge(limit=limit, max_size=limit)
    most = known if known is not None else limit
    if content_length is not None and most is not None and command.offset + content_length > most:
        if known is not None and command.completes is not None:
            raise InconsistentLength(f"The upload has {known} bytes; no more may come.")
        raise TooLarge(
            f"At most {most - command.offset} more bytes may come.", limit=most - command.offset
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
