"""An application whose state of uploads cannot be opened: it starts, and serves what it can."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from forebay import Forebay

TUS = [(b"tus-resumable", b"1.0.0"), (b"upload-length", b"5")]


async def call(
    app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None
) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *(headers or [])],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "extensions": {},
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_an_application_starts_with_a_damaged_database_and_opens_it_when_it_can(
    tmp_path: Path,
) -> None:
    """Bug: the application did not start."""
    own = tmp_path / ".forebay"
    own.mkdir()
    (own / "state.db").write_bytes(b"no database at all" * 1000)
    (tmp_path / "a.txt").write_bytes(b"old")

    async def main() -> None:
        uploads = Forebay(str(tmp_path))
        resumable = uploads.resumable
        async with uploads.lifespan():
            assert await call(uploads.files, "GET", "/a.txt") == (200, b"old")
            status, answer = await call(resumable, "POST", "/", TUS)
            assert (status, json.loads(answer)["code"]) == (503, "FB_SESSIONS_UNAVAILABLE")
            (own / "state.db").rename(own / "damaged.db")
            async with asyncio.timeout(60):
                while (await call(resumable, "POST", "/", TUS))[0] != 201:
                    await asyncio.sleep(0.1)

    asyncio.run(main())
