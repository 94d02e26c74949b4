"""Getting files back, and taking answers of several parts to pieces."""

from __future__ import annotations

import email
import email.policy

from e2e.server import ServerProcess
from raw_http import Answer, Fields, named


def parts_of(headers: Fields, body: bytes) -> list[tuple[str, str, bytes]]:
    """Type, Content-Range and bytes of each part, by the standard library's parser."""
    assert headers["content-length"] == str(len(body))
    assert "content-range" not in headers
    prefix = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    boundary = email.message_from_bytes(prefix).get_boundary()
    assert boundary is not None
    found = []
    start = body.index(b"--" + boundary.encode())
    assert start == 0
    *inner, last = body.split(b"--" + boundary.encode())[1:]
    assert last == b"--\r\n"
    for part in inner:
        fields, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        message = email.message_from_bytes(fields, policy=email.policy.HTTP)
        assert data.endswith(b"\r\n")
        found.append((message["Content-Type"], message["Content-Range"], data[:-2]))
    return found


def get(server: ServerProcess, target: str, **fields: str) -> Answer:
    return server.request("GET", target, None, named(fields))
