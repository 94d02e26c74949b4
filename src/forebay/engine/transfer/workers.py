"""Threads that do what may wait for a disk, so that the event loop never does (invariant 9).

A hop to a thread and back costs tens of microseconds, most of it in waking. So jobs handed
over in one turn of the loop may travel together, and answers that are ready together come
back in one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_BATCH = 16


class _Job(Generic[T]):
    __slots__ = ("args", "call", "error", "finished", "future", "result", "undo", "waiter")

    def __init__(
        self,
        future: asyncio.Future[T],
        call: Callable[..., T],
        args: tuple[Any, ...],
        undo: Callable[[T], object] | None,
    ) -> None:
        self.future = future
        self.call = call
        self.args = args
        self.undo = undo
        self.finished = False
        self.result: T
        self.error: BaseException | None = None
        self.waiter: asyncio.Future[None] | None = None

    def execute(self) -> None:
        try:
            self.result = self.call(*self.args)
        except StopIteration as error:  # a future takes none: it would end a coroutine
            self.error = RuntimeError("a job raised StopIteration")
            self.error.__cause__ = error
        except BaseException as error:  # delivered to whoever waits
            self.error = error


class Beside:
    """A short piece of work that another thread does meanwhile, if one is free.

    `wait` does it itself when nobody has begun, so waiting never depends on a free thread.
    """

    __slots__ = ("_args", "_begun", "_call", "_done", "_error")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._call = call
        self._args = args
        self._begun = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def execute(self) -> None:
        if self._begun.acquire(blocking=False):
            try:
                self._call(*self._args)
            except BaseException as error:  # raised where it is waited for
                self._error = error
            finally:
                self._args = ()
                self._done.release()

    def wait(self) -> None:
        self.execute()
        self._done.acquire()
        self._done.release()
        if self._error is not None:
            raise self._error


class Workers:
    """A pool of daemon threads, started as they are needed, for one event loop.

    Args:
        threads: most threads at once; 0 chooses four a core, at least 8, at most 32.
        buffer_size: bytes of the receive buffers that `buffer()` lends.
    """

    def __init__(self, threads: int = 0, buffer_size: int = 1 << 20) -> None:
        self.limit = threads or max(8, min(32, 4 * (os.cpu_count() or 2)))
        self.buffer_size = buffer_size
        self._queue: SimpleQueue[list[_Job[Any]] | Beside | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._started: list[threading.Thread] = []
        self._busy = 0
        self._closed = False
        self._together: list[_Job[Any]] = []
        self._finished: deque[_Job[Any]] = deque()
        self._waking = False
        self._alone = asyncio.Lock()
        self._buffers: list[bytearray] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- on the event loop -------------------------------------------------------------------

    async def run(
        self,
        call: Callable[..., T],
        *args: Any,
        undo: Callable[[T], object] | None = None,
        stop: Callable[[], object] | None = None,
        together: bool = False,
    ) -> T:
        """`call(*args)` in a thread.

        When the awaiting task is cancelled, `stop()` is called (on the loop) and the job is
        waited for all the same: what it uses must not be closed under it. A result nobody
        takes any more is handed to `undo` (in a thread).

        With `together` the job may share a thread with others of the same turn of the loop:
        for short ones.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_loop(loop)
        job: _Job[T] = _Job(loop.create_future(), call, args, undo)
        if together:
            if not self._together:
                loop.call_soon(self._send_together)
            self._together.append(job)
        else:
            self._send([job])
        try:
            return await job.future
        except asyncio.CancelledError:
            if not job.finished:
                if stop is not None:
                    stop()
                await self._outlive(job)
            elif not job.future.cancelled():
                self._undo(job)  # its result was on its way when the task was cancelled
            raise
        finally:
            if job.finished:
                # An error's traceback leads to frames that hold the job: no cycle stays.
                job.error = None
                del job.future

    def _begin_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """What was on its way to an earlier loop, which is closed, holds nobody up here."""
        self._loop = loop
        self._waking = False
        self._alone = asyncio.Lock()
        self._together = []
        self._finished.clear()

    def alone(self) -> asyncio.Lock:
        """Held around short jobs that compute all the time: one of them runs at a time, in their
        order. Threads that compute take turns of the interpreter with the event loop,
        and with everybody else; so there must never be many.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_loop(loop)
        return self._alone

    async def _outlive(self, job: _Job[Any]) -> None:
        assert self._loop is not None
        while not job.finished:
            job.waiter = self._loop.create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await job.waiter

    def _send_together(self) -> None:
        jobs, self._together = self._together, []
        share = max(_BATCH, -(-len(jobs) // self.limit))
        for start in range(0, len(jobs), share):
            batch = jobs[start : start + share]
            try:
                self._send(batch)
            except RuntimeError as error:  # closed meanwhile, or no thread to be had
                for job in batch:
                    job.error = error
                self._finished.extend(batch)
                self._deliver()

    def _undo(self, job: _Job[Any]) -> None:
        """Hands a result that nobody takes to the job's `undo`."""
        if job.error is not None or job.undo is None:
            return
        undo = _Job(job.future, job.undo, (job.result,), None)
        try:
            self._send([undo])
        except RuntimeError:  # closed; the result is still ours to put away
            undo.execute()

    def _send(self, jobs: list[_Job[Any]] | Beside) -> None:
        if self._closed:
            raise RuntimeError("the workers are closed")
        with self._lock:
            self._busy += 1
            start = self._busy > self._threads and self._threads < self.limit
            if start:
                self._threads += 1
        if start:
            self._start_thread()
        self._queue.put(jobs)

    def _start_thread(self) -> None:
        """Raises RuntimeError when there is no thread to be had and none is there."""
        thread = threading.Thread(target=self._work, name="forebay-worker", daemon=True)
        try:
            thread.start()
            self._started.append(thread)
        except RuntimeError:
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    self._busy -= 1
                    raise

    def _deliver(self) -> None:
        self._waking = False
        finished = self._finished
        while finished:
            job = finished.popleft()
            job.finished = True
            if job.waiter is not None and not job.waiter.done():
                job.waiter.set_result(None)
            if job.future.done():  # nobody waits any more
                self._undo(job)
            elif job.future.get_loop() is not self._loop:  # one that is closed
                continue
            elif job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # --- in the threads ----------------------------------------------------------------------

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """A frame of its own: an idle thread must not hold on to what it did last."""
        jobs = self._queue.get()
        if jobs is None:
            return False
        if isinstance(jobs, Beside):
            jobs.execute()
            with self._lock:
                self._busy -= 1
            return True
        for job in jobs:
            job.execute()
        with self._lock:
            self._busy -= 1
        self._finished.extend(jobs)
        if not self._waking and self._loop is not None:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._deliver)
        return True

    def beside(self, call: Callable[..., object], *args: Any) -> Beside:
        """From inside a job: has `call(*args)` done by another thread; `wait` for it."""
        work = Beside(call, args)
        if not self.crowded:
            with contextlib.suppress(RuntimeError):  # closed: whoever waits does it
                self._send(work)
        return work

    @property
    def crowded(self) -> bool:
        """More jobs than threads: a thread should not linger over one client."""
        return self._busy >= self.limit

    @contextlib.contextmanager
    def _lend(self, buffer: bytearray) -> Any:
        try:
            yield buffer
        finally:
            self._buffers.append(buffer)

    def buffer(self) -> contextlib.AbstractContextManager[bytearray]:
        """Lends a buffer, the one used last first: one upload keeps touching the same one.

        For use inside a job. There are never more of them than running jobs use at once.
        """
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(self.buffer_size)
        return self._lend(buffer)

    def close(self) -> None:
        """Lets the threads end when they have done what is queued. Does not wait."""
        self._closed = True
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def join(self, seconds: float) -> None:
        """After `close`: waits for the threads, whose jobs may use what is to be closed next.

        Not for the event loop, nor for longer than `seconds`: a disk may never answer.
        """
        until = time.monotonic() + seconds
        for thread in self._started:
            thread.join(max(0.0, until - time.monotonic()))
