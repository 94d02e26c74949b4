"""The steps of a resumable upload, for routes of an application's own."""

from __future__ import annotations

from typing import Any

from forebay.hooks.request import PATH
from forebay.http import scope_keys
from forebay.http.answers import Message
from forebay.library.mounts import Places
from forebay.library.options import UploadOptions
from forebay.protocol import names
from forebay.protocol.upload_ids import validate_upload_id


async def scope_of(
    scope: dict[str, Any],
    upload_id: str | None,
    location: str | None,
    wish: UploadOptions | None,
    places: Places,
) -> dict[str, Any]:
    """The request as the application of resumable uploads would see it, were it mounted there.

    Raises what a function for `to` raises, NotFound for what can be no id.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    here = (path if path.startswith(root) else root + path).rstrip("/")
    if upload_id is not None:
        here = here.removesuffix("/" + validate_upload_id(upload_id))
    elif location is not None:
        here = scope.get("app_root_path", root).rstrip("/") + "/" + location.strip("/")
    below = "/" + upload_id if upload_id is not None else "/"
    quoted = names.quote_path(here)
    found = scope | {
        "root_path": here,
        "path": here + below,
        PATH: path,
        "raw_path": (quoted + below).encode(),
        scope_keys.UPLOADS: quoted,
        scope_keys.BASE: names.quote_path(scope.get("app_root_path", root).rstrip("/")),
    }
    files = places.path_of(places.files, scope)
    if files is not None:
        found[scope_keys.FILES] = names.quote_path(scope.get("app_root_path", root) + files)
    if wish is not None:
        found[scope_keys.DESTINATION] = await wish.destination(scope)
    return found


async def no_send(message: Message) -> None:
    raise AssertionError("steps answer with what they return")
