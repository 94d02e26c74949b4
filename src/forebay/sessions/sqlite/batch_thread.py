"""A thread that performs all queued operations at once, so that no database call blocks the loop.

    event loop                          the thread
    submit, submit, submit  ──one list──▶  perform([a, b, c])     one transaction
    futures resolved        ◀──one call──  [result, error, ...]   one wake-up

While one batch runs, the next one is collected. So the load decides the size of a batch: one
operation when idle, hundreds when the disk is the bottleneck.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from forebay.errors import SessionsUnavailable
from forebay.sessions.records import not_open

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Runs in the thread, and is given the connection."""
_Job = tuple[Operation[Any], "asyncio.Future[Any]"]

_MAX_PENDING = 16_384
"""Most operations that may wait or run; more are refused, so that a stuck disk costs no memory."""
_EXIT_WAIT = 15.0
"""Seconds that an exiting interpreter waits for pending operations; longer than the time-out of a
busy database.
"""


class Worker(Protocol):
    """Performs the operations of a `BatchThread`. All methods run in its thread."""

    def open(self) -> None:
        """Raises an error of `forebay.errors`; only `close` is called after that."""
        ...

    def perform(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        """An outcome for each operation, in order: its result, or an Exception to raise."""
        ...

    def close(self) -> None: ...


class BatchThread:
    """One worker with its thread and queue. Used on the event loop that made it.

    A submitted operation is performed even when nothing awaits it any more.
    """

    def __init__(self, name: str, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._gathered: list[_Job] = []
        self._pending = 0
        self._accepting = False
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon thread, so that an application that forgets `close` can exit; `_at_exit` makes
        # sure that its last operations are committed.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._process = os.getpid()

    async def start(self) -> None:
        """Starts the thread and opens the worker. Raises what its `open` raises."""
        atexit.register(self._at_exit)
        self._thread.start()
        self._accepting = True
        await asyncio.shield(self._started)

    async def stop(self) -> None:
        """Performs what is queued, closes the worker, ends the thread. Idempotent."""
        self._finish()
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
        atexit.unregister(self._at_exit)

    def _finish(self) -> None:
        if self._accepting:
            self._accepting = False
            self._hand_over()
            self._queue.put(None)

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queues an operation. Raises SessionsUnavailable when closed or overrun."""
        if not self._accepting:
            raise not_open()
        if self._pending >= _MAX_PENDING:
            raise SessionsUnavailable(
                "The upload state cannot keep up; try again soon.", retry_after=1
            )
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._gathered:
            # One wake-up of the thread for all that one turn of the loop submits.
            self._loop.call_soon(self._hand_over)
        self._gathered.append((operation, future))
        self._pending += 1
        return future

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _resolve(self, futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[Any]) -> None:
        self._pending -= len(futures)
        for future, outcome in zip(futures, outcomes, strict=True):
            _resolve(future, outcome)

    # --- in the thread ---

    def _run(self) -> None:
        try:
            self._worker.open()
        except Exception as error:
            self._worker.close()
            self._post(_resolve, self._ended, None)
            self._post(_resolve, self._started, error)
            return
        self._post(_resolve, self._started, None)
        try:
            more = True
            while more:
                jobs, more = self._take()
                if jobs:
                    self._perform(jobs)
        finally:
            self._worker.close()
            self._post(_resolve, self._ended, None)

    def _take(self) -> tuple[list[_Job], bool]:
        """All that is queued, waiting for one entry at least; and whether more may follow."""
        jobs: list[_Job] = []
        entry = self._queue.get()
        while entry is not None:
            jobs += entry
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _perform(self, jobs: list[_Job]) -> None:
        outcomes: Sequence[Any]
        try:
            outcomes = self._worker.perform([operation for operation, _ in jobs])
        except Exception as error:  # a bug in the worker fails its batch, not the thread
            outcomes = [error] * len(jobs)
        self._post(self._resolve, [future for _, future in jobs], outcomes)

    def _post(self, callback: Callable[..., object], *arguments: object) -> None:
        # The loop may be closed by now; then nothing waits for the result.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    # --- without its loop ---

    def close_now(self) -> None:
        """As `stop`, without the event loop, which may be closed. Waits for the thread, at most
        `_EXIT_WAIT` seconds. Idempotent.
        """
        self._finish()
        if self._thread.ident is not None:
            self._thread.join(_EXIT_WAIT)
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        """The application forgot to close: commits what is pending and ends the thread."""
        if os.getpid() == self._process:  # in a forked child, the thread is the parent's
            self.close_now()


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # its awaiter was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
