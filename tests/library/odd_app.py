"""Handlers as applications really have them: some raise, hang, or never look at the body."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, UploadFile
from fastapi import Form as FormField
from pydantic import BaseModel

from forebay import (
    Forbidden,
    Forebay,
    Form,
    RequestHead,
    Upload,
    UploadError,
    VerificationRefused,
)
from forebay.errors import NameTaken

uploads = Forebay(
    "data",
    max_size=int(os.environ.get("MAX_SIZE", "4000000000")),
    body_timeout=float(os.environ.get("BODY_TIMEOUT", "60")),
    durability="relaxed",
    decode_request=True,
)
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/way/down/resumable", uploads.resumable)
app.mount("/files", uploads.files)
app.add_middleware(uploads.form_middleware)
told: list[dict[str, Any]] = []
left_alone: list[object] = []


@uploads.on_verify
async def verify(upload: Upload) -> None:
    note("verify", upload)
    async for piece in upload:
        if piece.startswith(b"virus"):
            raise VerificationRefused("It is ill.")


@uploads.on_complete
def complete(upload: Upload) -> None:
    time.sleep(0.01)  # a plain function may wait: it runs in a thread
    note("complete", upload)


@uploads.on_progress
async def progress(upload: Upload, received: int) -> None:
    note("progress", upload, received=received, length=upload.length)


def note(what: str, upload: Upload, **more: Any) -> None:
    seen = {"what": what, "id": upload.id, "name": upload.name, "path": upload.path}
    told.append({**seen, "size": upload.size, **more})


@app.get("/told")
async def everything_told() -> list[dict[str, Any]]:
    found = told[:]
    told.clear()
    return found


def describe(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "name": upload.name,
        "path": upload.path,
        "filename": upload.filename,
        "size": upload.size,
        "digest": upload.digest,
        "renamed": upload.renamed,
    }


In = Annotated[Upload, uploads.receive(to="in/", digest="sha256")]


@app.post("/in")
def plain(upload: In) -> dict[str, Any]:
    """A plain handler runs in a thread."""
    with upload.open() as file:
        assert len(file.read(10)) <= 10
    return describe(upload)


@app.post("/raises")
async def raises(upload: In) -> None:
    raise HTTPException(409, "no")


@app.post("/breaks")
async def breaks(upload: In) -> None:
    raise RuntimeError("a mistake")


@app.post("/wrong-answer")
async def wrong_answer(upload: In) -> int:
    return "not a number"  # type: ignore[return-value]


@app.post("/changed-and-raises")
async def changed_and_raises(upload: In) -> None:
    assert upload.path is not None
    os.unlink(upload.path)
    with open(upload.path, "wb") as file:
        file.write(b"somebody else's")
    raise HTTPException(409, "no")


@app.post("/replace-and-raise")
async def replace_and_raise(
    upload: Annotated[Upload, uploads.receive(to="in/same.bin", conflict="replace")],
) -> None:
    raise HTTPException(409, "no")


@app.post("/hangs")
async def hangs(upload: In) -> None:
    await asyncio.sleep(3600)


@app.post("/needs-a-number")
async def needs_a_number(upload: In, number: int) -> dict[str, Any]:
    return describe(upload)


def authorised(request: Request) -> str:
    if request.headers.get("authorization") != "Bearer mine":
        raise HTTPException(401, "who?")
    return "me"


@app.post("/guarded", dependencies=[Depends(authorised)])
async def guarded(upload: In) -> dict[str, Any]:
    return describe(upload)


def own_folder(head: RequestHead) -> str:
    user = head.headers.get("x-user", "")
    if not user:
        raise Forbidden("Say who you are.")
    return f"users/{user}/"


@app.post("/own")
async def own(upload: Annotated[Upload, uploads.receive(to=own_folder)]) -> dict[str, Any]:
    return describe(upload)


@app.post("/exact")
async def exact(upload: Annotated[Upload, uploads.receive(to="in/one.bin")]) -> dict[str, Any]:
    return describe(upload)


@app.post("/nowhere")
async def nowhere(upload: Annotated[Upload, uploads.receive(digest="sha256")]) -> dict[str, Any]:
    return {**describe(upload), "length": len(await upload.read())}


@app.post("/moved/{folder}")
async def moved(
    folder: str, upload: Annotated[Upload, uploads.receive(max_size=3_000_000)]
) -> dict[str, Any]:
    try:
        await upload.move_to(f"{folder}/")
    except NameTaken:
        await upload.move_to(f"{folder}/", conflict="rename")
    return describe(upload)


@app.post("/unread")
async def unread(request: Request) -> dict[str, str]:
    async with uploads.create_upload(request, "in/") as upload:
        return {"name": upload.name}


@app.post("/half-read")
async def half_read(request: Request) -> dict[str, int]:
    async with uploads.create_upload(request, "in/") as upload:
        async for received in upload.stream():
            if received:
                return {"received": received}
    return {}


@app.post("/left/{way}")
async def left(request: Request, way: str) -> dict[str, Any]:
    async with uploads.create_upload(request, "in/") as upload:
        try:
            if way == "stream":
                async for _ in upload.stream():
                    break
            elif way == "chunks":
                async for _ in upload.chunks():
                    break
            elif way == "closed":
                reports = upload.stream()
                await anext(reports)
                await reports.aclose()  # type: ignore[attr-defined]
            elif way == "twice":
                async for _ in upload.stream():
                    break
                await upload.body()
            elif way == "task":
                left_alone.append(asyncio.ensure_future(upload.body()))
            elif way == "published":
                await upload.publish()
        except UploadError:
            pass  # and a success is told all the same
    return describe(upload)


@app.post("/swallowed")
async def swallowed(request: Request) -> dict[str, Any]:
    async with uploads.create_upload(request, "in/", max_size=1000) as upload:
        with contextlib.suppress(UploadError):
            await upload.body()
    return describe(upload)


@app.post("/nowhere-by-hand")
async def nowhere_by_hand(request: Request) -> dict[str, Any]:
    async with uploads.create_upload(request, uploads.options(digest="sha256")) as upload:
        await upload.body()
        return {**describe(upload), "length": len(await upload.read())}


@app.post("/moved-by-hand/{folder}")
async def moved_by_hand(request: Request, folder: str) -> dict[str, Any]:
    async with uploads.create_upload(request, uploads.options()) as upload:
        async for _ in upload.stream():
            pass
        with contextlib.suppress(UploadError):
            await upload.publish()  # where to?
        assert upload.path is None
        try:
            await upload.move_to(f"{folder}/")
        except NameTaken:
            await upload.move_to(f"{folder}/", conflict="rename")
    return describe(upload)


@app.post("/raises-when-moved")
async def raises_when_moved(request: Request) -> None:
    async with uploads.create_upload(request, None) as upload:
        await upload.body()
        await upload.move_to("kept.bin")
        raise HTTPException(409, "no")


@app.post("/raises-by-hand")
async def raises_by_hand(request: Request) -> None:
    async with uploads.create_upload(request, "in/") as upload:
        await upload.body()
        raise HTTPException(409, "no")


@app.post("/hangs-by-hand")
async def hangs_by_hand(request: Request) -> None:
    async with uploads.create_upload(request, "in/"):
        await asyncio.sleep(3600)


@app.post("/pieces")
async def pieces(request: Request) -> dict[str, Any]:
    found = []
    async with uploads.create_upload(request, "in/") as upload:
        async for piece in upload.chunks():
            found.append(piece)
    with upload.open() as file:
        assert file.read() == b"".join(found)
    return describe(upload)


@app.post("/chunks")
async def chunks(request: Request) -> dict[str, Any]:
    from hashlib import sha256

    digest, largest = sha256(), 0
    async with uploads.create_upload(request, "in/", digest="sha256") as upload:
        async for piece in upload.chunks():
            digest.update(piece)
            largest = max(largest, len(piece))
    assert upload.digest == digest.hexdigest()
    return {**describe(upload), "largest": largest}


@app.post("/looked-at")
async def looked_at(request: Request) -> Any:
    async with uploads.create_upload(request, "in/") as upload:
        await upload.body()
        with upload.open() as file:
            if file.read(3) == b"bad":
                return await upload.reject(422, "not good")
        await upload.publish()
        assert upload.path is not None
        return describe(upload)


@app.post("/form")
async def form(
    form: Annotated[
        Form,
        uploads.form(files={"clip": ["clips/"], "notes": None}, required="title", max_size=10**7),
    ],
) -> dict[str, Any]:
    if form["title"] == "raise":
        raise HTTPException(409, "no")
    notes = form.files.get("notes")
    return {
        "title": form["title"],
        "clips": [describe(clip) for clip in form.getall("clip")],
        "notes": None if notes is None else (await notes.read()).decode(),
    }


@app.post("/plain-form")
async def plain_form(title: Annotated[str, FormField()], files: list[UploadFile]) -> dict[str, Any]:
    return {
        "title": title,
        "files": [[f.filename, f.content_type, f.size, len(await f.read())] for f in files],
        "kept_by": sorted({type(f).__name__ for f in files}),
    }


@app.post("/plain-form-kept")
async def plain_form_kept(request: Request) -> dict[str, Any]:
    async with request.form() as form:
        file: Any = form["file"]
        upload = await file.move_to("kept/")
    return {"name": upload.name}


@app.post("/small-form")
async def small_form(a: Annotated[str, FormField()]) -> str:
    return a


class Item(BaseModel):
    name: str


@app.post("/json")
async def plain_json(item: Item) -> Item:
    return item


@app.post("/mine")
async def begin(request: Request) -> Any:
    return await uploads.create_resumable_upload(request, "mine/", max_size=1000, types=["text/*"])


@app.patch("/mine/{upload_id}")
async def append(request: Request, upload_id: str) -> Any:
    return await uploads.append_to_upload(request, upload_id)


@app.head("/mine/{upload_id}")
@app.get("/mine/{upload_id}")
async def status(request: Request, upload_id: str) -> Any:
    return await uploads.get_upload_status(request, upload_id)


@app.delete("/mine/{upload_id}")
async def cancel(request: Request, upload_id: str) -> Any:
    return await uploads.cancel_upload(request, upload_id)


router = APIRouter(prefix="/under")


@router.post("/router")
async def under_router(
    upload: Annotated[Upload, uploads.receive(to="in/", types=["image/png", "image/jpeg"])],
) -> dict[str, Any]:
    return describe(upload)


app.include_router(router, prefix="/api")

handled_app = FastAPI(lifespan=uploads.lifespan)
uploads.install(handled_app)


@handled_app.post("/in")
async def in_told_app(upload: In) -> dict[str, Any]:
    return describe(upload)


@handled_app.exception_handler(Forbidden)
async def forbidden(request: Request, error: UploadError) -> Any:
    from starlette.responses import PlainTextResponse

    reply = uploads.answer_to(error, request.scope)
    return PlainTextResponse(f"my own words: {reply.status} {error.code}", 418)


@handled_app.post("/own")
async def own_in_told_app(
    upload: Annotated[Upload, uploads.receive(to=own_folder)],
) -> dict[str, Any]:
    return describe(upload)
