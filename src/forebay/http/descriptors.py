"""The limit of file descriptors: raised at the start, with a warning where it is too low."""

from __future__ import annotations

import logging
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.config import Settings

logger = logging.getLogger("forebay")

MOST = 1 << 16
"""The soft limit is raised to this at most, or to what `--max-uploads` needs."""
OF_AN_UPLOAD = 3
"""The connection, its duplicate that a thread reads from, and the file."""
OTHERS = 128
"""For everything but uploads."""


def needed(settings: Settings) -> int:
    """Descriptors that a process needs when it has all uploads."""
    return OF_AN_UPLOAD * settings.max_uploads + OTHERS


def raise_limit(settings: Settings) -> None:
    """Raises the soft limit towards the hard one; logs a warning where that is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = max(MOST, needed(settings))
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError) as error:
            logger.warning("the limit of open files cannot be raised: %s", error)
    if soft < needed(settings):
        logger.warning(
            "%d open files are allowed, and --max-uploads %d may need %d: raise the hard limit "
            "(ulimit -Hn, LimitNOFILE), or lower --max-uploads to %d",
            soft,
            settings.max_uploads,
            needed(settings),
            max(1, (soft - OTHERS) // OF_AN_UPLOAD),
        )
