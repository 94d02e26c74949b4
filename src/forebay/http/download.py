"""Answers to GET and HEAD of a published file (RFC 9110, sections 13 to 15)."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forebay.conditions import EntityTag, Preconditions, coded_tag
from forebay.errors import PreconditionFailed, UploadError
from forebay.http.answers import Headers, Send
from forebay.http.content import Content
from forebay.media_types import has_charset, is_shown, is_utf8, media_type_of
from forebay.protocol import fields, http_dates, preconditions, ranges
from forebay.protocol.negotiation import takes_coding
from forebay.protocol.parameters import disposition_for
from forebay.protocol.preconditions import Outcome
from forebay.stores.base import Encoded, Reader
from forebay.stores.reading import read_bytes

if TYPE_CHECKING:
    from forebay.engine.engine import Engine

Piece = bytes | tuple[int, int]
"""Bytes as they are, or from where to where in the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """What goes out after the validators: decided before anything is sent."""

    status: int
    headers: Headers
    pieces: Sequence[Piece] = ()


async def send_file(
    scope: dict[str, Any],
    send: Send,
    engine: Engine,
    reader: Reader,
) -> None:
    """Answers GET or HEAD from a reader, which stays open.

    The open file is what is sent, so a file that is replaced or deleted meanwhile is sent
    whole, as it was. Raises PreconditionFailed, RangeNotSatisfiable and InvalidField.
    """
    headers: Headers = scope["headers"]
    conditions = preconditions.parse(headers)
    info = reader.info
    sent, coding = await _representation(scope, conditions, engine, reader)
    content = Content(scope, engine.workers, sent)
    tag = EntityTag(coded_tag(info.tag) if coding else info.tag)
    # Never later than Date (section 8.8.2.1): it would hide a later change.
    mtime = min(info.mtime_ns // 10**9, int(time.time()))
    validators: Headers = [
        (b"etag", preconditions.format_tag(tag)),
        (b"last-modified", http_dates.http_date(mtime)),
        (b"cache-control", b"no-cache"),
    ]
    if isinstance(reader, Encoded):
        validators.append((b"vary", b"Accept-Encoding"))
    if conditions:
        outcome = preconditions.evaluate(conditions, scope["method"], tag=tag, mtime=mtime)
        if outcome is Outcome.FAILED:
            raise PreconditionFailed
        if outcome is Outcome.NOT_MODIFIED:
            await _send(send, _Plan(304, validators), content, "HEAD")
            return
    kind = media_type_of(info.name)
    shown = is_shown(kind, engine.settings.inline_types)
    wanted = None if coding else wanted_ranges(scope, info.size, tag, mtime)
    content_type = await _with_charset(kind, engine, reader)
    plan = _plan(wanted, sent.info.size, content_type)
    if coding:
        plan.headers.append((b"content-encoding", coding.encode()))
    plan.headers.extend(
        (
            (b"accept-ranges", b"none" if coding else b"bytes"),
            (b"content-disposition", disposition_for(info.name, inline=shown)),
            (b"x-content-type-options", b"nosniff"),
            *validators,
        )
    )
    await _send(send, plan, content, scope["method"])


_SNIFFED = 64 << 10
"""Bytes at the beginning of a text by which its charset is recognised."""


async def _with_charset(kind: str, engine: Engine, reader: Reader) -> bytes:
    """The media type, with `charset=utf-8` for a text that begins as such. Of the content, whatever
    coding and range of it are sent.
    """
    if has_charset(kind) and await engine.workers.run(_begins_as_utf8, reader):
        kind += "; charset=utf-8"
    return kind.encode()


def _begins_as_utf8(reader: Reader) -> bool:
    """In a thread."""
    size = reader.info.size
    try:
        data = read_bytes(reader, 0, min(_SNIFFED, size))
    except UploadError:
        return False  # the error shows when the content is sent
    return is_utf8(data, whole=len(data) == size)


async def _representation(
    scope: dict[str, Any],
    conditions: Preconditions,
    engine: Engine,
    reader: Reader,
) -> tuple[Reader, str]:
    """What is sent, and its content coding ("" for none).

    A file compressed at rest goes as it is to clients that take it so; but ranges are always
    of the content itself, so that a part fits what another client, or another version of the
    same one, got before. The same goes for a client that asks for a tag by If-Match.
    """
    if not isinstance(reader, Encoded):
        return reader, ""
    headers: Headers = scope["headers"]
    # Also finds a damaged file, and a missing module, while an error can still be answered.
    encoded = await engine.workers.run(reader.encoded)
    ranged = scope["method"] == "GET" and fields.first(headers, b"range") is not None
    fixed = conditions.if_match and EntityTag(coded_tag(reader.info.tag)) not in conditions.if_match
    if not (ranged or fixed) and takes_coding(headers, reader.coding):
        return encoded, reader.coding
    return reader, ""


def wanted_ranges(
    scope: dict[str, Any], size: int, tag: EntityTag, mtime: int
) -> list[tuple[int, int]] | None:
    """The ranges to answer with, None for the whole. Raises RangeNotSatisfiable."""
    headers: Headers = scope["headers"]
    wanted = fields.every(headers, b"range")
    if len(wanted) != 1 or scope["method"] != "GET":  # section 14.2: it is for GET alone
        return None
    condition = fields.every(headers, b"if-range")
    if condition:
        # What changed this very second may change in it once more (section 8.8.2.2).
        dated = mtime if time.time() - mtime >= 1 else None
        if len(condition) > 1 or not preconditions.if_range(condition[0], tag, dated):
            return None
    found = ranges.parse(wanted[0], size)
    return None if found is None else ranges.coalesced(found)


def _plan(wanted: list[tuple[int, int]] | None, size: int, kind: bytes) -> _Plan:
    if wanted is None:
        whole: Headers = [(b"content-type", kind), (b"content-length", b"%d" % size)]
        return _Plan(200, whole, ((0, size),))
    if len(wanted) == 1:
        start, stop = wanted[0]
        part: Headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % (stop - start)),
            (b"content-range", ranges.content_range(start, stop, size)),
        ]
        return _Plan(206, part, ((start, stop),))
    boundary = secrets.token_hex(16).encode()
    parts, end, length = ranges.multipart(wanted, size, kind, boundary)
    several: Headers = [
        (b"content-type", b"multipart/byteranges; boundary=" + boundary),
        (b"content-length", b"%d" % length),
    ]
    pieces: list[Piece] = []
    for head, start, stop in parts:
        pieces += (head, (start, stop))
    return _Plan(206, several, (*pieces, end))


async def _send(send: Send, plan: _Plan, content: Content, method: str) -> None:
    pieces = (
        [] if method == "HEAD" else [p for p in plan.pieces if isinstance(p, bytes) or _size(p)]
    )
    first = next((piece for piece in pieces if not isinstance(piece, bytes)), None)
    if first is not None:
        await content.check(first[0])  # while an error can still be answered
    await send(
        {"type": "http.response.start", "status": plan.status, "headers": plan.headers},
    )
    if not pieces:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    for left, piece in zip(range(len(pieces) - 1, -1, -1), pieces, strict=True):
        if isinstance(piece, bytes):
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        else:
            await content.send(send, *piece, more=left > 0)


def _size(piece: tuple[int, int]) -> int:
    return piece[1] - piece[0]
