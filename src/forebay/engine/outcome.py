"""What a finished upload came to, kept in its record so that a lost answer can be given again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from forebay.model import Digest, FileInfo, Stored, UploadRecord, UploadState

__all__ = ["at_once", "finished", "is_owed", "is_published", "prepared", "refused", "stored"]


def prepared(digests: Iterable[Digest], *, owed: bool = False) -> bytes:
    """What is known before publication; a crash after it finds the rest on the disk.

    `owed`: somebody waits to be told of the file.
    """
    known: dict[str, object] = {"digests": _plain(digests)}
    return _dump({**known, "owed": True} if owed else known)


def is_owed(record: UploadRecord) -> bool:
    """Whether somebody waited to be told of the file when it was published."""
    return b'"owed"' in record.outcome


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
    """How a complete upload ended; None for one that is not, or that published nothing."""
    if record.state is not UploadState.COMPLETE or record.final_name is None:
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
    )


def _dump(value: object) -> bytes:
    return json.dumps(value).encode("ascii")
