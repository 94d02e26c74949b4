"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto

from forebay.conditions import NO_PRECONDITIONS, EntityTag, Preconditions
from forebay.errors import InvalidField
from forebay.protocol.fields import Headers, every
from forebay.protocol.http_dates import parse_http_date

__all__ = ["Outcome", "evaluate", "format_tag", "if_range", "parse", "parse_tag"]


class Outcome(Enum):
    """The result of evaluating the preconditions of a request."""

    PROCEED = auto()
    NOT_MODIFIED = auto()  # 304
    FAILED = auto()  # 412


_TAG = rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*+)"'  # section 8.8.3
_ONE_TAG = re.compile(_TAG)
# A list may have empty elements (section 5.6.1.2); a comma inside quotes is part of the tag.
_TAG_LIST = re.compile(rb"[ \t,]*+" + _TAG + rb"[ \t]*+(?=,|\Z)")
_MAX_TAGS = 128
"""Entity tags in one field; each takes the event loop some microseconds."""
_REST = re.compile(rb"[ \t,]*+")


def parse_tag(value: bytes) -> EntityTag | None:
    """One entity tag, None if it is malformed."""
    match = _ONE_TAG.fullmatch(value)
    return _tag(match) if match else None


def format_tag(tag: EntityTag) -> bytes:
    """The value of an ETag field."""
    return (b'W/"' if tag.weak else b'"') + tag.opaque.encode("latin-1") + b'"'


def _tag(match: re.Match[bytes]) -> EntityTag:
    return EntityTag(match[2].decode("latin-1"), weak=match[1] is not None)


_NAMES = frozenset((b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"))


def parse(headers: Headers) -> Preconditions:
    """The preconditions of a request.

    Raises `InvalidField` for a malformed list of tags: the request must not have its effect as if
    there were no condition. Malformed dates are ignored (sections 13.1.3 and 13.1.4).
    """
    if _NAMES.isdisjoint(dict(headers)):  # most requests have none
        return NO_PRECONDITIONS
    return Preconditions(
        if_match=_tags(headers, b"if-match"),
        if_none_match=_tags(headers, b"if-none-match"),
        if_modified_since=_date(headers, b"if-modified-since"),
        if_unmodified_since=_date(headers, b"if-unmodified-since"),
    )


def _tags(headers: Headers, name: bytes) -> tuple[EntityTag, ...] | None:
    lines = every(headers, name)
    if not lines:
        return None
    value = b", ".join(lines).strip(b" \t")
    if value == b"*":
        return ()
    tags: list[EntityTag] = []
    position = 0
    while len(tags) <= _MAX_TAGS and (match := _TAG_LIST.match(value, position)):
        tags.append(_tag(match))
        position = match.end()
    # An empty list must not become `()`, which means "*" in the model.
    if len(tags) > _MAX_TAGS:
        raise InvalidField(f"{name.decode('ascii')} has more than {_MAX_TAGS} entity tags.")
    if not tags or _REST.fullmatch(value, position) is None:
        raise InvalidField(f"{name.decode('ascii')} is not a list of entity tags.")
    return tuple(tags)


def _date(headers: Headers, name: bytes) -> int | None:
    lines = every(headers, name)
    return parse_http_date(lines[0]) if len(lines) == 1 else None


def evaluate(
    preconditions: Preconditions, method: str, *, tag: EntityTag | None, mtime: int | None
) -> Outcome:
    """Evaluates the preconditions in the order of section 13.2.2.

    `tag` and `mtime` (whole seconds) are those of the current representation, both None when there
    is none. A date is ignored when there is no `mtime`.
    """
    reads = method in ("GET", "HEAD")
    exists = tag is not None or mtime is not None
    if preconditions.if_match is not None:  # step 1
        if not _matches(preconditions.if_match, tag, exists, weakly=False):
            return Outcome.FAILED
    elif _is_later(mtime, preconditions.if_unmodified_since):  # step 2
        return Outcome.FAILED
    if preconditions.if_none_match is not None:  # step 3
        if _matches(preconditions.if_none_match, tag, exists, weakly=True):
            return Outcome.NOT_MODIFIED if reads else Outcome.FAILED
    elif reads and _is_later(mtime, preconditions.if_modified_since) is False:  # step 4
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _is_later(mtime: int | None, date: int | None) -> bool | None:
    """Whether the file changed after `date`, None if either is unknown."""
    return None if mtime is None or date is None else mtime > date


def _matches(
    tags: Sequence[EntityTag], current: EntityTag | None, exists: bool, *, weakly: bool
) -> bool:
    """Whether `*` (no tags) or one of the tags matches the current representation (8.8.3.2)."""
    if not tags:
        return exists
    if current is None or (current.weak and not weakly):
        return False
    return any(tag.opaque == current.opaque and (weakly or not tag.weak) for tag in tags)


def if_range(value: bytes, tag: EntityTag | None, mtime: int | None) -> bool:
    """Whether the Range beside this If-Range applies (section 13.1.5).

    Tags are compared strongly; a date must equal Last-Modified. Pass None for an `mtime` that is
    too recent to be a strong validator (section 8.8.2.2).
    """
    given = parse_tag(value)
    if given is not None:
        return not given.weak and given == tag
    date = parse_http_date(value)
    return date is not None and date == mtime
