"""Just enough HTTP/1.1 for a client that must cost next to nothing."""

import os
import socket
import ssl
from dataclasses import dataclass, field

from bench.job import CHUNK, Step

PIECE = 1 << 20


class RequestFailed(Exception):
    """The peer answered something other than 2xx, or did not answer."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    rest: bytes = b""

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))


class Connection:
    """One connection, reopened when the peer closed it after an answer."""

    def __init__(self, port: int, certificate: str | None, timeout: float) -> None:
        self.port, self.certificate, self.timeout = port, certificate, timeout
        self.sock: socket.socket | None = None

    def open(self) -> socket.socket:
        if self.sock is None:
            plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # With one of Python's own time-outs the socket is non-blocking: sendfile returns early.
            plain.settimeout(None)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(self.timeout))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self.timeout))
            self.sock = self._wrap(plain) if self.certificate else plain
        return self.sock

    def _wrap(self, plain: socket.socket) -> socket.socket:
        context = ssl.create_default_context(cafile=self.certificate)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def _timeval(seconds: float) -> bytes:
    return int(seconds).to_bytes(8, "little") + (0).to_bytes(8, "little")


def head(step: Step, path: str, size: int) -> bytes:
    """The bytes of a request's head; `size` is the size of the whole source."""
    lines = [f"{step.method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in step.headers]
    if step.body and step.framing != "length":
        lines.append("Transfer-Encoding: chunked")
    elif step.method != "GET":
        body = len(step.prefix) + step.body_size(size) + len(step.suffix)
        total = body if step.body else 0
        lines.append(f"Content-Length: {total}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def body_edges(step: Step, size: int) -> tuple[bytes, bytes]:
    """What goes before and after the file's own bytes. `chunks` comes from a framed file."""
    if step.framing == "one-chunk":
        return f"{size:x}\r\n".encode(), b"\r\n0\r\n\r\n"
    return step.prefix.encode(), step.suffix.encode()


def framed_size(size: int) -> int:
    """The size of a file of `size` bytes once framed in chunks of 64 KiB, end included."""
    whole, rest = divmod(size, CHUNK)
    edge = len(f"{CHUNK:x}") + 4
    return whole * (CHUNK + edge) + (rest + len(f"{rest:x}") + 4 if rest else 0) + 5


def send_file(sock: socket.socket, file: int, size: int, start: int = 0) -> None:
    """Sends `size` bytes from `start` on, and again from the file's beginning at its end."""
    length = os.fstat(file).st_size
    sent = 0
    while sent < size:
        offset = (start + sent) % length
        count = min(size - sent, length - offset)
        if isinstance(sock, ssl.SSLSocket):
            piece = os.pread(file, min(count, PIECE), offset)
            sock.sendall(piece)
            sent += len(piece)
        else:
            n = os.sendfile(sock.fileno(), file, offset, count)
            if n == 0:
                raise RequestFailed("the source file ended early")
            sent += n


def read_answer(sock: socket.socket) -> Answer:
    """Reads one final answer's head, skipping interim ones. `rest` is what came behind it."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = sock.recv(64 << 10)
            if not more:
                raise RequestFailed(f"connection closed without an answer ({data[:80]!r})")
            data += more
        block, _, data = data.partition(b"\r\n\r\n")
        lines = block.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        if status >= 200 or status == 101:
            pairs = (line.partition(":") for line in lines[1:])
            return Answer(status, {k.strip().lower(): v.strip() for k, _, v in pairs}, data)


def finish_answer(sock: socket.socket, answer: Answer) -> None:
    """Reads the body of an answer so that the connection can be used again."""
    if answer.headers.get("transfer-encoding", "").lower() == "chunked":
        while not answer.rest.endswith(b"0\r\n\r\n"):
            more = sock.recv(64 << 10)
            if not more:
                return
            answer.rest += more
        return
    left = 0 if answer.status == 204 else answer.length - len(answer.rest)
    while left > 0:
        more = sock.recv(min(left, 64 << 10))
        if not more:
            return
        answer.rest += more
        left -= len(more)
