"""A client that sends parts with Content-Range."""

from __future__ import annotations

from e2e.server import ServerProcess
from raw_http import Answer, RawClient, head, named


class Reply(Answer):
    """With what this protocol reads in it."""

    @property
    def received(self) -> int:
        """Bytes that are here, going by the Range field."""
        value = self.fields.get("range")
        if value is None:
            return 0
        start, _, last = value.partition("-")
        assert start == "bytes=0"
        return int(last) + 1


def put(
    server: ServerProcess,
    target: str,
    content_range: str,
    body: bytes = b"",
    method: str = "PUT",
    **fields: str,
) -> Reply:
    more = named(fields)
    return Reply(*server.request(method, target, body, {"Content-Range": content_range, **more}))


def part(
    server: ServerProcess,
    target: str,
    body: bytes,
    start: int,
    stop: int,
    total: int | str | None = None,
    **more: str,
) -> Reply:
    """The bytes from `start` up to `stop` of `body`; its length as total when none is given."""
    total = len(body) if total is None else total
    return put(server, target, f"bytes {start}-{stop - 1}/{total}", body[start:stop], **more)


def ask(server: ServerProcess, target: str, total: int | str = "*") -> Reply:
    return put(server, target, f"bytes */{total}")


def begin_and_stall(
    server: ServerProcess, target: str, body: bytes, start: int, sent: int
) -> RawClient:
    """A request for all of `body` from `start` on that sends only up to `sent` and waits."""
    client = RawClient(server)
    size = len(body)
    field = f"Content-Range: bytes {start}-{size - 1}/{size}"
    client.send(head("PUT", target, field, length=size - start) + body[start:sent])
    return client
