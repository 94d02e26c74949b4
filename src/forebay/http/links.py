"""Where an upload is, in the words that its client can follow, also behind a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.http import guard
from forebay.http.files import mount_of

if TYPE_CHECKING:
    from forebay.config import Settings

__all__ = ["upload_location"]


def upload_location(scope: dict[str, Any], settings: Settings, upload_id: str) -> bytes:
    """The Location of an upload (tus, items 45 and 54; RUFH, item 33).

    A path, which is right whatever scheme and host the client used, unless
    `--absolute-location` asks for more. `scope` is that of a request to any part of a server,
    or to uploads mounted anywhere, which `guard.check` has seen.
    """
    mount = scope.get("forebay.uploads") or mount_of(scope)
    path = f"{scope.get(guard.PREFIX, '')}{mount}/{upload_id}"
    if settings.absolute_location:
        host = next((v for k, v in scope["headers"] if k == b"host"), b"").decode("latin-1")
        outside = guard.outside_of(scope, settings)
        path = outside.origin(scope.get("scheme", "http"), host) + path
    return path.encode("ascii")
