"""Starlette: resumable uploads mounted, routes with a declared upload and form, a manual upload.

uvicorn --http forebay.http.direct:DirectProtocol examples.starlette_app:app
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from forebay import GB, Forebay, Upload, UploadError, VerificationRefused

uploads = Forebay("data/", max_size=5 * GB)


@uploads.on_verify
def verify(upload: Upload) -> None:
    with upload.open() as file:
        if file.read(2) == b"MZ":
            raise VerificationRefused("Programs are not taken here.")


async def video(request: Request) -> Response:
    async with uploads.received(
        request, to="videos/", types=["video/*"], digest="sha256"
    ) as upload:
        result = {"name": upload.name, "size": upload.size, "sha256": upload.digest}
    return JSONResponse(result)


async def form(request: Request) -> Response:
    async with uploads.received_form(
        request, files={"clip": "clips/"}, required=["title", "clip"]
    ) as form:
        result = {"title": form["title"], "clip": form["clip"].name}
    return JSONResponse(result)


async def checked(request: Request) -> Response:
    async with uploads.create_upload(request, "checked/", max_size=1 * GB) as upload:
        if upload.head.headers.get("authorization") != "Bearer let-me-in":
            refusal: Response = await upload.reject(403, "That token is not known.")
            return refusal
        async for _received in upload.stream():
            pass  # report the progress
    return JSONResponse({"name": upload.name, "size": upload.size})


app = Starlette(
    lifespan=uploads.lifespan,
    routes=[
        Mount("/uploads", uploads.resumable),
        Mount("/files", uploads.files),
        Route("/videos", video, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/checked", checked, methods=["POST"]),
    ],
    exception_handlers={UploadError: uploads.exception_handler},
)
