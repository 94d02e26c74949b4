"""Keeps files that this process reads apart from files that clients may write (invariant 17)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from forebay.errors import ConfigError
from forebay.model import RESERVED_NAMES

__all__ = ["check_modules", "forget_working_folder", "lies_within", "may_be_uploaded"]


def lies_within(path: str, folder: str) -> bool:
    """Whether `path`, or what it links to, is in `folder` or below it."""
    root = os.path.join(os.path.realpath(folder), "")
    parent, name = os.path.split(os.path.abspath(path))
    places = (os.path.realpath(path), os.path.join(os.path.realpath(parent), name))
    return any(os.path.join(place, "").startswith(root) for place in places)


def may_be_uploaded(path: str, folder: str) -> bool:
    """Whether a client could write `path` when `folder` is served: it lies there, and its name is
    not one that is refused.
    """
    if not lies_within(path, folder):
        return False
    below = os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).split(os.sep)
    return not any(part.startswith(".") and part != "." for part in below) and (
        below[-1].lower() not in RESERVED_NAMES
    )


def forget_working_folder() -> None:
    """Removes the working folder, which `python -m` adds, from the search path of modules. If it is
    served, a client could store a file there with the name of a module that is imported later.
    """
    here = os.path.realpath(os.getcwd())
    home = os.path.realpath(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if here != home:  # otherwise this package itself is imported from there
        sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


def check_modules(folder: str, entries: Iterable[str] | None = None) -> None:
    """Raises ConfigError when clients could write in a folder where Python looks for modules.
    `entries`: the search path, None for `sys.path`.
    """
    for entry in sys.path if entries is None else entries:
        place = entry or os.getcwd()
        if os.path.isdir(place) and may_be_uploaded(place, folder) and os.access(place, os.W_OK):
            raise ConfigError(
                f"Python looks for modules in {place}, which lies in the folder to be served: "
                "clients could send programs that this server then runs. Serve another folder, "
                "such as one of its own beside it."
            )
