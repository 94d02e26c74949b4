"""Which web pages may use this server (invariant 15; Fetch, sections 3.1 and 3.2).

A server on loopback is within reach of every page that its user looks at. Host is checked
against pages that had their own name resolved to 127.0.0.1 (DNS rebinding), Origin against
those that just send a form or a simple request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from forebay.errors import HostRefused, InvalidRequest, OriginRefused
from forebay.protocol.authority import Authority, parse_authority
from forebay.protocol.fields import Headers, every, first, single
from forebay.protocol.status import Answer

__all__ = ["EXPOSED", "check", "cors", "is_preflight", "origins_in", "preflight"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""They store nothing; whether their answers may be read is for `cors` to say."""

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ORIGIN = re.compile(r"(https?)://(.+)")
_LOOPBACK_V4 = re.compile(r"127(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})){3}")


def check(
    method: str,
    headers: Headers,
    *,
    listening_on_loopback: bool,
    allow_hosts: Collection[str] = (),
    allow_origins: Collection[str] = (),
    scheme: str = "http",
    seen_as: str | None = None,
) -> None:
    """Raises `InvalidRequest` for a Host that is none, `HostRefused` or `OriginRefused` unless
    the request may have its effect.

    `allow_hosts`: `name` (any port), `name:port`, `*.name` or `*`; if none are given, Host
    matters only to a server that listens on loopback. `allow_origins`: serialised origins, or
    `*`. `scheme` is the request's own: behind it, a proxy may add TLS but hardly remove it,
    so a page over https may talk to its host over http, and not the other way round.
    `seen_as` is the host that the client used, when a trusted proxy says so: a page's origin is
    compared with that. Host itself is judged as it came, since a page whose own name was
    resolved to a loopback address can send any field beside it.
    """
    host = single(headers, b"host")
    authority = parse_authority(host.decode("latin-1")) if host else None
    if host and authority is None:  # RFC 9112, section 3.2; an empty one names nothing
        raise InvalidRequest("Host is not a host name or address with an optional port.")
    if listening_on_loopback or allow_hosts:
        _check_host(authority, listening_on_loopback, allow_hosts)
    if method not in SAFE and "*" not in allow_origins:
        outside = parse_authority(seen_as) if seen_as is not None else None
        _check_origin(headers, outside or authority, allow_origins, scheme)


def _check_host(
    authority: Authority | None, on_loopback: bool, allow_hosts: Collection[str]
) -> None:
    if "*" in allow_hosts:
        return
    if authority is None:
        raise HostRefused("The request does not say which host it is for.")
    host, port = authority
    # No foreign page can have a loopback name, so these are fine beside any `allow_hosts`.
    if on_loopback and _is_loopback(host):
        return
    if not any(_host_matches(host, port, pattern.lower()) for pattern in allow_hosts):
        raise HostRefused()


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    """RFC 6761, section 6.3, for the name; RFC 1122, section 3.2.1.3, for the network.

    Not 0.0.0.0: it reaches loopback on some systems, and only pages with bad intent use it.
    """
    return (
        host in ("localhost", "[::1]")
        or host.endswith(".localhost")
        or _LOOPBACK_V4.fullmatch(host) is not None
    )


def _host_matches(host: str, port: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        name, _, wanted_port = pattern[1:].partition(":")
        return host.endswith(name) and len(host) > len(name) and wanted_port in ("", port)
    wanted = parse_authority(pattern)
    return wanted is not None and wanted[0] == host and wanted[1] in ("", port)


def _check_origin(
    headers: Headers,
    authority: Authority | None,
    allow_origins: Collection[str],
    scheme: str,
) -> None:
    origins = every(headers, b"origin")
    if not origins:
        # Programs send neither. A browser that leaves Origin out still tells where from.
        sites = every(headers, b"sec-fetch-site")
        if any(site.strip().lower() in (b"cross-site", b"same-site") for site in sites):
            raise OriginRefused()
        return
    if len(origins) > 1:
        raise OriginRefused("The request names more than one origin.")
    origin = origins[0].decode("latin-1").lower()
    if origin == "null" and every(headers, b"sec-fetch-site") == [b"same-origin"]:
        # A page of ours whose referrer policy is "no-referrer". No script can write that field.
        return
    if not (_is_listed(origin, allow_origins) or _is_own(origin, authority, scheme)):
        raise OriginRefused()


def _is_listed(origin: str, allow_origins: Collection[str]) -> bool:
    # Any sandboxed frame is "null", so that listing it would let in every page.
    return origin != "null" and any(origin == _as_sent(allowed) for allowed in allow_origins)


@lru_cache(maxsize=256)
def _as_sent(allowed: str) -> str:
    """A configured origin as browsers write it: without the port that is its scheme's own."""
    origin = allowed.lower().rstrip("/")
    scheme, _, _ = origin.partition("://")
    return origin.removesuffix(f":{_DEFAULT_PORTS.get(scheme, '')}")


def _is_own(origin: str, authority: Authority | None, scheme: str) -> bool:
    """Whether a page of `origin` came from the host and port that the request is for."""
    match = _ORIGIN.fullmatch(origin)
    page = parse_authority(match[2]) if match else None
    if match is None or page is None or authority is None:
        return False
    if scheme == "https" and match[1] != "https":
        return False
    default = _DEFAULT_PORTS[match[1]]
    return page[0] == authority[0] and (page[1] or default) == (authority[1] or default)


# --- CORS ----------------------------------------------------------------------------------

EXPOSED = (
    "Accept-Encoding, Accept-Patch, Accept-Ranges, Allow, Content-Digest, Content-Disposition, "
    "Content-Encoding, Content-Length, Content-Location, Content-Range, Date, ETag, "
    "Last-Modified, Link, Location, Range, Repr-Digest, Retry-After, Want-Content-Digest, "
    "Want-Repr-Digest, WWW-Authenticate, "
    "Upload-Complete, Upload-Draft-Interop-Version, Upload-Incomplete, Upload-Length, "
    "Upload-Limit, Upload-Offset, "
    "Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, "
    "Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Metadata"
)
"""What a script of another origin may read (Fetch, section 3.2.3)."""

PREFLIGHT_MAX_AGE = 7200
"""Seconds; the most that Chromium keeps an answer."""

_PRINTABLE = re.compile(rb"[!-~]+")  # it is echoed
_METHOD = re.compile(rb"[A-Za-z-]{1,32}")
_FIELD_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{1,4096}")
_ORIGIN_LINE = re.compile(rb"\norigin:[ \t]*([!-~]+)[ \t]*(?=\r?\n)", re.IGNORECASE)


def cors(headers: Headers, allow_origins: Collection[str]) -> list[tuple[bytes, bytes]]:
    """The fields to add to any answer, an error's too, so that allowed pages can read it.

    Credentials (cookies and the like) only for origins that are named: `*` would let every
    page act as whoever is signed in (Fetch, section 3.2.5, forbids it as well).
    """
    if not allow_origins:
        return []
    # Vary on every answer: a cache must not give one origin's, or none's, to another.
    fields = [(b"vary", b"Origin")]
    origin = _named(headers, allow_origins)
    if origin is not None:
        fields.append((b"access-control-allow-origin", origin))
        fields.append((b"access-control-allow-credentials", b"true"))
    elif "*" in allow_origins:
        fields.append((b"access-control-allow-origin", b"*"))
    else:
        return fields
    if first(headers, b"access-control-request-method") is None:
        fields.append((b"access-control-expose-headers", EXPOSED.encode("ascii")))
    return fields


def _named(headers: Headers, allow_origins: Collection[str]) -> bytes | None:
    """The request's origin, when it is one of those that are named."""
    origins = every(headers, b"origin")
    if len(origins) != 1 or _PRINTABLE.fullmatch(origins[0]) is None:
        return None
    listed = _is_listed(origins[0].decode("latin-1").lower(), allow_origins)
    return origins[0] if listed else None


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks for permission; it does so without credentials (section 3.2.2)."""
    return (
        method == "OPTIONS"
        and first(headers, b"origin") is not None
        and first(headers, b"access-control-request-method") is not None
    )


def preflight(headers: Headers, allow_origins: Collection[str], methods: Iterable[str]) -> Answer:
    """The answer to a preflight; `cors` says to whom. To others it allows nothing.

    The method that is asked for is allowed beside `methods`: a browser would hide the 405, or
    the 404, that says why it is refused.
    """
    vary = (
        b"Access-Control-Request-Method, Access-Control-Request-Headers, "
        b"Access-Control-Request-Private-Network"
    )
    fields = [(b"vary", vary)]  # no Content-Length: RFC 9110, section 8.6
    if "*" not in allow_origins and _named(headers, allow_origins) is None:
        return Answer(204, tuple(fields))
    allowed = [method.encode("ascii") for method in methods]
    asked = first(headers, b"access-control-request-method") or b""
    if asked not in allowed and _METHOD.fullmatch(asked):
        allowed.append(asked)
    fields.append((b"access-control-allow-methods", b", ".join(allowed)))
    names = b", ".join(every(headers, b"access-control-request-headers"))
    if _FIELD_NAMES.fullmatch(names):
        # Metadata and credentials are the application's: no list of ours would be complete.
        fields.append((b"access-control-allow-headers", names))
    fields.append((b"access-control-max-age", b"%d" % PREFLIGHT_MAX_AGE))
    if first(headers, b"access-control-request-private-network") == b"true":
        fields.append((b"access-control-allow-private-network", b"true"))
    return Answer(204, tuple(fields))


def origins_in(head: bytes | bytearray) -> list[tuple[bytes, bytes]]:
    """The Origin fields of a head that could not be parsed, or did not arrive whole."""
    return [(b"origin", value) for value in _ORIGIN_LINE.findall(head)]
