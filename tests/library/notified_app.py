"""Notes in a file what it is told of, and never gets over the first."""

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
