"""Several server processes on one listening socket.

The parent never starts a thread or an event loop, so forking is safe. It blocks signals and waits
for one at a time, so none is lost: it passes them on, and starts a new process when one dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time

from forebay.config import Settings, only_live_changes
from forebay.engine.transfer.admission import Tally
from forebay.errors import ForebayError
from forebay.http.process import Loader, serve_one

logger = logging.getLogger("forebay")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)
_MIN_AGE = 2.0
"""Seconds. A process that dies before this age is replaced only after one more second."""
_KILL_AFTER = 10.0
"""Seconds after `drain_timeout` until a process that has not ended is killed."""


def supervise(settings: Settings, loader: Loader, listener: socket.socket) -> int:
    """Serves with `settings.workers` processes; returns the exit code."""
    return _Supervisor(settings, loader, listener).run()


class _Supervisor:
    def __init__(self, settings: Settings, loader: Loader, listener: socket.socket) -> None:
        self._settings = settings
        self._loader = loader
        self._listener = listener
        self._tally = Tally(settings.workers)
        self._slots: dict[int, tuple[int, float]] = {}
        self._waiting: list[int] = []
        self._stopping = False
        self._ends_by = 0.0
        self._code = 0
        # Only the parent has the writing end: when it closes, the children know that it is gone.
        self._lifeline = os.pipe()

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for slot in range(self._settings.workers):
            self._start(slot)
        while self._slots or self._waiting:
            sig = signal.sigwait(_SIGNALS)
            if sig == signal.SIGCHLD:
                self._reap()
            elif sig == signal.SIGALRM:
                self._act_on_time()
            elif sig == signal.SIGHUP:
                self._reload()
            elif self._stopping:
                self._send(signal.SIGKILL)  # the second signal
                return 128 + sig
            else:
                self._stop()
        return self._code

    def _start(self, slot: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or no memory: the others go on
            logger.error("no server process could be started (%s); trying again", error.strerror)
            self._start_later(slot)
            return
        if pid == 0:
            os._exit(self._child(slot))
        self._slots[pid] = (slot, time.monotonic())

    def _child(self, slot: int) -> int:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD, signal.SIGALRM))
            reading, writing = self._lifeline
            os.close(writing)
            self._tally.take_slot(slot)
            return serve_one(self._settings, self._loader, self._listener, self._tally, reading)
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        except BaseException:
            logger.exception("a server process failed")
            return 1

    def _reap(self) -> None:
        while self._slots:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._slots:
                self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        slot, since = self._slots.pop(pid)
        self._tally.clear(slot)
        if self._stopping:
            self._code = self._code or (0 if code == 0 else 1)
            return
        logger.error("server process %d ended with %d; starting another", pid, code)
        if time.monotonic() - since < _MIN_AGE:  # the cause may last
            self._start_later(slot)
        else:
            self._start(slot)

    def _start_later(self, slot: int) -> None:
        self._waiting.append(slot)
        signal.setitimer(signal.ITIMER_REAL, 1)

    def _act_on_time(self) -> None:
        if not self._stopping:
            self._start_waiting()
        elif (left := self._ends_by - time.monotonic()) > 0:
            signal.setitimer(signal.ITIMER_REAL, left)
        else:  # stopped by a debugger, or waiting for a dead disk
            logger.error("%d server processes did not end in time; killed", len(self._slots))
            self._send(signal.SIGKILL)

    def _start_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            self._start(slot)

    def _reload(self) -> None:
        # For new processes. Those that run read the settings, and report errors, themselves.
        with contextlib.suppress(ForebayError):
            self._settings = only_live_changes(self._settings, self._loader())
        self._send(signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        self._waiting.clear()
        self._listener.close()  # else new clients would wait instead of failing
        self._send(signal.SIGTERM)
        late = self._settings.drain_timeout + _KILL_AFTER
        self._ends_by = time.monotonic() + late
        signal.setitimer(signal.ITIMER_REAL, late)

    def _send(self, sig: signal.Signals) -> None:
        for pid in self._slots:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)


__all__ = ["supervise"]
