"""For tests of applications: uploads and forms without a request, a `Forebay` in a temporary
folder, and a client that needs no server. It needs neither pytest nor any other package.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forebay.testing.client import Client as Client, Response as Response
    from forebay.testing.fakes import make_form as make_form, make_upload as make_upload
    from forebay.testing.folders import (
        in_temporary_folder as in_temporary_folder,
        temporary_forebay as temporary_forebay,
    )

_HOME = {
    "Client": "client",
    "Response": "client",
    "in_temporary_folder": "folders",
    "make_form": "fakes",
    "make_upload": "fakes",
    "temporary_forebay": "folders",
}

__all__ = [*_HOME]  # noqa: PLE0604, RUF100 (strings, from the table)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'forebay.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"forebay.testing.{home}"), name)
