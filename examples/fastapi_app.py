"""FastAPI: resumable uploads mounted, routes with a declared upload and form, a manual upload.

uvicorn --http forebay.http.direct:DirectProtocol examples.fastapi_app:app
"""

from typing import Annotated

from fastapi import FastAPI, Request

from forebay import GB, Forebay, Form, Upload, VerificationRefused

uploads = Forebay("data/", max_size=5 * GB)
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/uploads", uploads.resumable)
app.mount("/files", uploads.files)
uploads.install(app)  # errors as problem documents, with their codes


@uploads.on_verify
def verify(upload: Upload) -> None:
    with upload.open() as file:
        if file.read(2) == b"MZ":
            raise VerificationRefused("Programs are not taken here.")


@app.post("/videos")
async def video(
    upload: Annotated[Upload, uploads.receive(to="videos/", types=["video/*"], digest="sha256")],
) -> dict[str, object]:
    return {"name": upload.name, "size": upload.size, "sha256": upload.digest}


@app.post("/form")
async def form(
    form: Annotated[Form, uploads.form(files={"clip": "clips/"}, required=["title", "clip"])],
) -> dict[str, object]:
    return {"title": form["title"], "clip": form["clip"].name}


@app.post("/checked")
async def checked(request: Request) -> object:
    async with uploads.create_upload(request, "checked/", max_size=1 * GB) as upload:
        if upload.head.headers.get("authorization") != "Bearer let-me-in":
            return await upload.reject(403, "That token is not known.")
        async for _received in upload.stream():
            pass  # report the progress
    return {"name": upload.name, "size": upload.size}
