"""Sending a published file: whole or one range, with its validators."""

from __future__ import annotations

import mimetypes
import os
from typing import Any

from forebay.engine.workers import Workers
from forebay.errors import PreconditionFailed
from forebay.http.answers import Headers, Send
from forebay.model import EntityTag, FileInfo
from forebay.protocol import fields, preconditions, ranges
from forebay.protocol.preconditions import Outcome

PIECE = 256 << 10


async def send_file(
    scope: dict[str, Any], send: Send, workers: Workers, fd: int, info: FileInfo, extra: Headers
) -> None:
    """Answers GET or HEAD from an open descriptor, which stays open.

    The descriptor is what is sent, so a file that is replaced meanwhile is sent as it was.
    """
    headers: Headers = scope["headers"]
    tag, mtime = EntityTag(info.tag), info.mtime_ns // 10**9
    validators: Headers = [
        (b"etag", preconditions.format_tag(tag)),
        (b"last-modified", fields.http_date(mtime)),
    ]
    conditions = preconditions.parse(headers)
    if conditions:
        outcome = preconditions.evaluate(conditions, scope["method"], tag=tag, mtime=mtime)
        if outcome is Outcome.FAILED:
            raise PreconditionFailed
        if outcome is Outcome.NOT_MODIFIED:
            await _send_head(send, 304, [*validators, *extra])
            await send({"type": "http.response.body"})
            return
    start, stop, status = _wanted_range(scope["method"], headers, info, tag, mtime)
    answer: Headers = [
        (b"content-type", _media_type(info.name)),
        (b"content-length", b"%d" % (stop - start)),
        (b"accept-ranges", b"bytes"),
        (b"content-disposition", fields.disposition_for(info.name.rpartition("/")[2])),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache"),
        *validators,
        *extra,
    ]
    if status == 206:
        answer.append((b"content-range", ranges.content_range(start, stop, info.size)))
    await _send_head(send, status, answer)
    if scope["method"] == "HEAD" or start == stop:
        await send({"type": "http.response.body"})
        return
    if "http.response.zerocopysend" in (scope.get("extensions") or ()):
        await send(
            {
                "type": "http.response.zerocopysend",
                "file": fd,
                "offset": start,
                "count": stop - start,
                "forebay.workers": workers,
            }
        )
        return
    while start < stop:
        piece = await workers.run(os.pread, fd, min(PIECE, stop - start), start)
        if not piece:
            # Cut short on the disk under us: the client must not take it for the whole.
            raise RuntimeError(f"{info.name!r} became shorter while it was sent")
        start += len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": start < stop})


async def _send_head(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _wanted_range(
    method: str, headers: Headers, info: FileInfo, tag: EntityTag, mtime: int
) -> tuple[int, int, int]:
    """Start, stop and status. A Range is for GET alone (RFC 9110, section 14.2)."""
    whole = (0, info.size, 200)
    wanted = fields.first(headers, b"range")
    if wanted is None or method != "GET":
        return whole
    condition = fields.first(headers, b"if-range")
    if condition is not None and not preconditions.if_range(condition, tag, mtime):
        return whole
    found = ranges.parse(wanted, info.size)
    if found is None or len(found) != 1:
        return whole  # several ranges at once: the whole is a correct answer
    return found[0][0], found[0][1], 206


def _media_type(name: str) -> bytes:
    guessed, coding = mimetypes.guess_type(name)
    if guessed is None or coding is not None:
        return b"application/octet-stream"
    return guessed.encode()
