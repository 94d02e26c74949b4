"""Errors in the framework's terms or in ours; and what FastAPI's documents say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI

from forebay import Forebay, UploadError
from forebay.errors import TooLarge
from library.conftest import Start


def test_the_framework_answers_errors_by_default(application: Start, server: str):
    app = application("library.odd_app:app", server)
    answer = httpx.post(f"{app.url}/own", content=b"x")
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["detail"]["code"] == "FB_FORBIDDEN"


def test_an_installed_handler_answers_problems_and_text(application: Start, server: str):
    app = application("library.odd_app:handled_app", server)
    answer = httpx.post(f"{app.url}/in", content=b"x", headers={"X-Filename": ".."})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["code"] == "FB_INVALID_NAME" and told["status"] == 400
    assert told["type"] == "urn:forebay:error:FB_INVALID_NAME"
    text = httpx.post(
        f"{app.url}/in", content=b"x", headers={"X-Filename": "..", "Accept": "text/html"}
    )
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == 'A file cannot be called "..". (FB_INVALID_NAME)\n'


def test_an_application_may_say_it_in_its_own_words(application: Start, server: str):
    app = application("library.odd_app:handled_app", server)
    answer = httpx.post(f"{app.url}/own", content=b"x")
    assert (answer.status_code, answer.text) == (418, "my own words: 403 FB_FORBIDDEN")


def test_status_and_body_of_an_error_can_be_had(tmp_path: Path):
    uploads = Forebay(tmp_path, durability="relaxed")
    scope: dict[str, Any] = {"type": "http", "method": "PUT", "path": "/x", "headers": []}
    reply = uploads.answer_to(TooLarge(limit=3), scope)
    assert reply.status == 413
    assert (b"content-type", b"application/problem+json") in reply.headers
    assert '"limit": 3' in reply.text
    assert issubclass(TooLarge, UploadError)
    uploads.close()


@pytest.mark.parametrize("by", ["lifespan", "install"])
def test_the_documents_of_fastapi_show_the_real_bodies(by: str):
    from library.odd_app import app as with_lifespan
    from library.odd_app import handled_app

    app: FastAPI = with_lifespan if by == "lifespan" else handled_app
    if by == "lifespan":
        from library.odd_app import uploads

        uploads._describe(app)
    paths = app.openapi()["paths"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    assert paths["/in"]["post"]["requestBody"] == {
        "required": True,
        "content": {"application/octet-stream": binary, "*/*": binary},
    }
    if by == "install":
        return
    assert set(paths["/api/under/router"]["post"]["requestBody"]["content"]) == {
        "image/png",
        "image/jpeg",
    }
    form = paths["/form"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    binary = {"type": "string", "format": "binary"}
    binaries = {"type": "array", "items": binary, "default": []}
    assert form["properties"]["clip"] == binaries
    assert form["properties"]["title"] == {"type": "string", "title": "Title"}
    assert form["required"] == ["title"]
    assert "requestBody" not in paths["/unread"]["post"]
    assert "multipart/form-data" in paths["/plain-form"]["post"]["requestBody"]["content"]


def starlette_app(uploads: Forebay) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    options = uploads.options("in/", types=["video/*"])

    async def take(request: Request) -> JSONResponse:
        async with uploads.received(request, to=options) as upload:
            return JSONResponse({"name": upload.name})

    return Starlette(routes=[Route("/in", take, methods=["POST"])])


def litestar_app(uploads: Forebay) -> Any:
    litestar = pytest.importorskip("litestar")
    options = uploads.options("in/", types=["video/*"])

    async def take(request: Any) -> dict[str, str]:
        async with uploads.received(request, to=options) as upload:
            return {"name": upload.name}

    take.__annotations__["request"] = litestar.Request
    take.__annotations__["return"] = dict[str, str]
    return litestar.Litestar([litestar.post("/in", status_code=200)(take)])


@pytest.mark.parametrize("make", [starlette_app, litestar_app])
def test_each_framework_answers_a_refusal_in_its_own_way(make: Any, tmp_path: Path):
    uploads = Forebay(tmp_path, durability="relaxed")
    app = make(uploads)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            refused = await client.post("/in", content=b"x", headers={"Content-Type": "text/x"})
            assert refused.status_code == 415
            assert "text/x is not accepted here" in refused.text
            taken = await client.post("/in", content=b"x", headers={"Content-Type": "video/x"})
            assert taken.status_code == 200, taken.text
        await uploads.stop()

    asyncio.run(ask())


def test_a_request_of_django_is_referred_to_in_front_of(tmp_path: Path):
    uploads = Forebay(tmp_path, durability="relaxed")

    class ASGIRequest:
        scope: ClassVar[dict[str, Any]] = {"type": "http"}

    async def ask() -> None:
        async with uploads.received(ASGIRequest()):
            pass

    with pytest.raises(TypeError, match="in_front_of"):
        asyncio.run(ask())
    with pytest.raises(LookupError, match="in_front_of"):
        uploads.upload_of(ASGIRequest())
    uploads.close()
