"""Several server processes on one listening socket.

The parent never starts a thread or an event loop, so forking is safe; it only waits, hands
signals on, and starts a new process when one dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from forebay.config import Settings
from forebay.engine.admission import Tally

logger = logging.getLogger("forebay")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_YOUNG = 2.0
"""Seconds; a process that dies younger than this is not replaced at once."""


def supervise(settings: Settings, loader: Callable[[], Settings], listener: socket.socket) -> int:
    return _Supervisor(settings, loader, listener).run()


class _Supervisor:
    def __init__(
        self, settings: Settings, loader: Callable[[], Settings], listener: socket.socket
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._listener = listener
        self._tally = Tally(settings.workers)
        self._slots: dict[int, tuple[int, float]] = {}
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        for sig in _SIGNALS:
            signal.signal(sig, self._pass_on)
        for slot in range(self._settings.workers):
            self._start(slot)
        while self._slots:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                break
            self._ended(pid, os.waitstatus_to_exitcode(status))
        return self._code

    def _start(self, slot: int) -> None:
        # Signals wait while the child has the parent's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                os._exit(self._child(slot))
            self._slots[pid] = (slot, time.monotonic())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _child(self, slot: int) -> int:
        from forebay.http.server import serve_one

        try:
            for sig in _SIGNALS:
                signal.signal(sig, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._tally.take_slot(slot)
            return serve_one(self._settings, self._loader, self._listener, self._tally)
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        except BaseException:
            logger.exception("a server process failed")
            return 1

    def _ended(self, pid: int, code: int) -> None:
        slot, since = self._slots.pop(pid)
        self._tally.clear(slot)
        if self._stopping:
            self._code = self._code or (0 if code == 0 else 1)
            return
        logger.error("server process %d ended with %d; starting another", pid, code)
        if time.monotonic() - since < _YOUNG:
            time.sleep(1)  # it may be dying of something that lasts
        if not self._stopping:
            self._start(slot)

    def _pass_on(self, sig: int, _: FrameType | None) -> None:
        if sig != signal.SIGHUP:
            self._stopping = True
        for pid in list(self._slots):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)


__all__ = ["supervise"]
