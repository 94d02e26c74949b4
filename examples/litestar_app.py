"""Litestar: resumable uploads mounted, routes with a declared upload and form, a manual upload.

uvicorn --http forebay.http.direct:DirectProtocol examples.litestar_app:app
"""

from typing import Any

from litestar import Litestar, Request, asgi, post
from litestar.types import Receive, Scope, Send

from forebay import GB, Forebay, Upload, UploadError, VerificationRefused

# Litestar's routes do not show where an ASGI application is mounted.
uploads = Forebay("data/", max_size=5 * GB, files_at="/files", resumable_at="/uploads")


@uploads.on_verify
def verify(upload: Upload) -> None:
    with upload.open() as file:
        if file.read(2) == b"MZ":
            raise VerificationRefused("Programs are not taken here.")


@asgi("/uploads", is_mount=True, copy_scope=True)
async def resumable(scope: Scope, receive: Receive, send: Send) -> None:
    await uploads.resumable(scope, receive, send)


@asgi("/files", is_mount=True, copy_scope=True)
async def files(scope: Scope, receive: Receive, send: Send) -> None:
    await uploads.files(scope, receive, send)


@post("/videos", status_code=200)
async def video(request: Request[Any, Any, Any]) -> dict[str, Any]:
    async with uploads.received(
        request, to="videos/", types=["video/*"], digest="sha256"
    ) as upload:
        return {"name": upload.name, "size": upload.size, "sha256": upload.digest}


@post("/form", status_code=200)
async def form(request: Request[Any, Any, Any]) -> dict[str, Any]:
    async with uploads.received_form(
        request, files={"clip": "clips/"}, required=["title", "clip"]
    ) as form:
        return {"title": form["title"], "clip": form["clip"].name}


@post("/checked", status_code=200)
async def checked(request: Request[Any, Any, Any]) -> Any:
    async with uploads.create_upload(request, "checked/", max_size=1 * GB) as upload:
        if upload.head.headers.get("authorization") != "Bearer let-me-in":
            return await upload.reject(403, "That token is not known.")
        async for _received in upload.stream():
            pass  # report the progress
        await upload.publish()
        return {"name": upload.name, "size": upload.size}


app = Litestar(
    [resumable, files, video, form, checked],
    lifespan=[uploads.lifespan],
    exception_handlers={UploadError: uploads.exception_handler},
)
