"""Writes down what each callback gets; `on_complete` fails while the file `fail` is there."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

from fastapi import FastAPI, Request
from starlette.requests import Request as StarletteRequest

from forebay import Access, Forebay, Form, Principal, RequestHead, Upload

uploads: Forebay


def note(what: str, about: Any, **more: Any) -> None:
    metadata = {
        key: value if isinstance(value, str) else value.hex()
        for key, value in about.metadata.items()
    }
    seen = {
        "what": what,
        "filename": about.filename,
        "metadata": metadata,
        "length": about.length,
        "media_type": about.media_type,
        **more,
    }
    with open("seen", "a") as file:
        file.write(json.dumps(seen) + "\n")


def note_upload(what: str, upload: Upload) -> None:
    head = upload.head
    note(
        what,
        upload,
        id=upload.id,
        name=upload.name,
        fields=upload.fields.multi_items(),
        principal=upload.principal.id,
        renamed=upload.renamed,
        digest=upload.digest,
        encoded=upload.encoded_size,
        head=None if head is None else [head.method, head.path, head.headers.get("x-mark")],
    )


def authorise(access: Access) -> Principal:
    note(
        "authorise",
        access,
        action=access.action,
        id=access.upload_id,
        method=access.method,
        path=access.path,
        query=dict(access.query),
        cookies=dict(access.cookies),
        mark=access.headers.get("x-mark"),
        client=access.client is not None,
    )
    return Principal("somebody")


uploads = Forebay("data", durability="relaxed", authorise=authorise, decode_request=True)
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/files", uploads.files)
app.mount("/uploads", uploads.resumable)


@uploads.on_verify
def verify(upload: Upload) -> None:
    note_upload("verify", upload)


@uploads.on_progress
def progress(upload: Upload, received: int) -> None:
    note_upload("progress", upload)


@uploads.on_complete
def complete(upload: Upload) -> None:
    note_upload("complete", upload)
    if os.path.exists("die"):
        os._exit(9)
    if os.path.exists("fail"):
        raise ValueError("not now")


def by_user(head: RequestHead) -> str:
    note("to", head)
    return f"of/{head.headers.get('x-user', 'nobody')}/"


resumable = uploads.options(by_user, digest="sha256")


@app.post("/own")
async def create(request: Request) -> Any:
    return await uploads.create_resumable_upload(request, resumable)


@app.api_route("/own/{upload_id}", methods=["HEAD", "PATCH"])
async def go_on(request: Request, upload_id: str) -> Any:
    if request.method == "HEAD":
        return await uploads.get_upload_status(request, upload_id)
    return await uploads.append_to_upload(request, upload_id)


@app.post("/fixed")
async def fixed(
    upload: Annotated[Upload, uploads.receive(to="fixed.bin", conflict="rename")],
) -> Any:
    return upload.filename


@app.post("/moved")
async def moved(upload: Annotated[Upload, uploads.receive()]) -> Any:
    await upload.move_to("moved/")
    return upload.name


@app.post("/form")
async def form(form: Annotated[Form, uploads.form(files={"clip": "clips/"})]) -> Any:
    return [form["clip"].filename, form["clip"].fields.multi_items()]


@app.post("/hand")
async def hand(request: StarletteRequest) -> Any:
    async with uploads.create_upload(request, "hand/") as upload:
        async for _ in upload.stream():
            pass
    return upload.name
