"""A response on our own server: from ASGI messages to bytes (RFC 9112, sections 4 to 7)."""

from __future__ import annotations

import http
from collections.abc import Iterable

from forebay.http import cors
from forebay.http.answers import Field, Headers
from forebay.http.default_head import DefaultHead
from forebay.protocol.status import Answer, phrase

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def _status_line(status: int) -> bytes:
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = phrase(status)
    return f"HTTP/1.1 {status} {reason}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


class ResponseEncoder:
    """The head and the framing of one response.

    Args:
        method: of the request.
        version: "1.1" or "1.0".
        keep_alive: the client and the server want more requests on this connection.
    """

    __slots__ = ("_bodiless", "_chunked", "_head", "_left", "_old", "keep_alive")

    def __init__(self, method: str, version: str, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        """The connection stays open after this response."""
        self._old = version == "1.0"
        self._bodiless = method == "HEAD"
        self._chunked = False
        self._left: int | None = None
        """Bytes of announced content that have not come yet."""
        self._head = b""

    def interim(self, status: int, fields: Iterable[Field]) -> bytes:
        """An interim response (1xx); none to HTTP/1.0 (RFC 9110, section 15.2)."""
        if self._old:
            return b""
        given = list(fields)
        if cors.CHECKED:
            cors.check(status, given)
        lines = [_STATUS_LINES[status], *_lines(given), b"\r\n"]
        return _checked(b"".join(lines), len(given) + 2)

    def start(self, status: int, fields: Iterable[Field], defaults: DefaultHead) -> None:
        """Takes the head, which goes out with the first content. Raises RuntimeError for fields
        that contradict each other or contain a line break.
        """
        lines = [_STATUS_LINES[status], defaults.lines]
        count, own = defaults.count, None
        for name, value in fields:
            key = name.lower()
            if key in _FRAMING:
                if not self._is_sent(key, value):
                    continue
            elif key in defaults.names:
                own = {key} if own is None else own | {key}
            lines += (name, b": ", value, b"\r\n")
            count += 1
        if own is not None:  # Date or Server of the application replaces ours
            others = defaults.without(own)
            lines[1] = others.lines
            count += others.count - defaults.count
        if cors.CHECKED:
            cors.check_lines(status, lines[1:])
        self._bodiless = self._bodiless or status in (204, 304)
        if self._left is None and not self._bodiless:
            if self._old:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
                count += 1
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
            count += 1
        lines.append(b"\r\n")
        self._head = _checked(b"".join(lines), count + 2)

    def _is_sent(self, key: bytes, value: bytes) -> bool:
        """Whether a field about framing is sent as the application gave it."""
        if key == b"content-length":
            if self._left is not None:
                if self._left != int(value):
                    raise RuntimeError("A response has two Content-Length fields that differ.")
                return False
            self._left = int(value)
            return True
        if key == b"connection" and value.lower() == b"close":
            self.keep_alive = False
        return False  # hop-by-hop: the server decides

    def content(self, data: bytes, *, last: bool) -> bytes:
        """`data` as it is sent, after the head if that has not gone out. Raises RuntimeError for
        more content than was announced.
        """
        if self._bodiless:
            data = b""
        parts = self._take_head(len(data))
        if self._chunked:
            if data:
                parts += (b"%x\r\n" % len(data), data, b"\r\n")
            if last:
                parts.append(b"0\r\n\r\n")
        elif data:
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def before_file(self, size: int) -> bytes | None:
        """What is sent before `size` bytes of a file; None when the file is not to be sent.
        Raises RuntimeError for more content than was announced.
        """
        if self._bodiless or not size:
            return None
        parts = self._take_head(size)
        if self._chunked:
            parts.append(b"%x\r\n" % size)
        return b"".join(parts)

    @property
    def after_file(self) -> bytes:
        """What is sent after bytes of a file."""
        return b"\r\n" if self._chunked else b""

    def _take_head(self, size: int) -> list[bytes]:
        """The head if it was not sent yet, now that `size` bytes of content follow."""
        if self._left is not None and not self._bodiless:
            if size > self._left:
                raise RuntimeError("Response content longer than Content-Length")
            self._left -= size
        head, self._head = self._head, b""
        return [head] if head else []

    @property
    def cut_short(self) -> bool:
        """Less content has come than was announced."""
        return bool(self._left) and not self._bodiless


def encode(answer: Answer, extra: Headers, defaults: DefaultHead) -> bytes:
    """A whole answer after which the connection closes, with `extra` fields."""
    lines = [_STATUS_LINES[answer.status], defaults.lines, *_lines([*answer.headers, *extra])]
    if cors.CHECKED:
        cors.check_lines(answer.status, lines[1:])
    return b"".join((*lines, b"connection: close\r\n\r\n", answer.body))


def _lines(fields: Iterable[Field]) -> list[bytes]:
    return [name + b": " + value + b"\r\n" for name, value in fields]


def _checked(head: bytes, lines: int) -> bytes:
    """The head, if no value of a field adds a line of its own. Raises RuntimeError."""
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("A response field contains a line break or NUL.")
    return head
