"""Invariant 15, once for every route: which hosts and pages may use this server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.protocol import origin

if TYPE_CHECKING:
    from forebay.config import Settings


def check(scope: dict[str, Any], settings: Settings, *, listening_on_loopback: bool) -> None:
    """Judges Host and Origin before anything else is looked at.

    Raises HostRefused, OriginRefused, InvalidField.
    """
    origin.check(
        scope["method"],
        scope["headers"],
        listening_on_loopback=listening_on_loopback,
        allow_hosts=settings.allow_host,
        allow_origins=settings.allow_origin,
        scheme=scope.get("scheme", "http"),
    )
