"""An application with the mistakes that developers make, and clients that are at the wrong door."""

from __future__ import annotations

import asyncio
import io
from typing import Annotated, Any

from fastapi import FastAPI, Request, UploadFile

from forebay import Access, Forebay, Form, Principal, Upload

told: list[tuple[str, str]] = []


def authorise(access: Access) -> Principal:
    told.append((access.action, access.name))
    return Principal("somebody")


uploads = Forebay("data", authorise=authorise, max_size="3MB", durability="relaxed")
app = FastAPI(lifespan=uploads.lifespan)
app.add_middleware(uploads.form_middleware)
uploads.install(app)


@uploads.on_progress
def progress(upload: Upload, received: int) -> None:
    told.append(("progress", f"{upload.filename} {received}"))


@app.get("/told")
async def everything_told() -> list[tuple[str, str]]:
    found = told[:]
    told.clear()
    return found


@app.post("/nowhere")
async def nowhere(upload: Annotated[Upload, uploads.receive()]) -> str | None:
    return upload.principal.id


@app.post("/in")
async def received(upload: Annotated[Upload, uploads.receive("in/", max_size="2MB")]) -> str:
    return upload.name


@app.post("/by-hand")
async def by_hand(request: Request) -> str:
    async with uploads.create_upload(request, "in/") as upload:
        await upload.body()
    return upload.name


@app.post("/twice")
async def twice(request: Request, one: Annotated[Upload, uploads.receive("in/")]) -> None:
    async with uploads.received(request, to="in/"):
        pass


@app.post("/read-before")
async def read_before(request: Request) -> None:
    await request.body()
    async with uploads.received(request, to="in/"):
        pass


@app.post("/awaits-what-it-cancelled")
async def awaits_what_it_cancelled(upload: Annotated[Upload, uploads.receive("in/")]) -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


def nothing(head: object) -> Any:
    return None


def number(head: object) -> Any:
    return 7


@app.post("/to-nothing")
async def to_nothing(upload: Annotated[Upload, uploads.receive(nothing)]) -> None: ...


@app.post("/to-number")
async def to_number(upload: Annotated[Upload, uploads.receive(number)]) -> None: ...


@app.post("/accepting-rejection")
async def accepting_rejection(request: Request) -> Any:
    async with uploads.create_upload(request, "in/") as upload:
        return await upload.reject(200, "fine")


@app.post("/auto-form")
async def auto_form(
    form: Annotated[Form, uploads.form("in/", conflict="auto")],
) -> list[str]:
    return [upload.name for upload in form.files.values()]


@app.post("/write-to-an-old-form")
async def write_to_an_old_form(file: UploadFile) -> list[str]:
    refusals = []
    for change in (file.file.truncate, lambda: file.file.write(b"x")):
        try:
            change()
        except io.UnsupportedOperation as error:
            refusals.append(type(error).__name__)
    return [*refusals, (await file.read()).decode()[:2]]


@app.post("/old-form")
async def old_form(file: UploadFile) -> int | None:
    return file.size


@app.post("/body")
async def body(request: Request) -> int:
    async with uploads.body(request.scope, request.receive) as received:
        return received.size


@app.post("/form")
async def form(form: Annotated[Form, uploads.form("in/")]) -> int:
    return len(form.files)
