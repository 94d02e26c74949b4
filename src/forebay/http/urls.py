"""URLs: paths and queries of requests below a mount, and the links in answers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from forebay.errors import InvalidField, NotFound
from forebay.http import scope_keys
from forebay.protocol import forwarded, names

if TYPE_CHECKING:
    from forebay.config import Settings

_MAX_QUERY_FIELDS = 16
_NOT_FORWARDED = forwarded.Outside()


# --- requests ------------------------------------------------------------------------------------


def path_below(scope: dict[str, Any]) -> bytes:
    """The path below the application's mount as it was sent, still percent-encoded."""
    raw_path: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if raw_path is None:
        below = path[len(root) :] if root and path.startswith(root) else path
        return names.quote_path(below).encode()
    raw_path = raw_path.partition(b"?")[0]
    depth = root.strip("/").count("/") + 1 if root.strip("/") else 0
    parts = raw_path.split(b"/")
    mount = b"/".join(parts[: depth + 1])
    if depth and names.unescape(mount) == root.rstrip("/").encode():
        return b"/" + b"/".join(parts[depth + 1 :])
    return raw_path


def is_folder(path: bytes) -> bool:
    """Whether a path below the mount means a folder: it is empty or ends with a slash."""
    return not path or path.endswith(b"/")


def query_of(query: bytes) -> dict[str, str]:
    """Names and values, the last of each name.

    Raises NotFound for more than 16 fields and for bytes that no URL may have, InvalidField when
    `name` comes twice or is not UTF-8.
    """
    if not query:
        return {}
    pairs = query.split(b"&", _MAX_QUERY_FIELDS)
    if len(pairs) > _MAX_QUERY_FIELDS or not query.isascii():
        raise NotFound("The query cannot be read.")
    found = {}
    for pair in filter(None, pairs):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        text = names.unescape(name).decode("utf-8", "replace")
        given = names.unescape(value)
        if text == "name" and text in found:
            raise InvalidField("The query has `name` more than once.")
        try:
            found[text] = given.decode("utf-8", "strict" if text == "name" else "replace")
        except UnicodeDecodeError:
            raise InvalidField("The `name` of the query is not UTF-8.") from None
    return found


# --- links ---------------------------------------------------------------------------------------


def mount_of(scope: dict[str, Any]) -> str:
    """Where this application is mounted on this server, without a slash at its end."""
    root: str = scope.get("root_path", "")
    return names.quote_path(root.rstrip("/")) if root else ""


def uploads_mount(scope: dict[str, Any]) -> str:
    """Where resumable uploads are mounted on this server, without a slash at its end."""
    mount: str | None = scope.get(scope_keys.UPLOADS)
    return mount or mount_of(scope)


def link_base(scope: dict[str, Any]) -> str:
    """The beginning of links to this application, without a slash at its end. Includes what a
    trusted proxy took off the path.
    """
    return f"{scope.get(scope_keys.PREFIX, '')}{mount_of(scope)}"


def files_link(scope: dict[str, Any]) -> str | None:
    """The beginning of links to files, or None where no files are mounted."""
    mount: str | None = scope.get(scope_keys.FILES)
    return None if mount is None else f"{scope.get(scope_keys.PREFIX, '')}{mount}"


def upload_location(scope: dict[str, Any], settings: Settings, upload_id: str) -> bytes:
    """The Location of an upload (tus, items 45 and 54; RUFH, item 33).

    A path, which is right for every scheme and host, or a whole URL with `--absolute-location`.
    `origin_check.check` must have seen the request.
    """
    path = f"{scope.get(scope_keys.PREFIX, '')}{uploads_mount(scope)}/{upload_id}"
    if settings.absolute_location:
        host = next((v for k, v in scope["headers"] if k == b"host"), b"").decode("latin-1")
        outside = outside_of(scope, settings)
        path = outside.origin(scope.get("scheme", "http"), host) + path
    return path.encode("ascii")


def outside_of(scope: dict[str, Any], settings: Settings) -> forwarded.Outside:
    """What a trusted proxy says of the URL that the client used."""
    if not settings.trusted_proxies:
        return _NOT_FORWARDED
    # Middleware, uvicorn's own too, may have put the client's address in place of the proxy's.
    peer = (scope.get("extensions") or {}).get(scope_keys.PEER) or scope.get("client")
    address = peer[0] if peer else None
    return forwarded.outside(scope["headers"], address, _networks(settings.trusted_proxies))


@functools.lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[forwarded.Network, ...]:
    return forwarded.networks(texts)
