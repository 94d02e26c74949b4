"""The mountable applications, and where they are mounted, so that one can link to the other.

With Starlette and FastAPI the mounts are found in the routes. Elsewhere the application names
them (`Forebay(files_at=..., resumable_at=...)`). Nothing links to a mount that is not known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from forebay.http import scope_keys
from forebay.http.answers import Receive, Send, answer_error, send_answer
from forebay.http.bypass import WatchedReceive
from forebay.http.cors import CorsSend
from forebay.library import litestar
from forebay.library.framework_errors import answer_of, answers_itself
from forebay.protocol import names

Serve = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Mounted:
    """An ASGI application that works at any mount, also behind a proxy that rewrites paths.

    `serve` gets the scope with the paths that ASGI asks for; `allow_origins`: the origins whose
    pages may read every answer, also a 500.
    """

    def __init__(
        self, serve: Serve, places: Places, allow_origins: Callable[[], Collection[str]] = tuple
    ) -> None:
        self._serve = serve
        self._places = places
        self._allow_origins = allow_origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # Any: each framework has its own types for these.
        if scope["type"] != "http":
            raise RuntimeError(f"Forebay serves http, not {scope['type']}.")
        found = self._places.arrange(scope, self)
        if "litestar_app" in scope and litestar.compresses_parts(scope):
            found = litestar.without_range(found)
        entering = WatchedReceive(receive)
        leaving = CorsSend(send, scope.get("headers", ()), self._allow_origins())
        try:
            await self._serve(found, entering, leaving)
        except Exception as error:
            if leaving.started:
                raise
            reply = answer_of(error, scope)
            if reply is not None:
                await reply(scope, receive, leaving)
                return
            if error is not entering.raised and not answers_itself(scope, error):
                # The framework's own 500 has no CORS fields, so allowed pages could not read it.
                await send_answer(leaving, answer_error(error, scope))
            raise  # the application and its server see it too, as in Starlette


class Places:
    """The paths of `files` and `resumable` within the application, such as `/files`."""

    def __init__(self, files_at: str | None, resumable_at: str | None) -> None:
        self._files_at, self._resumable_at = _clean(files_at), _clean(resumable_at)
        self.files: Mounted | None = None
        self.resumable: Mounted | None = None
        self._app: object = None
        self._found: dict[int, str | None] = {}

    def of_application(self, app: object) -> None:
        """Sets the outermost application, whose routes are searched for mounts."""
        self._app = app
        self._found.clear()

    @property
    def knows_resumable(self) -> bool:
        """Whether the application named the mount of resumable uploads."""
        return self._resumable_at is not None

    def set(self, mounted: object, path: str) -> None:
        """Names the mount of `files` or `resumable`; anything else is ignored."""
        if mounted is self.files:
            self._files_at = _clean(path)
        elif mounted is self.resumable:
            self._resumable_at = _clean(path)

    def path_of(self, mounted: Mounted | None, scope: dict[str, Any]) -> str | None:
        """The path of a mount, as named or as found in the routes; None when it is not known."""
        given = self._files_at if mounted is self.files else self._resumable_at
        if given is not None or mounted is None:
            return given
        if id(mounted) not in self._found:
            app = self._app or scope.get("app")
            self._found[id(mounted)] = find_mount(app, mounted)
        return self._found[id(mounted)]

    def arrange(self, scope: dict[str, Any], mounted: Mounted) -> dict[str, Any]:
        """The scope with `root_path`, `path` and `raw_path` as ASGI defines them, and with the
        bases of links.
        """
        own = self.path_of(mounted, scope)
        root, below = split_at_mount(scope, own)
        base = scope.get("app_root_path", "")
        if own is not None and root.endswith(own):
            base = root[: len(root) - len(own)]
        found = scope | {
            "root_path": root,
            "path": root + names.unescape(below).decode("utf-8", "surrogateescape"),
            "raw_path": names.quote_path(root).encode() + below,
            scope_keys.BASE: names.quote_path(base),
        }
        for key, other in ((scope_keys.FILES, self.files), (scope_keys.UPLOADS, self.resumable)):
            path = root if other is mounted else self.path_of(other, scope)
            if path is not None:
                found[key] = names.quote_path(path if other is mounted else base + path)
        return found


def split_at_mount(scope: dict[str, Any], own: str | None) -> tuple[str, bytes]:
    """The whole path of the mount, and the rest of the path below it, still percent-encoded.

    A proxy may have removed the first part of the path, and some frameworks remove the mount from
    `path` without adding it to `root_path`.
    """
    root = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    raw = names.quote_path(path).encode() if raw is None else raw.partition(b"?")[0]
    for mount in (root, root.removeprefix(scope.get("app_root_path", ""))):
        below = _below(raw, mount) if mount else None
        if below is not None:
            return root, below
    if own is not None:
        below = _below(raw, own)
        if below is not None:
            return (root if root.endswith(own) else root + own), below
    whole = names.unescape(raw).decode("utf-8", "surrogateescape")
    rest = path.rstrip("/")
    if whole.rstrip("/").endswith(rest) and len(whole.rstrip("/")) > len(rest):
        mount = whole.rstrip("/")[: len(whole.rstrip("/")) - len(rest)]
        below = _below(raw, mount)
        if below is not None:
            return root + mount, below
    return root, raw


def _below(raw: bytes, mount: str) -> bytes | None:
    """The part of a percent-encoded path after `mount`; None when it is not below `mount`."""
    depth = mount.strip("/").count("/") + 1
    parts = raw.split(b"/")
    if names.unescape(b"/".join(parts[: depth + 1])) != mount.encode("utf-8", "surrogateescape"):
        return None
    return b"/" + b"/".join(parts[depth + 1 :])


def find_mount(app: object, target: object) -> str | None:
    """The path of `target` among the mounts of a Starlette application, at any depth.

    None when it is not mounted, or only below a path with parameters.
    """
    for route in getattr(app, "routes", None) or ():
        inner = getattr(route, "_base_app", None) or getattr(route, "app", None)
        path = getattr(route, "path", "")
        if not isinstance(path, str) or "{" in path or inner is None:
            continue
        if inner is target:
            return path.rstrip("/")
        deeper = find_mount(inner, target)
        if deeper is not None:
            return path.rstrip("/") + deeper
    return None


def _clean(path: str | None) -> str | None:
    return None if path is None else "/" + path.strip("/") if path.strip("/") else ""
