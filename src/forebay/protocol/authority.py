"""Host and port, as Host, a request target and an Origin write them (RFC 3986, section 3.2)."""

from __future__ import annotations

import functools
import ipaddress
import re

__all__ = ["Authority", "parse_authority"]

Authority = tuple[str, str]
"""Host in lower case without a dot at its end; port as digits, "" when none is given."""

MAX_PORT = 65_535

# A name may have more characters by RFC 3986. None of them is in a name that anybody uses, and
# a comma joins the values of two fields.
_AUTHORITY = re.compile(
    r"(?P<host>\[(?P<v6>[0-9a-f:.]{2,45})\]|(?:[a-z0-9._~!$&'()*+;=-]|%[0-9a-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)


@functools.lru_cache(maxsize=512)  # a server hears the same few hosts all day
def parse_authority(text: str) -> Authority | None:
    """Host and port of `host[:port]`; None when it is no such thing, as with user information,
    a space, a comma, a port above 65535, or brackets round what is no IPv6 address.
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
