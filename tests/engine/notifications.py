"""Calling every callback that has yet to be called, now."""

from __future__ import annotations

import asyncio

from forebay.engine.outbox.notifier import Notifier


async def wait_for_calls(notifier: Notifier) -> None:
    """Returns when the calls that have begun have ended."""
    while notifier._running:
        await asyncio.wait({task for task, _ in notifier._running.values()})


async def call_all(notifier: Notifier) -> None:
    """As after a start: calls all that has to be called, and waits for that."""
    await wait_for_calls(notifier)
    notifier._everything = True
    notifier._not_before.clear()
    await notifier._call_due()
    await wait_for_calls(notifier)
