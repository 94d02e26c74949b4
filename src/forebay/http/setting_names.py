"""Messages of errors for applications: with names of settings instead of command-line flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forebay.errors import TooLarge, UploadError
from forebay.http import scope_keys

if TYPE_CHECKING:
    from forebay.config import Settings

_FLAG = re.compile(r"--(no-)?([a-z][a-z-]*[a-z])")
_ASIDE = re.compile(r" \([^()]*--[a-z][^()]*\)")


def with_setting_names(error: UploadError, scope: dict[str, Any]) -> UploadError:
    """The same error, changed. A limit of the route itself is not blamed on a setting."""
    settings: Settings | None = scope.get(scope_keys.SETTINGS)
    if settings is None or "--" not in error.message:
        return error
    named = {found[2].replace("-", "_") for found in _FLAG.finditer(error.message)}
    values = [getattr(settings, name) for name in named if hasattr(settings, name)]
    if isinstance(error, TooLarge) and "limit" in error.detail:
        decides = error.detail["limit"] in values
    else:
        decides = any(value not in (None, ()) for value in values)
    text = error.message if decides else _ASIDE.sub("", error.message)
    error.message = _FLAG.sub(_name, text)
    error.args = (error.message,)
    return error


def _name(flag: re.Match[str]) -> str:
    name = flag[2].replace("-", "_")
    return f"{name}=False" if flag[1] else name
