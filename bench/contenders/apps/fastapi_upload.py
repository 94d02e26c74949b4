"""FastAPI's UploadFile, copied to its destination in a thread."""

import asyncio
import os
import shutil

from fastapi import FastAPI, UploadFile

STORE = os.environ["STORE"]
app = FastAPI()


def copy(source: UploadFile) -> None:
    name = os.path.basename(source.filename or "upload")
    with open(os.path.join(STORE, name), "wb") as target:
        shutil.copyfileobj(source.file, target, 1 << 20)


@app.post("/upload", status_code=201)
async def upload(file: UploadFile) -> dict[str, str]:
    await asyncio.to_thread(copy, file)
    return {"name": file.filename or ""}
