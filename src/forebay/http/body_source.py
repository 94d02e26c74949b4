"""Where a request's body is read from: the socket itself, or ASGI's `receive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.engine.transfer.trailers import AnnouncedDigests
from forebay.http.answers import Headers, Receive
from forebay.http.asgi_source import BODY_WAS_READ, ReceiveSource
from forebay.http.bypass import cycle_of, receives_directly, was_read
from forebay.protocol import checksums, fields

if TYPE_CHECKING:
    from forebay.engine.transfer.pump import Source


def source_of(scope: dict[str, Any], receive: Receive, *, whole: bool = True) -> Source:
    """The fastest source for this request's body: the socket on our own server, unless
    middleware that may change the body stands between.

    `whole`: the body is a whole file, so digests of the file that are announced as trailers are
    of this body. Raises InvalidField when such trailers cannot come or be read, RuntimeError when
    something else has read the body: a rest is never taken for the whole.
    """
    source = _source_of(scope, receive)
    headers: Headers = scope["headers"]
    if fields.first(headers, b"trailer") is not None:
        names = checksums.announced_trailers(headers, whole=whole)
        cycle = cycle_of(scope)
        checksums.check_trailers(names, readable=cycle is not None, content_length=source.length)
        if names and cycle is not None:
            framing = cycle.body.framing
            source.late = AnnouncedDigests(names, lambda: framing.trailers)
    return source


def _source_of(scope: dict[str, Any], receive: Receive) -> Source:
    cycle = cycle_of(scope)
    if cycle is not None and receives_directly(cycle, receive):
        if cycle.body.given:
            raise RuntimeError(BODY_WAS_READ)
        source: Source | None = cycle.body.source()
        if source is not None:
            return source
    elif was_read(receive):
        raise RuntimeError(BODY_WAS_READ)
    headers: Headers = scope["headers"]
    length = fields.content_length(headers)
    if length is None and fields.first(headers, b"transfer-encoding") is None:
        # HTTP/2 announces a length or not; HTTP/1.1 without either has no body.
        length = None if scope.get("http_version", "1.1").startswith(("2", "3")) else 0
    return ReceiveSource(receive, length)
