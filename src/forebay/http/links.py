"""Where an upload is, in the words that its client can follow, also behind a proxy."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from forebay.http.files import mount_of
from forebay.protocol import forwarded

if TYPE_CHECKING:
    from forebay.config import Settings

__all__ = ["upload_location"]


def upload_location(scope: dict[str, Any], settings: Settings, upload_id: str) -> bytes:
    """The Location of an upload (tus, items 45 and 54; RUFH, item 33).

    A path, which is right whatever scheme and host the client used, unless
    `--absolute-location` asks for more. `scope` is that of a request to any part of a server,
    or to uploads mounted anywhere.
    """
    peer = scope["client"][0] if scope.get("client") else None
    trusted = _networks(settings.trusted_proxies)
    outside = forwarded.outside(scope["headers"], peer, trusted)
    mount = scope.get("forebay.uploads") or mount_of(scope)
    path = f"{outside.prefix}{mount}/{upload_id}"
    if settings.absolute_location:
        host = next((v for k, v in scope["headers"] if k == b"host"), b"").decode("latin-1")
        path = outside.origin(scope.get("scheme", "http"), host) + path
    return path.encode("ascii")


@functools.lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[forwarded.Network, ...]:
    return forwarded.networks(texts)
