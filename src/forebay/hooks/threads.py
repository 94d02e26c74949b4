"""Threads for callbacks that are plain functions.

A callback may hang. A few hanging callbacks would fill the pool of asyncio, and the process would
wait for them at exit. Neither happens here.
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
"""Most threads at once; further callbacks wait for a free one."""

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Threads:
    """Daemon threads, started when needed and reused."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._made = 0
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs `function(*args)` in a thread, in the context of the caller.

        When the awaiting task is cancelled, the thread goes on, and its result is dropped.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answer: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((loop, answer, functools.partial(context.run, function, *args)))
        self._ensure_thread()
        return await answer

    def _ensure_thread(self) -> None:
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            if self._made >= self._most:
                return  # the first free thread takes the job
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
            # Drops all references before it waits for the next job.
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
"""The threads of this process."""
