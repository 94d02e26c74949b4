"""Ids of uploads."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """An id of 192 random bits (invariant 8). It never looks like an option of a command line."""
    while (made := secrets.token_urlsafe(24)).startswith("-"):
        pass
    return made
