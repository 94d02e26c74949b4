"""A client that shows every response, interim ones too, as it came."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from e2e.server import ServerProcess
from raw_http import Answer, Fields, RawClient, chunked, content, head

VERSIONS = (3, 4, 5, 6, 7, 8, 9)
PARTIAL = "Content-Type: application/partial-upload"
INTEGER = re.compile(r"[0-9]{1,15}")

__all__ = ["PARTIAL", "VERSIONS", "Client", "Reply", "Upload", "ask", "chunked", "content", "v"]


def v(number: int = 9) -> str:
    return f"Upload-Draft-Interop-Version: {number}"


class Reply(Answer):
    """A final response, and those before it."""

    interim: list[tuple[int, Fields]]

    @property
    def announced(self) -> str:
        """The Location of the one 104 that has one."""
        [location] = [f["location"] for s, f in self.interim if s == 104 and "location" in f]
        return location

    @property
    def limits(self) -> Mapping[str, int]:
        """Upload-Limit."""
        pairs = (entry.split("=") for entry in self.fields["upload-limit"].split(", "))
        return {key: int(value) for key, value in pairs}

    @property
    def offset(self) -> int:
        assert INTEGER.fullmatch(self.fields["upload-offset"])
        return int(self.fields["upload-offset"])

    @property
    def complete(self) -> str | None:
        return self.fields.get("upload-complete")


class Client(RawClient):
    def reply(self, method: str = "PUT") -> Reply:
        reply = Reply(*self.response(method))
        reply.interim = self.interim
        return reply

    def half(self, method: str, target: str, *fields: str, body: bytes, length: int) -> None:
        """A request whose body stops before its announced `length`."""
        self.send(head(method, target, *fields, length=length) + body)


def ask(
    server: ServerProcess, method: str, target: str, *fields: str, body: bytes | None = None
) -> Reply:
    """One request on a connection of its own."""
    with Client(server) as client:
        length = None if body is None else len(body)
        client.send(head(method, target, *fields, length=length) + (body or b""))
        return client.reply(method)


class Upload:
    """An upload that exists, and what may be asked of it."""

    def __init__(self, server: ServerProcess, location: str) -> None:
        self.server = server
        self.location = location

    @classmethod
    def begin(
        cls, server: ServerProcess, name: str = "f.bin", *fields: str, body: bytes = b""
    ) -> Upload:
        reply = ask(server, "PUT", f"/files/{name}", v(), "Upload-Complete: ?0", *fields, body=body)
        assert reply.status == 201, (reply, server.log)
        return cls(server, reply.fields["location"])

    @property
    def id(self) -> str:
        return self.location.rpartition("/")[2]

    def ask(self, method: str, *fields: str, body: bytes | None = None) -> Reply:
        return ask(self.server, method, self.location, *fields, body=body)

    def where(self, *fields: str) -> Reply:
        return self.ask("HEAD", *fields)

    def append(self, offset: int, body: bytes, *fields: str, last: bool = False) -> Reply:
        complete = f"Upload-Complete: ?{int(last)}"
        position = f"Upload-Offset: {offset}"
        return self.ask("PATCH", position, complete, PARTIAL, *fields, body=body)

    def head(self, offset: int, *fields: str, last: bool = True, length: int | None) -> bytes:
        """The head of an append; None: chunked."""
        framing = ["Transfer-Encoding: chunked"] if length is None else []
        return head(
            "PATCH",
            self.location,
            f"Upload-Offset: {offset}",
            f"Upload-Complete: ?{int(last)}",
            PARTIAL,
            *framing,
            *fields,
            length=length,
        )

    def append_chunked(self, offset: int, body: bytes, *fields: str, last: bool = False) -> Reply:
        with Client(self.server) as client:
            client.send(self.head(offset, *fields, last=last, length=None))
            with contextlib.suppress(OSError):  # refused before the end
                client.send(chunked([body]))
            return client.reply()

    def cut(self, offset: int, body: bytes, length: int, *fields: str) -> Reply:
        """An append that stops after `body`, and what the server says of it."""
        with Client(self.server) as client:
            client.send(self.head(offset, *fields, length=length) + body)
            client.half_close()
            return client.reply()

    def finish(self, whole: bytes) -> Reply:
        """Sends all of `whole` that is not there yet."""
        offset = self.where().offset
        return self.append(offset, whole[offset:], last=True)

    def stored(self, name: str = "f.bin") -> bytes:
        return Path(self.server.folder, name).read_bytes()
