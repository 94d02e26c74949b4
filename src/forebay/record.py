"""What a record holds beyond its columns: one typed codec for `extra` and one for `outcome`.

Both are JSON objects whose keys are read and written here alone. Data folders of earlier versions
have them, so a key keeps its name.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.errors import StorageFailed
from forebay.model import Digest, FileInfo, Stored, UploadRecord, UploadState

WHOLE = "raw"
"""The dialect of an upload that came in one request; it is recorded for its callback alone."""

_NO_VALUES: Mapping[str, Any] = MappingProxyType({})
_Pairs = list[tuple[str, str]]
T = TypeVar("T")


def _cached(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Remembers the last results, which nobody changes. Raises StorageFailed for damaged JSON."""

    @functools.lru_cache(maxsize=64)
    def read(raw: bytes) -> T:
        try:
            return decode(raw)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StorageFailed("The record of this upload is damaged.") from error

    return read


@dataclasses.dataclass(frozen=True, slots=True)
class Extra:
    """What the engine stores of an upload from its creation on: `UploadRecord.extra`."""

    limit: int | None = None
    """Bytes that it may have; None for no limit."""
    ends_by_length: bool = False
    """It ends when its length is reached, and not when a request says so."""
    partial: bool = False
    """It is a part of final uploads."""
    parts: tuple[str, ...] = ()
    """Of a final upload: the ids of its parts, in order."""
    finals: tuple[str, ...] = ()
    """Of a part: the ids of the final uploads that use it, once for each use."""
    preconditions: Preconditions = NO_PRECONDITIONS
    expected: tuple[Digest, ...] = ()
    wanted: tuple[str, ...] = ()
    verified: tuple[Digest, ...] | None = None
    """The wanted digests, once those expected matched; None before that."""
    filename: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, Any] = dataclasses.field(default_factory=lambda: _NO_VALUES)
    """What the dialect stores, by its own keys."""

    @staticmethod
    def of(record: UploadRecord) -> Extra:
        """Raises StorageFailed when it is damaged."""
        return _decode_extra(record.extra)

    def encode(self) -> bytes:
        """As the record has it; what is empty is left out."""
        known = {
            **self.values,
            "completes_by_length": self.ends_by_length,
            "limit": self.limit,
            "partial": self.partial or None,
            "parts": self.parts or None,
            "finals": self.finals or None,
            "preconditions": _plain_conditions(self.preconditions),
            "expected": _plain(self.expected) or None,
            "wanted": self.wanted or None,
            "verified": None if self.verified is None else _plain(self.verified),
            "filename": self.filename,
            "fields": self.fields or None,
        }
        return _dump({key: value for key, value in known.items() if value is not None})


@_cached
def _decode_extra(raw: bytes) -> Extra:
    known: dict[str, Any] = json.loads(raw) if raw else {}
    take = known.pop
    verified = take("verified", None)
    return Extra(
        limit=take("limit", None),
        ends_by_length=take("completes_by_length", False),
        partial=bool(take("partial", False)),
        parts=tuple(take("parts", ())),
        finals=tuple(take("finals", ())),
        preconditions=_conditions(take("preconditions", None)),
        expected=_digests(take("expected", ())),
        wanted=tuple(take("wanted", ())),
        verified=None if verified is None else _digests(verified),
        filename=take("filename", None),
        fields=tuple((name, value) for name, value in take("fields", ())),
        values=known,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Failures:
    """How often `on_complete` failed for a file, and with what error last."""

    count: int = 0
    last: str = ""
    returned: tuple[str, ...] = ()
    """Of several callbacks, those that returned; they are not called again."""


NO_FAILURES = Failures()


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What an upload came to, so that a lost answer can be given again: `UploadRecord.outcome`."""

    digests: tuple[Digest, ...] = ()
    received: int | None = None
    """Bytes that came, of a body that was decoded."""
    identity: str = ""
    """That of the file, recorded before its publication (`FileInfo.identity`)."""
    tag: str = ""
    mtime_ns: int = 0
    replaced: bool = False
    duration: float = 0.0
    """Seconds from the creation to the publication."""
    code: str = ""
    """Of the error that it failed with."""
    message: str = ""
    failures: Failures = NO_FAILURES
    """Of the calls of `on_complete`."""

    @staticmethod
    def of(record: UploadRecord) -> Outcome:
        """Raises StorageFailed when it is damaged."""
        return _decode_outcome(record.outcome)

    def published(self, file: FileInfo, *, replaced: bool, duration: float) -> Outcome:
        """With what is known once `file` is published."""
        return dataclasses.replace(
            self,
            identity=file.identity or self.identity,
            tag=file.tag,
            mtime_ns=file.mtime_ns,
            replaced=replaced,
            duration=max(0.0, duration),
        )

    def encode(self) -> bytes:
        """As the record has it; what is empty is left out."""
        known: dict[str, object] = {
            "digests": _plain(self.digests) or None,
            "received": self.received,
            "identity": self.identity or None,
            "code": self.code or None,
            "message": self.message or None,
        }
        if self.tag:
            known |= {
                "tag": self.tag,
                "mtime_ns": self.mtime_ns,
                "replaced": self.replaced,
                "duration": self.duration,
            }
        if self.failures.count:
            known["callback"] = {
                "failures": self.failures.count,
                "last": self.failures.last,
                "returned": self.failures.returned,
            }
        return _dump({key: value for key, value in known.items() if value is not None})


@_cached
def _decode_outcome(raw: bytes) -> Outcome:
    known: dict[str, Any] = json.loads(raw) if raw else {}
    get = known.get
    calls = get("callback")
    return Outcome(
        digests=_digests(get("digests", ())),
        received=get("received"),
        identity=get("identity", ""),
        tag=get("tag", ""),
        mtime_ns=get("mtime_ns", 0),
        replaced=get("replaced", False),
        duration=get("duration", 0.0),
        code=get("code", ""),
        message=get("message", ""),
        failures=NO_FAILURES
        if calls is None
        else Failures(calls["failures"], calls["last"], tuple(calls["returned"])),
    )


def is_whole(record: UploadRecord) -> bool:
    """Whether it came in one request and is recorded for its callback alone: no client knows it."""
    return record.dialect == WHOLE


def is_published(record: UploadRecord) -> bool:
    """Whether it became a file; a partial upload is complete without becoming one."""
    return record.state is UploadState.COMPLETE and record.final_name is not None


def stored_of(record: UploadRecord) -> Stored | None:
    """The file that an upload became; None for one that is not complete, or became none.

    One that was cancelled when it was complete still has it, until its callback was called.
    """
    if record.final_name is None or record.state not in _ENDED:
        return None
    outcome = Outcome.of(record)
    size = record.final_size if record.final_size is not None else record.offset
    return Stored(
        FileInfo(record.final_name, size, outcome.mtime_ns, outcome.tag, identity=outcome.identity),
        record.final_name != record.name,
        outcome.replaced,
        outcome.digests,
        outcome.duration,
        outcome.received,
    )


_ENDED = (UploadState.COMPLETE, UploadState.CANCELLED)


# --- values as JSON has them -----------------------------------------------------------------


def _plain(digests: Iterable[Digest]) -> _Pairs:
    return [(digest.algorithm, digest.value.hex()) for digest in digests]


def _digests(pairs: Iterable[tuple[str, str]]) -> tuple[Digest, ...]:
    return tuple(Digest(algorithm, bytes.fromhex(value)) for algorithm, value in pairs)


def _plain_conditions(given: Preconditions) -> dict[str, Any] | None:
    if not given:
        return None

    def tags(entries: tuple[EntityTag, ...] | None) -> list[tuple[str, bool]] | None:
        return None if entries is None else [(entry.opaque, entry.weak) for entry in entries]

    return {
        "if_match": tags(given.if_match),
        "if_none_match": tags(given.if_none_match),
        "if_unmodified_since": given.if_unmodified_since,
    }


def _conditions(known: Mapping[str, Any] | None) -> Preconditions:
    if not known:
        return NO_PRECONDITIONS

    def tags(name: str) -> tuple[EntityTag, ...] | None:
        entries = known[name]
        return None if entries is None else tuple(EntityTag(*entry) for entry in entries)

    return Preconditions(
        if_match=tags("if_match"),
        if_none_match=tags("if_none_match"),
        if_unmodified_since=known["if_unmodified_since"],
    )


def _dump(value: object) -> bytes:
    return json.dumps(value).encode("ascii")
