"""Host and port, as Host, a request target and an Origin write them (RFC 3986, section 3.2)."""

from __future__ import annotations

import functools
import ipaddress
import re

__all__ = ["Authority", "parse_authority"]

Authority = tuple[str, str]
"""Host in lower case without a trailing dot; port as digits, "" when none is given."""

MAX_PORT = 65_535

# RFC 3986 allows more characters. No name in use has them, and a comma would mean two fields.
_AUTHORITY = re.compile(
    r"(?P<host>\[(?P<v6>[0-9a-f:.]{2,45})\]|(?:[a-z0-9._~!$&'()*+;=-]|%[0-9a-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)


@functools.lru_cache(maxsize=512)  # most requests name the same few hosts
def parse_authority(text: str) -> Authority | None:
    """Host and port of `host[:port]`; None when it is malformed: with user information, a space, a
    comma, a port above 65535, or brackets around anything but an IPv6 address.
    """
    match = _AUTHORITY.fullmatch(text.lower()) if len(text) <= 512 else None
    if match is None:
        return None
    port = match["port"] or ""
    if port and int(port) > MAX_PORT:
        return None
    if match["v6"] is not None:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            return None
    return match["host"].removesuffix("."), port
