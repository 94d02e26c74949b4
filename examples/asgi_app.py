"""Plain ASGI, no framework.

uvicorn --http forebay.http.direct:DirectProtocol examples.asgi_app:app
"""

import json
from typing import Any

from forebay import GB, Forebay, Upload, UploadError, VerificationRefused

uploads = Forebay("data/", max_size=5 * GB)


@uploads.on_verify
def verify(upload: Upload) -> None:
    with upload.open() as file:
        if file.read(2) == b"MZ":
            raise VerificationRefused("Programs are not taken here.")


async def video(scope: Any, receive: Any, send: Any) -> None:
    async with uploads.received(
        scope, receive, to="videos/", types=["video/*"], digest="sha256"
    ) as upload:
        result = {"name": upload.name, "size": upload.size, "sha256": upload.digest}
    await answer(send, 200, result)


async def form(scope: Any, receive: Any, send: Any) -> None:
    async with uploads.received_form(
        scope, receive, files={"clip": "clips/"}, required=["title", "clip"]
    ) as form:
        result = {"title": form["title"], "clip": form["clip"].name}
    await answer(send, 200, result)


async def checked(scope: Any, receive: Any, send: Any) -> None:
    async with uploads.create_upload(scope, "checked/", receive=receive, max_size=1 * GB) as upload:
        if upload.head.headers.get("authorization") != "Bearer let-me-in":
            refusal = await upload.reject(403, "That token is not known.")
            await refusal(scope, receive, send)
            return
        async for _received in upload.stream():
            pass  # report the progress
    await answer(send, 200, {"name": upload.name, "size": upload.size})


async def answer(send: Any, status: int, result: dict[str, Any]) -> None:
    body = json.dumps(result).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def own(scope: Any, receive: Any, send: Any) -> None:
    routes = {("POST", "/videos"): video, ("POST", "/form"): form, ("POST", "/checked"): checked}
    route = routes.get((scope["method"], scope["path"]))
    try:
        if route is not None:
            await route(scope, receive, send)
        else:
            await answer(send, 404, {"detail": "There is nothing here."})
    except UploadError as error:
        await uploads.answer_to(error, scope)(scope, receive, send)


app = uploads.in_front_of(own, {"/uploads": uploads.resumable, "/files": uploads.files})
