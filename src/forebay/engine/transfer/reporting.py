"""Calling `on_progress` without delaying the body that it is about."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable

from forebay.engine.transfer.progress import ProgressFeed
from forebay.hooks.base import Arrival, Hooks
from forebay.model import About

logger = logging.getLogger("forebay")

_LAST_REPORT = 5.0
"""Seconds that the last report may take before the upload goes on without it."""


@contextlib.asynccontextmanager
async def reported(
    hooks: Hooks,
    about: Arrival,
    feed: ProgressFeed | None = None,
    *,
    base: int = 0,
    now: Callable[[About], About] = lambda about: about,
) -> AsyncIterator[ProgressFeed | None]:
    """The feed for a pump in the block: `hooks.progress` is called with its reports, plus `base`.
    `now` adds to what was known of the file before.

    A slow hook misses reports in between. When the block ends well the last report was made, unless
    the hook took too long.
    """
    if not hooks.progresses:
        yield feed
        return
    feed = feed or ProgressFeed(about.length)
    calling = asyncio.ensure_future(_call_hook(hooks, about, feed, base, now))
    try:
        yield feed
        await asyncio.wait({calling}, timeout=_LAST_REPORT)
    finally:
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling


async def _call_hook(
    hooks: Hooks, about: Arrival, feed: ProgressFeed, base: int, now: Callable[[About], About]
) -> None:
    try:
        async for progress in feed:
            received = base + progress.received
            known = now(about.about)
            await hooks.progress(dataclasses.replace(about, received=received, about=known))
    except Exception:
        logger.exception("on_progress failed for %r; the upload goes on", about.name)
