"""Rules that all backends share: which fields may change, and when an advance is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from forebay.errors import OffsetMismatch, SessionsUnavailable, UploadError, WrongState
from forebay.model import UploadRecord, UploadState

_CHANGEABLE = frozenset(field.name for field in dataclasses.fields(UploadRecord)) - {
    "id",
    "version",
}


def check_changes(names: Iterable[str]) -> None:
    """Raises TypeError for a name that is no field, or is one that `update` does not change."""
    unknown = sorted(set(names) - _CHANGEABLE)
    if unknown:
        raise TypeError(f"an upload record has no field to change named {', '.join(unknown)}")


def advance_refusal(state: UploadState, recorded: int, offset: int) -> UploadError | None:
    """Why an upload of `state` at `recorded` bytes may not advance to `offset`; None if it may."""
    if state is not UploadState.OPEN:
        return WrongState(state=state)
    if offset < recorded:
        return OffsetMismatch(expected=recorded, provided=offset)
    return None


def check_version(record: UploadRecord, version: int | None) -> None:
    """Raises WrongState when the record has another version. None: every version is accepted."""
    if version is not None and record.version != version:
        raise WrongState("The upload was changed by somebody else.", state=record.state)


ENDED = (UploadState.COMPLETE, UploadState.CANCELLED)
"""States in which a call of `on_complete` for the upload's file may be pending."""


def is_unnotified(record: UploadRecord) -> bool:
    """Whether a call of `on_complete` for its published file is pending."""
    return record.notify_at is not None and record.state in ENDED


def not_open() -> SessionsUnavailable:
    """The error of a call before `open` or after `close`."""
    return SessionsUnavailable("The upload state is closed; try again soon.", retry_after=1)
