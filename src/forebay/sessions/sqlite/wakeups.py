"""Wake-ups between the processes of one machine: each has a datagram socket in one folder.

They are best effort: a lost wake-up costs time, never correctness, because the lock on the data
file decides who writes (invariant 4). A message is an upload id and nothing else.
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
"""Most datagrams read in one turn of the event loop; the rest wakes it again."""


class Wakeups:
    """The socket of this process, and the messages to those of others.

    `join`, `ask` and `leave` use the disk: call them in one worker thread. `listen` and
    `stop_listening` are called on the event loop, after `join` and before `leave`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._name = ""
        self._folder_descriptor = -1
        self._socket: socket.socket | None = None

    def join(self) -> None:
        """Binds the socket of this process; makes the folder when it is missing.

        Raises OSError, and ConfigError when the path is too long for a socket here.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._folder_descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The process id is for people who look at the folder; the random part makes it unique.
            self._name = f"{os.getpid()}-{secrets.token_hex(8)}.sock"
            self._socket = self._bind(self._address(self._name))
        except BaseException:
            self.leave()
            raise
        self._send(b"")  # removes the sockets of dead processes; others ignore it

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
        """Sends `upload_id` to every other process. Errors of single receivers are ignored."""
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
                # One call each, so that one that raises does not stop the others.
                loop.call_soon(callback, message.decode("ascii"))

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            return
        for name in self._siblings():
            try:
                self._socket.sendto(message, self._address(name))
            except ConnectionRefusedError:  # its process is dead, and its name is never used again
                self._remove(name)
            except OSError:
                continue  # it has just left (ENOENT), or its queue is full (EAGAIN)

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
        # Addresses of sockets must be short; on Linux a path through a descriptor is.
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
