"""Where the applications are mounted, so that the links of one can lead to the other.

Starlette and FastAPI say it in their routes. Elsewhere the application says it once
(`Forebay(files_at=..., resumable_at=...)`); what is not known is not linked to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from forebay.http import scope_keys
from forebay.http.answers import Receive, Send, answer_error, send_answer
from forebay.http.bypass import WatchedReceive
from forebay.http.cors import CorsSend
from forebay.library import in_litestar
from forebay.library.calls import answers_itself
from forebay.library.foreign import answer_of
from forebay.protocol import names

Serve = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Mounted:
    """An ASGI application that finds itself at any place, behind any proxy."""

    def __init__(
        self, serve: Serve, places: Places, allow_origins: Callable[[], Collection[str]] = tuple
    ) -> None:
        self._serve = serve
        self._places = places
        self._allow_origins = allow_origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # Any: each framework has types of its own for the three.
        if scope["type"] != "http":
            raise RuntimeError(f"Forebay serves http, not {scope['type']}.")
        found = self._places.arrange(scope, self)
        if "litestar_app" in scope and in_litestar.codes_parts(scope):
            found = in_litestar.without_range(found)
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
                # An application's own 500 could not be read by the pages that we allow.
                await send_answer(leaving, answer_error(error, scope))
            raise  # for the application and its server to see, as Starlette does it


class Places:
    """Where `files` and `resumable` are, as paths within the application, as `/files`."""

    def __init__(self, files_at: str | None, resumable_at: str | None) -> None:
        self._files_at, self._resumable_at = _clean(files_at), _clean(resumable_at)
        self.files: Mounted | None = None
        self.resumable: Mounted | None = None
        self._app: object = None
        self._found: dict[int, str | None] = {}

    def of_application(self, app: object) -> None:
        """The outermost application, when a framework tells it."""
        self._app = app
        self._found.clear()

    @property
    def knows_resumable(self) -> bool:
        """Whether the application said where resumable uploads are."""
        return self._resumable_at is not None

    def set(self, mounted: object, path: str) -> None:
        if mounted is self.files:
            self._files_at = _clean(path)
        elif mounted is self.resumable:
            self._resumable_at = _clean(path)

    def path_of(self, mounted: Mounted | None, scope: dict[str, Any]) -> str | None:
        given = self._files_at if mounted is self.files else self._resumable_at
        if given is not None or mounted is None:
            return given
        if id(mounted) not in self._found:
            app = self._app or scope.get("app")
            self._found[id(mounted)] = find_mount(app, mounted)
        return self._found[id(mounted)]

    def arrange(self, scope: dict[str, Any], mounted: Mounted) -> dict[str, Any]:
        """The scope with `root_path` and paths as ASGI has them, and what links need."""
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
    """The whole path of the mount, and what comes below it, still percent-encoded.

    A proxy may have taken the front of the path away, and some frameworks take the mount away
    without saying so in `root_path`.
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
    """What comes after `mount` in a path as it was sent; None when it is not there."""
    depth = mount.strip("/").count("/") + 1
    parts = raw.split(b"/")
    if names.unescape(b"/".join(parts[: depth + 1])) != mount.encode("utf-8", "surrogateescape"):
        return None
    return b"/" + b"/".join(parts[depth + 1 :])


def find_mount(app: object, target: object) -> str | None:
    """The path of `target` among the mounts of a Starlette application, however deep.

    None when it is not there, or under a path with parameters.
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
