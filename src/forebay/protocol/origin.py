"""Which web pages may use this server (invariant 15; Fetch, sections 3.1 and 3.2).

Every page that a user opens can reach a server on loopback. Host is checked against pages whose
own name resolves to 127.0.0.1 (DNS rebinding), Origin against pages that send a form or a simple
request.
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
"""Methods that store nothing. `cors` decides which pages may read their responses."""

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
    """Checks that a request may have its effect. Raises `InvalidRequest` for a malformed Host, else
    `HostRefused` or `OriginRefused`.

    `allow_hosts`: `name` (any port), `name:port`, `*.name` or `*`. Without any, Host is checked
    only when the server listens on loopback. `allow_origins`: serialised origins, or `*`. `scheme`:
    that of the request as it arrived. A proxy may have removed TLS, so a page over https may send
    to its host over http, but not the other way round. `seen_as`: the host that the client used,
    reported by a trusted proxy; the origin of a page is compared with it. Host is still checked as
    it came: a page whose name resolves to loopback can send any other field.
    """
    host = single(headers, b"host")
    authority = parse_authority(host.decode("latin-1")) if host else None
    if host and authority is None:  # RFC 9112, section 3.2; it may be empty
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
    # No page of another site has a loopback name, so these are allowed beside any `allow_hosts`.
    if on_loopback and _is_loopback(host):
        return
    if not any(_host_matches(host, port, pattern.lower()) for pattern in allow_hosts):
        raise HostRefused()


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    """Whether a host is loopback (RFC 6761, section 6.3; RFC 1122, section 3.2.1.3).

    0.0.0.0 does not count: it reaches loopback on some systems, and only attacks use it.
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
        # Programs send neither field. A browser that omits Origin still sends Sec-Fetch-Site.
        sites = every(headers, b"sec-fetch-site")
        if any(site.strip().lower() in (b"cross-site", b"same-site") for site in sites):
            raise OriginRefused()
        return
    if len(origins) > 1:
        raise OriginRefused("The request names more than one origin.")
    origin = origins[0].decode("latin-1").lower()
    if origin == "null" and every(headers, b"sec-fetch-site") == [b"same-origin"]:
        # A page of this server with referrer policy "no-referrer". No script can set that field.
        return
    if not (_is_listed(origin, allow_origins) or _is_own(origin, authority, scheme)):
        raise OriginRefused()


def _is_listed(origin: str, allow_origins: Collection[str]) -> bool:
    # "null" is the origin of every sandboxed frame: allowing it would allow every page.
    return origin != "null" and any(origin == _as_sent(allowed) for allowed in allow_origins)


@lru_cache(maxsize=256)
def _as_sent(allowed: str) -> str:
    """A configured origin as browsers send it: without the default port of its scheme."""
    origin = allowed.lower().rstrip("/")
    scheme, _, _ = origin.partition("://")
    return origin.removesuffix(f":{_DEFAULT_PORTS.get(scheme, '')}")


def _is_own(origin: str, authority: Authority | None, scheme: str) -> bool:
    """Whether `origin` has the host and port that the request is for."""
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
"""Fields that scripts of another origin may read (Fetch, section 3.2.3)."""

PREFLIGHT_MAX_AGE = 7200
"""Seconds; Chromium caches a response no longer than that."""

_PRINTABLE = re.compile(rb"[!-~]+")  # the value is sent back
_METHOD = re.compile(rb"[A-Za-z-]{1,32}")
_FIELD_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{1,4096}")
_ORIGIN_LINE = re.compile(rb"\norigin:[ \t]*([!-~]+)[ \t]*(?=\r?\n)", re.IGNORECASE)


def cors(headers: Headers, allow_origins: Collection[str]) -> list[tuple[bytes, bytes]]:
    """The fields to add to every response, also to errors, so that allowed pages can read it.

    Credentials, such as cookies, are allowed only to origins that are named. With `*` every page
    could act for a user who is signed in (Fetch, section 3.2.5, forbids it as well).
    """
    if not allow_origins:
        return []
    # Vary on every response: a cache must not send one origin the response to another.
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
    """The origin of the request, if it is named in `allow_origins`."""
    origins = every(headers, b"origin")
    if len(origins) != 1 or _PRINTABLE.fullmatch(origins[0]) is None:
        return None
    listed = _is_listed(origins[0].decode("latin-1").lower(), allow_origins)
    return origins[0] if listed else None


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether it is a CORS preflight, which has no credentials (section 3.2.2)."""
    return (
        method == "OPTIONS"
        and first(headers, b"origin") is not None
        and first(headers, b"access-control-request-method") is not None
    )


def preflight(headers: Headers, allow_origins: Collection[str], methods: Iterable[str]) -> Answer:
    """The response to a preflight, without the fields of `cors`. Other origins get no permission.

    The requested method is allowed besides `methods`: otherwise the browser would hide the 404 or
    405 that says why it is refused.
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
        # Every field is allowed: applications have their own for metadata and credentials.
        fields.append((b"access-control-allow-headers", names))
    fields.append((b"access-control-max-age", b"%d" % PREFLIGHT_MAX_AGE))
    if first(headers, b"access-control-request-private-network") == b"true":
        fields.append((b"access-control-allow-private-network", b"true"))
    return Answer(204, tuple(fields))


def origins_in(head: bytes | bytearray) -> list[tuple[bytes, bytes]]:
    """The Origin fields in a head that is malformed or incomplete."""
    return [(b"origin", value) for value in _ORIGIN_LINE.findall(head)]
