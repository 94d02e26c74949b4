"""Wake-ups between the processes of one machine: a datagram socket each, in one folder.

Best effort by design: a lost wake-up costs time, never correctness, because the lock on the
data file decides who writes (invariant 4). A message is an upload id and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator

from forebay.errors import ConfigError

_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_LONGEST = 64
_NAME = re.compile(r"[0-9]+-[0-9a-f]{16}\.sock")
_ADDRESS_LIMIT = 100
"""Bytes. Linux takes 107, macOS 103."""
_TURN = 64
"""Datagrams read before the event loop does something else; the rest wakes it again."""


class Wakeups:
    """This process's place in the folder.

    `join`, `ask` and `leave` touch the disk: call them from one worker thread. `listen` and
    `stop_listening` are called on the event loop, after `join` and before `leave`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._name = ""
        self._folder_descriptor = -1
        self._socket: socket.socket | None = None

    def join(self) -> None:
        """Binds this process's socket; creates the folder if need be.

        Raises OSError, and ConfigError when the path is too long for a socket here.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._folder_descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The process id is for people who look; the random part makes it unique for ever.
            self._name = f"{os.getpid()}-{secrets.token_hex(8)}.sock"
            self._socket = self._bind(self._address(self._name))
        except BaseException:
            self.leave()
            raise
        self._send(b"")  # clears away the sockets of the dead; the living ignore it

    def leave(self) -> None:
        """Removes the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._remove(self._name)
        if self._folder_descriptor >= 0:
            os.close(self._folder_descriptor)
            self._folder_descriptor = -1

    def ask(self, upload_id: str) -> None:
        """Sends `upload_id` to every other process. Never raises for one that cannot hear."""
        message = upload_id.encode(errors="replace")
        if _ID.fullmatch(message):
            self._send(message)

    def listen(self, loop: asyncio.AbstractEventLoop, callback: Callable[[str], None]) -> None:
        """Calls `callback(upload_id)` on `loop` for every valid message."""
        assert self._socket is not None
        loop.add_reader(self._socket.fileno(), self._receive, loop, self._socket, callback)

    def stop_listening(self, loop: asyncio.AbstractEventLoop) -> None:
        """Idempotent; needed before `leave`."""
        if self._socket is not None:
            loop.remove_reader(self._socket.fileno())

    def _receive(
        self,
        loop: asyncio.AbstractEventLoop,
        receiver: socket.socket,
        callback: Callable[[str], None],
    ) -> None:
        for _ in range(_TURN):
            try:
                message, sender = receiver.recvfrom(_LONGEST + 1)  # one more shows a longer one
            except OSError:  # nothing left, or a reason to try again at the next wake-up
                return
            if _ID.fullmatch(message) and not self._is_own(sender):
                # Each in its own turn, so that one that raises does not cost the others.
                loop.call_soon(callback, message.decode("ascii"))

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            return
        for name in self._siblings():
            try:
                self._socket.sendto(message, self._address(name))
            except ConnectionRefusedError:  # bound by a process that is dead: never again used
                self._remove(name)
            except OSError:
                continue  # it left just now (ENOENT), or its queue is full (EAGAIN)

    def _siblings(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder_descriptor):
                if name != self._name and _NAME.fullmatch(name):
                    yield name

    def _is_own(self, sender: object) -> bool:
        return isinstance(sender, str) and sender.endswith("/" + self._name)

    def _address(self, name: str) -> str:
        path = os.path.join(self._folder, name)
        if len(os.fsencode(path)) <= _ADDRESS_LIMIT:
            return path
        # A socket's address is short on every system; on Linux a descriptor stands in.
        short = f"/proc/self/fd/{self._folder_descriptor}"
        if os.path.isdir(short):
            return f"{short}/{name}"
        raise ConfigError(
            f"The path {self._folder} is too long for a socket on this system;"
            f" the folder's path may have {_ADDRESS_LIMIT - len(name) - 1} bytes at most."
        )

    def _bind(self, address: str) -> socket.socket:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.bind(address)
            os.chmod(address, 0o600)
        except BaseException:
            bound.close()
            raise
        return bound

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._folder_descriptor)
