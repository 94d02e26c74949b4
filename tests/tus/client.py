"""tus requests to a real server, a line each."""

from __future__ import annotations

import base64
import hashlib

from e2e.server import ServerProcess
from raw_http import Answer, RawClient, named

VERSION = "1.0.0"
STREAM = "application/offset+octet-stream"


class Reply(Answer):
    """With what this protocol reads in it."""

    @property
    def offset(self) -> int:
        return int(self.fields["upload-offset"])

    @property
    def location(self) -> str:
        return self.fields["location"]


def metadata(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    digest = hashlib.new(algorithm, data, usedforsecurity=False).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


def ask(
    server: ServerProcess,
    method: str,
    path: str = "/uploads/",
    body: bytes | None = None,
    version: str | None = VERSION,
    **fields: str | int,
) -> Reply:
    """One request; `upload_offset=5` is `Upload-Offset: 5`."""
    headers = named(fields)
    if version is not None:
        headers["Tus-Resumable"] = version
    return Reply(*server.request(method, path, body, headers))


def create(server: ServerProcess, length: int | None = None, **fields: str | int) -> str:
    """The path of a new upload; of deferred length when none is given."""
    known = {"Upload-Defer-Length": 1} if length is None else {"Upload-Length": length}
    reply = ask(server, "POST", **known, **fields)
    assert reply.status == 201, reply
    return reply.location


def patch(server: ServerProcess, path: str, offset: int, data: bytes, **fields: str | int) -> Reply:
    return ask(server, "PATCH", path, data, Upload_Offset=offset, Content_Type=STREAM, **fields)


def head(server: ServerProcess, path: str) -> Reply:
    return ask(server, "HEAD", path)


def upload(server: ServerProcess, data: bytes, **fields: str | int) -> str:
    """A whole upload; its path."""
    path = create(server, len(data), **fields)
    assert patch(server, path, 0, data).status == 204
    return path


def request_head(method: str, path: str, *fields: str) -> bytes:
    """The head of a request, for a socket."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Tus-Resumable: {VERSION}", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def patch_head(path: str, offset: int, *fields: str) -> bytes:
    return request_head(
        "PATCH", path, f"Upload-Offset: {offset}", f"Content-Type: {STREAM}", *fields
    )


def reply_of(client: RawClient) -> Reply:
    return Reply(*client.response())
