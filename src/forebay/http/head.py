"""A request head: from bytes, by httptools, to what HTTP/1.1 lets it mean."""

from __future__ import annotations

import re

import httptools

from forebay.errors import InvalidRequest
from forebay.protocol import fields

END = b"\r\n\r\n"
EMPTY_LINES = re.compile(rb"(?:\r\n)*")


class Head:
    """A parsed head. Raises InvalidRequest for what is malformed or ambiguous."""

    __slots__ = ("headers", "keep_alive", "method", "upgrade", "url", "version")

    def __init__(self, data: bytes) -> None:
        """`data` is the whole head with the empty line at its end, and nothing after it."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.upgrade = False
        # A new parser each time: it is left in the middle of a body that it never sees.
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"The request head is malformed ({error}).") from error
        self.version: str = parser.get_http_version()
        self.method: str = parser.get_method().decode("latin-1")
        self.keep_alive = self.version == "1.1" and not self._wants_close()
        self._check()

    # httptools calls these two while it parses.

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser leaves what comes after a value (RFC 9112, section 5.1).
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def _wants_close(self) -> bool:
        """RFC 9112, section 9.6. The parser forgets it once a message without body has ended."""
        return any(
            token.strip() == b"close"
            for name, value in self.headers
            if name == b"connection"
            for token in value.lower().split(b",")
        )

    def _check(self) -> None:
        if self.version not in ("1.1", "1.0"):
            raise InvalidRequest(f"HTTP/{self.version} is not spoken here.")
        # RFC 9112, section 3.2: exactly one, which HTTP/1.0 may leave out.
        hosts = len(fields.every(self.headers, b"host"))
        if hosts > 1 or (not hosts and self.version == "1.1"):
            raise InvalidRequest("A request needs exactly one Host field.")

    @property
    def wants_websocket(self) -> bool:
        upgrade = fields.first(self.headers, b"upgrade") if self.upgrade else None
        return upgrade is not None and upgrade.lower() == b"websocket"

    @property
    def expects_continue(self) -> bool:
        """RFC 9110, section 10.1.1: an HTTP/1.0 client's Expect is ignored."""
        expect = fields.first(self.headers, b"expect")
        return expect is not None and expect.lower() == b"100-continue" and self.version == "1.1"

    def target(self) -> tuple[bytes, bytes]:
        """Path and query (RFC 9112, section 3.2), still percent-encoded."""
        if self.url == b"*":
            return b"*", b""
        try:
            parsed = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError as error:
            raise InvalidRequest("The request target is malformed.") from error
        return parsed.path or b"/", parsed.query or b""


def cannot_become_one(data: bytearray) -> bool:
    """Whether what has arrived of a head is something else: TLS, bare line feeds, noise."""
    return data != b"\r" and (not 0x41 <= data[0] <= 0x5A or b"\n\n" in data)
