"""What every route begins with: who may ask (invariant 15), and how the client sees this server."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from forebay.protocol import forwarded, origin

if TYPE_CHECKING:
    from forebay.config import Settings

PREFIX = "forebay.prefix"
"""Key in an ASGI scope: what stands before every path of a link (X-Forwarded-Prefix)."""
BASE = "forebay.base"
"""Key in an ASGI scope: the path at which the whole application was told that it is."""


def check(scope: dict[str, Any], settings: Settings, *, listening_on_loopback: bool) -> None:
    """Judges Host and Origin before anything else is looked at.

    Notes in `scope` what a trusted proxy took off the path, for the links of the answer.
    Raises HostRefused, OriginRefused, InvalidField, InvalidRequest.
    """
    outside = outside_of(scope, settings)
    if outside.prefix:
        scope[PREFIX] = forwarded.prefix_before(scope.get(BASE, ""), outside.prefix)
    origin.check(
        scope["method"],
        scope["headers"],
        listening_on_loopback=listening_on_loopback,
        allow_hosts=settings.allow_host,
        allow_origins=settings.allow_origin,
        scheme=outside.scheme or scope.get("scheme", "http"),
        seen_as=outside.host,
    )


def outside_of(scope: dict[str, Any], settings: Settings) -> forwarded.Outside:
    """What a trusted proxy says of the URL that the client used."""
    if not settings.trusted_proxies:
        return _NOTHING_SAID
    # Middleware, uvicorn's own too, may have put the client's address in place of the proxy's.
    peer = (scope.get("extensions") or {}).get("forebay.peer") or scope.get("client")
    address = peer[0] if peer else None
    return forwarded.outside(scope["headers"], address, _networks(settings.trusted_proxies))


_NOTHING_SAID = forwarded.Outside()


@functools.lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[forwarded.Network, ...]:
    return forwarded.networks(texts)
