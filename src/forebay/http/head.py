"""One request head: parsed by httptools, then checked by the rules of HTTP/1.1."""

from __future__ import annotations

import re

import httptools

from forebay.errors import HeadTooLarge, InvalidRequest, MethodUnknown
from forebay.protocol import fields
from forebay.protocol.authority import parse_authority

END = b"\r\n\r\n"
EMPTY_LINES = re.compile(rb"(?:\r\n)*")

MAX_FIELDS = 256
"""Each is looked at many times. Clients and proxies together send some tens."""
MAX_TARGET = 16384
"""Bytes. A path of 4096, all of it escaped, and a query."""
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class Head:
    """A parsed head. Raises InvalidRequest for what is malformed or ambiguous, MethodUnknown."""

    __slots__ = ("headers", "keep_alive", "method", "upgrade", "url", "version")

    def __init__(self, data: bytes) -> None:
        """`data` is the whole head with the empty line at its end, and nothing after it."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.upgrade = False
        line = data[: data.find(b"\r\n")].split(b" ")
        if not line[-1].startswith(b"HTTP/"):  # the parser also takes RTSP and ICE
            raise InvalidRequest("That is not HTTP/1.1.")
        if data.count(b"\r\n") > MAX_FIELDS + 2:
            raise HeadTooLarge(f"The request head has more than {MAX_FIELDS} fields.")
        # A new parser each time: the old one waits for a body that it never gets.
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        except httptools.HttpParserInvalidMethodError as error:
            if len(line) != 3 or _TOKEN.fullmatch(line[0]) is None:
                raise InvalidRequest("The request line is malformed.") from error
            raise MethodUnknown from error  # RFC 9110, section 15.6.2
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"The request head is malformed ({error}).") from error
        self.version: str = parser.get_http_version()
        self.method: str = parser.get_method().decode("latin-1")
        self.keep_alive = self.version == "1.1" and not self._wants_close()
        self._check()

    # httptools calls the next two.

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser does not strip the end of a value (RFC 9112, section 5.1).
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def _wants_close(self) -> bool:
        """RFC 9112, section 9.6. The parser loses it at the end of a message without a body."""
        return any(
            token.strip() == b"close" for token in fields.elements(self.headers, b"connection")
        )

    def _check(self) -> None:
        if len(self.url) > MAX_TARGET:
            raise HeadTooLarge(f"The request target is longer than {MAX_TARGET} bytes.")
        if self.version not in ("1.1", "1.0"):
            raise InvalidRequest(f"HTTP/{self.version} is not spoken here.")
        if self.method == "CONNECT":  # its target is no path
            raise MethodUnknown
        # RFC 9112, section 3.2: exactly one, which HTTP/1.0 may leave out.
        hosts = fields.every(self.headers, b"host")
        if len(hosts) > 1 or (not hosts and self.version == "1.1"):
            raise InvalidRequest("A request needs exactly one Host field.")
        if hosts and hosts[0] and parse_authority(hosts[0].decode("latin-1")) is None:
            raise InvalidRequest("Host is not a host name or address with an optional port.")
        if self.url[:1] not in (b"/", b"*"):
            self._take_host_of_target()

    def _take_host_of_target(self) -> None:
        """RFC 9112, section 3.2.2: the host of an absolute target replaces the Host field."""
        match = _ABSOLUTE.match(self.url)
        if match is None or parse_authority(match[1].decode("latin-1")) is None:
            raise InvalidRequest("The request target is malformed.")
        self.headers = [field for field in self.headers if field[0] != b"host"]
        self.headers.insert(0, (b"host", match[1]))

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
    """Whether these bytes cannot be the beginning of a head: TLS, bare line feeds, noise."""
    return data != b"\r" and (_TOKEN.match(data) is None or b"\n\n" in data)
