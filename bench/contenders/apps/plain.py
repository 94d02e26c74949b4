"""Plain ASGI: each piece that receive() gives is written in a thread. No limits, no state."""

import asyncio
import itertools
import os
from typing import Any

STORE = os.environ["STORE"]
numbers = itertools.count()


def create(name: str) -> int:
    return os.open(os.path.join(STORE, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)


async def store(receive: Any, name: str) -> None:
    file = await asyncio.to_thread(create, name)
    try:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if message.get("body"):
                await asyncio.to_thread(os.write, file, message["body"])
            more = message.get("more_body", False)
    finally:
        os.close(file)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    name = scope["path"].rpartition("/")[2] or f"upload-{next(numbers)}"
    await store(receive, name)
    await send(
        {"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})
