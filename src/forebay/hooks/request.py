"""The head of a request, as callbacks get it."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

PATH = "forebay.path"
"""The key in an ASGI scope for the requested path, when the scope's own path is another one."""
_MOST_PARAMETERS = 1000


class Request:
    """The head of a request, from an ASGI scope."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        """The ASGI scope, with what the framework put there (user, path parameters)."""
        self.method: str = scope.get("method", "")
        self.path: str = scope.get(PATH) or scope.get("path", "")
        self.headers: Mapping[str, str] = _joined(scope.get("headers", ()))
        """By lower-case name; several fields of one name are joined by commas."""

    @property
    def query(self) -> Mapping[str, str]:
        """The query of the URL; of several values of one name, the last."""
        raw: bytes = self.scope.get("query_string", b"")
        try:
            return dict(
                parse_qsl(
                    raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
                )
            )
        except ValueError:
            return {}

    @property
    def cookies(self) -> Mapping[str, str]:
        """By name; those that cannot be parsed are left out."""
        found: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            try:
                cookie = SimpleCookie(pair.strip())
            except CookieError:
                continue
            found.update({name: morsel.value for name, morsel in cookie.items()})
        return found

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer; None when they are not known."""
        known = self.scope.get("client")
        return (str(known[0]), int(known[1] or 0)) if known else None


def _joined(headers: Any) -> Mapping[str, str]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {
        name: ("; " if name == "cookie" else ", ").join(values) for name, values in found.items()
    }
