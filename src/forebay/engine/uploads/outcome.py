"""What a finished upload came to, kept in its record so that a lost answer can be given again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from forebay.model import Digest, FileInfo, Stored, UploadRecord, UploadState

__all__ = [
    "NO_FAILURES",
    "Failures",
    "at_once",
    "failed_calls",
    "failures",
    "finished",
    "identity",
    "is_published",
    "is_recorded",
    "prepared",
    "refused",
    "stored",
]

WHOLE = "raw"
"""The dialect of an upload that came whole, in one request."""


def is_recorded(record: UploadRecord) -> bool:
    """Whether it is a whole upload, recorded for its callback alone: no client knows of it."""
    return record.dialect == WHOLE


def prepared(digests: Iterable[Digest], received: int | None = None, identity: str = "") -> bytes:
    """What is known before publication; a crash after it finds the rest on the disk."""
    known: dict[str, object] = {"digests": _plain(digests)}
    if received is not None:
        known["received"] = received
    if identity:
        known["identity"] = identity
    return _dump(known)


def identity(record: UploadRecord) -> str:
    """That of the file, recorded before its publication; "" where it was not."""
    known: str = json.loads(record.outcome or b"{}").get("identity", "")
    return known


@dataclasses.dataclass(frozen=True, slots=True)
class Failures:
    """How often `on_complete` failed for a file, and with what last."""

    count: int = 0
    last: str = ""
    returned: tuple[str, ...] = ()
    """Of several callbacks, those that need not be called again."""


NO_FAILURES = Failures()


def failures(record: UploadRecord) -> Failures:
    """What the record of an upload that has ended knows of its callback."""
    if b'"callback"' not in record.outcome:
        return NO_FAILURES
    known = json.loads(record.outcome)["callback"]
    return Failures(known["failures"], known["last"], tuple(known["returned"]))


def failed_calls(record: UploadRecord, failed: Failures) -> bytes:
    """The record's `outcome` with that instead of what it knew of its callback."""
    known = json.loads(record.outcome or b"{}")
    known.pop("callback", None)
    if failed.count:
        known["callback"] = {
            "failures": failed.count,
            "last": failed.last,
            "returned": failed.returned,
        }
    return _dump(known)


def is_published(record: UploadRecord) -> bool:
    """Whether it became a file; a partial upload is complete without becoming one."""
    return record.state is UploadState.COMPLETE and record.final_name is not None


def finished(record: UploadRecord, file: FileInfo, replaced: bool, now: float) -> bytes:
    """What is known once `file` is published, at the time `now`."""
    known = json.loads(record.outcome or b"{}")
    return _dump(known | _published(file, replaced, now - record.created_at))


def at_once(stored: Stored, duration: float) -> bytes:
    """`finished` of what was never anything but finished. `duration`: seconds it took."""
    digests = {"digests": _plain(stored.digests)}
    return _dump(digests | _published(stored.file, stored.replaced, duration))


def _published(file: FileInfo, replaced: bool, duration: float) -> dict[str, object]:
    return {
        "tag": file.tag,
        "identity": file.identity,
        "mtime_ns": file.mtime_ns,
        "replaced": replaced,
        "duration": max(0.0, duration),
    }


def _plain(digests: Iterable[Digest]) -> list[tuple[str, str]]:
    return [(digest.algorithm, digest.value.hex()) for digest in digests]


def refused(code: str, message: str) -> bytes:
    """Why an upload failed."""
    return _dump({"code": code, "message": message})


def stored(record: UploadRecord) -> Stored | None:
    """How a complete upload ended; None for one that is not, or that published nothing. One that
    was cancelled after it was complete still has it, until its callback was called.
    """
    if record.final_name is None or record.state not in _ENDED:
        return None
    known = json.loads(record.outcome or b"{}")
    return Stored(
        FileInfo(
            record.final_name,
            record.final_size if record.final_size is not None else record.offset,
            known.get("mtime_ns", 0),
            known.get("tag", ""),
            identity=known.get("identity", ""),
        ),
        record.final_name != record.name,
        known.get("replaced", False),
        tuple(Digest(name, bytes.fromhex(value)) for name, value in known.get("digests", ())),
        known.get("duration", 0.0),
        known.get("received"),
    )


_ENDED = (UploadState.COMPLETE, UploadState.CANCELLED)


def _dump(value: object) -> bytes:
    return json.dumps(value).encode("ascii")
