"""An application that looks at, reads and removes what its clients have stored."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from forebay import Access, Forebay, Principal, Upload

told: list[dict[str, Any]] = []


def authorise(access: Access) -> Principal:
    headers = dict(access.context["headers"])
    return Principal(headers.get(b"x-user", b"").decode())


uploads = Forebay("data", authorise=authorise, allow_delete=True, durability="relaxed")
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/files", uploads.files)
app.mount("/uploads", uploads.resumable)
uploads.install(app)


@uploads.on_delete
def deleted(upload: Upload) -> None:
    method = upload.head.method if upload.head else None
    told.append(
        {
            "name": upload.name,
            "size": upload.size,
            "principal": upload.principal.id,
            "method": method,
            "path": upload.path,
        }
    )


@uploads.on_delete
async def broken(upload: Upload) -> None:
    if upload.name.startswith("broken"):
        raise RuntimeError("on_delete itself")


@app.get("/told")
async def everything_told() -> list[dict[str, Any]]:
    found = told[:]
    told.clear()
    return found


@app.get("/api/list")
async def listed(folder: str = "", after: str = "", limit: int = 1000) -> dict[str, Any]:
    page = await uploads.list(folder, after=after, limit=limit)
    return {"names": [[file.name, file.size, file.is_folder] for file in page], "next": page.next}


@app.get("/api/all")
async def everything(folder: str = "", limit: int = 2) -> list[str]:
    return [file.name async for file in uploads.list(folder, limit=limit)]


@app.get("/api/stat")
async def stat(name: str) -> dict[str, Any]:
    file = await uploads.stat(name)
    return {"name": file.name, "size": file.size, "tag": file.tag, "folder": file.is_folder}


@app.get("/api/read")
async def read(name: str) -> dict[str, Any]:
    file = await uploads.open(name)
    pieces = [len(piece) async for piece in file]
    return {"name": file.name, "type": file.media_type, "size": file.size, "pieces": pieces}


@app.post("/api/delete")
async def delete(name: str, tag: str | None = None) -> dict[str, Any]:
    file = await uploads.delete(name, tag=tag, principal="the application")
    return {"name": file.name, "size": file.size}


@app.get("/api/unfinished")
async def unfinished() -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "name": one.name,
            "protocol": one.protocol,
            "offset": one.offset,
            "length": one.length,
            "principal": one.principal.id,
            "lives": (one.expires - one.created).total_seconds() if one.expires else None,
            "metadata": dict(one.metadata),
        }
        async for one in uploads.unfinished()
    ]


@app.post("/api/cancel")
async def cancel(id: str) -> int:  # noqa: A002
    return (await uploads.cancel(id)).offset


untouched = Forebay("data", durability="relaxed")
plain = FastAPI(lifespan=untouched.lifespan)


@plain.get("/unfinished")
async def nothing() -> list[str]:
    return [one.id async for one in untouched.unfinished()]
