"""An application that knows nothing of Forebay: it tells what it was sent."""

from __future__ import annotations

import hashlib
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("only http")
    if scope["path"] == "/early":  # an answer before the body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"early"})
        return
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        assert type(message["body"]) is bytes
        digest.update(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for digit in digest.hexdigest():
        await send({"type": "http.response.body", "body": digit.encode(), "more_body": True})
    await send({"type": "http.response.body"})
