"""Forebay receives files of any size over HTTP, in flat memory, and loses nothing.

Names are loaded when they are first used, so that importing the package costs next to
nothing. `__all__` is derived from the one table below.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forebay.version import __version__ as __version__

if TYPE_CHECKING:  # `as` says to type checkers that the name is exported
    from forebay.config import Settings as Settings
    from forebay.engine.bodies.body import Body as Body
    from forebay.engine.transfer.progress import ProgressFeed as ProgressFeed
    from forebay.errors import (
        ConfigError as ConfigError,
        Forbidden as Forbidden,
        ForebayError as ForebayError,
        InvalidForm as InvalidForm,
        MissingField as MissingField,
        HookFailed as HookFailed,
        NotAuthenticated as NotAuthenticated,
        NotFound as NotFound,
        UploadError as UploadError,
        VerificationRefused as VerificationRefused,
    )
    from forebay.hooks.base import Access as Access
    from forebay.library.application import Forebay as Forebay
    from forebay.library.manual import IncomingUpload as IncomingUpload
    from forebay.library.contents import FilePage as FilePage, UnfinishedUpload as UnfinishedUpload
    from forebay.library.forms import Form as Form
    from forebay.library.upload import RequestHead as RequestHead, Upload as Upload
    from forebay.model import (
        GB as GB,
        KB as KB,
        MB as MB,
        TB as TB,
        Conflict as Conflict,
        Digest as Digest,
        Durability as Durability,
        FileInfo as FileInfo,
        GiB as GiB,
        KiB as KiB,
        MiB as MiB,
        Principal as Principal,
        Progress as Progress,
        Stored as Stored,
        TiB as TiB,
    )

_HOMES = {
    "config": ("Settings",),
    "engine.bodies.body": ("Body",),
    "engine.transfer.progress": ("ProgressFeed",),
    "errors": (
        "ConfigError",
        "Forbidden",
        "ForebayError",
        "InvalidForm",
        "MissingField",
        "HookFailed",
        "NotAuthenticated",
        "NotFound",
        "UploadError",
        "VerificationRefused",
    ),
    "hooks.base": ("Access",),
    "library.application": ("Forebay",),
    "library.manual": ("IncomingUpload",),
    "library.contents": ("FilePage", "UnfinishedUpload"),
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
