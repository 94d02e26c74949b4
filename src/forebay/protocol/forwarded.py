"""The URL that the client used, as trusted proxies report it (RFC 7239, X-Forwarded-*).

The fields are read only when the peer is a trusted proxy: any client can send them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Sequence

from forebay.protocol import fields
from forebay.protocol.authority import parse_authority
from forebay.protocol.fields import Headers

__all__ = ["Network", "Outside", "is_trusted", "networks", "outside", "prefix_before"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")
_MAX_HOPS = 64
_MAX_FORWARDED = 8192
_MAX_PAIRS = 4 * _MAX_HOPS
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# RFC 7239, section 4: token=value, the value a token or a quoted string.
_PAIR = re.compile(r'\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*))\s*')


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """How the client sees this server. None: no trusted proxy said so.

    `prefix`: what a proxy removed from the front of the path, without a slash at its end.
    """

    scheme: str | None = None
    host: str | None = None
    prefix: str = ""

    def origin(self, scheme: str, host: str) -> str:
        """`scheme://host` for links, without default ports. The arguments are for values that no
        proxy reported.
        """
        scheme = self.scheme or scheme
        host = self.host or host
        return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, '//'))}"


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks in texts such as `192.0.2.1`, `10.0.0.0/8` or `::1`. Raises ValueError."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def is_trusted(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Whether `peer`, an address without port, is in one of the networks."""
    if not trusted or peer is None:
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in trusted)


def outside(headers: Headers, peer: str | None, trusted: Sequence[Network]) -> Outside:
    """What the outermost trusted proxy saw. Malformed values are ignored."""
    if not is_trusted(peer, trusted):
        return Outside()
    prefix = _prefix(headers)
    elements = _elements(headers)
    if elements:
        chosen = elements[-1]
        for element in reversed(elements):
            chosen = element
            if not is_trusted(_address(element.get("for", "")), trusted):
                break
        return Outside(_scheme(chosen.get("proto")), _host(chosen.get("host")), prefix)
    hops = 0
    for address in reversed(_list(headers, b"x-forwarded-for")):
        if not is_trusted(_address(address), trusted):
            break
        hops += 1
    proto = _nth_last(_list(headers, b"x-forwarded-proto"), hops)
    host = _nth_last(_list(headers, b"x-forwarded-host"), hops)
    return Outside(_scheme(proto), _host(host), prefix)


def prefix_before(base: str, prefix: str) -> str:
    """What to write before `base`, so that a link has `prefix` once.

    `base` is the path at which the application is mounted (ASGI's root_path). It is often the
    same one that a proxy removes and reports as `prefix`.
    """
    base = base.rstrip("/")
    if not prefix or base == prefix or base.startswith(f"{prefix}/"):
        return ""
    return prefix.removesuffix(base) if base else prefix


def _list(headers: Headers, name: bytes) -> list[str]:
    """The last elements of a list; trusted proxies add theirs at the end."""
    joined = b",".join(fields.every(headers, name)).decode("latin-1")
    listed = joined.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
    return [item.strip() for item in listed if item.strip()]


def _nth_last(items: list[str], hops: int) -> str | None:
    """The element of the proxy `hops` steps before the nearest one; each adds at the end."""
    return items[max(0, len(items) - 1 - hops)] if items else None


def _elements(headers: Headers) -> list[dict[str, str]]:
    """The elements of Forwarded, the nearest proxy last; [] if one is malformed."""
    text = ",".join(value.decode("latin-1") for value in fields.every(headers, b"forwarded"))
    if len(text) > _MAX_FORWARDED or text.count(",") + text.count(";") > _MAX_PAIRS:
        return []
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            return []
        value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        elements[-1].setdefault(match[1].lower(), value)
        position = match.end()
        if position < len(text):
            if text[position] not in ",;":
                return []
            if text[position] == ",":
                elements.append({})
            position += 1
    return [element for element in elements if element]


def _address(text: str) -> str:
    """The address in `for`, without a port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _scheme(value: str | None) -> str | None:
    return value.lower() if value is not None and value.lower() in _DEFAULT_PORTS else None


def _host(value: str | None) -> str | None:
    return value if value is not None and parse_authority(value) is not None else None


def _prefix(headers: Headers) -> str:
    """Each proxy adds what it removed from the path at the end: of /a/b/c first /a, then /b."""
    listed = [item.rstrip("/") for item in _list(headers, b"x-forwarded-prefix")]
    prefix = "".join(listed)
    sound = all(_PREFIX.fullmatch(item) for item in listed if item)
    dots = {".", ".."} & set(prefix.lower().replace("%2e", ".").split("/"))
    return prefix if sound and not dots else ""
