"""The check of Host and Origin that every route begins with (invariant 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.http import scope_keys
from forebay.http.urls import outside_of
from forebay.protocol import forwarded, origin

if TYPE_CHECKING:
    from forebay.config import Settings


def check(scope: dict[str, Any], settings: Settings, *, listening_on_loopback: bool) -> None:
    """Checks Host and Origin before anything else.

    Notes in `scope` what a trusted proxy took off the path, for the links of the answer.
    Raises HostRefused, OriginRefused, InvalidField, InvalidRequest.
    """
    outside = outside_of(scope, settings)
    if outside.prefix:
        base = scope.get(scope_keys.BASE, "")
        scope[scope_keys.PREFIX] = forwarded.prefix_before(base, outside.prefix)
    origin.check(
        scope["method"],
        scope["headers"],
        listening_on_loopback=listening_on_loopback,
        allow_hosts=settings.allow_host,
        allow_origins=settings.allow_origin,
        scheme=outside.scheme or scope.get("scheme", "http"),
        seen_as=outside.host,
    )
