"""Which files are compressed at rest, by the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.media_types import matches, media_type_of

if TYPE_CHECKING:
    from forebay.config import Settings


def packs(settings: Settings) -> Callable[[str], bool] | None:
    """Whether a file of that name is to be compressed; None: none is.

    By the media type that its name stands for, which is the one it is given back with; what
    a client says it is does not count.
    """
    if settings.compress_at_rest == "none":
        return None
    types = settings.compress_types
    return lambda name: matches(media_type_of(name), types)
