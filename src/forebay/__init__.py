"""Forebay receives files of any size over HTTP, in flat memory, and loses nothing.

Names are loaded when they are first used, so that importing the package costs next to
nothing. `__all__` is derived from the one table below.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forebay.version import __version__

if TYPE_CHECKING:
    from forebay.config import Settings
    from forebay.engine.body import Body
    from forebay.engine.progress import ProgressFeed
    from forebay.errors import (
        ConfigError,
        Forbidden,
        ForebayError,
        NotAuthenticated,
        UploadError,
        VerificationRefused,
    )
    from forebay.hooks.base import Access
    from forebay.library.application import Forebay
    from forebay.library.by_hand import IncomingUpload
    from forebay.library.forms import Form
    from forebay.library.upload import RequestHead, Upload
    from forebay.model import (
        GB,
        KB,
        MB,
        TB,
        Conflict,
        Digest,
        Durability,
        FileInfo,
        GiB,
        KiB,
        MiB,
        Principal,
        Progress,
        Stored,
        TiB,
    )

_HOMES = {
    "config": ("Settings",),
    "engine.body": ("Body",),
    "engine.progress": ("ProgressFeed",),
    "errors": (
        "ConfigError",
        "Forbidden",
        "ForebayError",
        "NotAuthenticated",
        "UploadError",
        "VerificationRefused",
    ),
    "hooks.base": ("Access",),
    "library.application": ("Forebay",),
    "library.by_hand": ("IncomingUpload",),
    "library.forms": ("Form",),
    "library.upload": ("RequestHead", "Upload"),
    "model": (
        "GB",
        "KB",
        "MB",
        "TB",
        "Conflict",
        "Digest",
        "Durability",
        "FileInfo",
        "GiB",
        "KiB",
        "MiB",
        "Principal",
        "Progress",
        "Stored",
        "TiB",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604, RUF100 (strings, from the table)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'forebay' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"forebay.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
