"""Threads for callbacks that are plain functions.

A callback may hang. The pool of asyncio would be full of such ones after a few, and the process
would wait for them when it ends; this one neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

MOST = 512
"""Threads at once; a callback waits for one beyond that."""

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Threads:
    """Daemon threads, made when they are needed and used again."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._made = 0
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)` in a thread, in the context of the caller.

        When the awaiting task is cancelled, the thread goes on, and nobody hears of it.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answer: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((loop, answer, functools.partial(context.run, function, *args)))
        self._have_one()
        return await answer

    def _have_one(self) -> None:
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            if self._made >= self._most:
                return  # the first that is free takes it
            self._made += 1
        threading.Thread(target=self._work, name="forebay-callback", daemon=True).start()

    def _work(self) -> None:
        while True:
            loop, answer, job = self._jobs.get()
            value, error = None, None
            try:
                value = job()
            except BaseException as raised:
                error = raised
            # What is not kept is let go of before the next job is waited for.
            deliver = functools.partial(_deliver, answer, value, error)
            del job, value, error
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(deliver)
            del loop, answer, deliver
            self._idle.release()


def _deliver(answer: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(value)
    elif isinstance(error, StopIteration):  # no future can have it
        answer.set_exception(RuntimeError(f"the callback raised {error!r}"))
    else:
        answer.set_exception(error)


shared = Threads()
"""Those of this process."""
