"""Writes each call of `on_complete` to a file, and hangs in the first one."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI

from forebay import Forebay, Upload

uploads = Forebay("data", durability="relaxed")
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/files", uploads.files)


@uploads.on_complete
async def complete(upload: Upload) -> None:
    with open("told", "a+") as file:
        file.write(f"{upload.id} {upload.name} {upload.path is not None}\n")
        file.flush()
        file.seek(0)
        first = len(file.readlines()) == 1
    if first:
        await asyncio.sleep(3600)


@app.post("/in")
async def take(upload: Annotated[Upload, uploads.receive(to="in/")]) -> str:
    return upload.name
