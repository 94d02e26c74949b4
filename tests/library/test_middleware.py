"""`request.form()` by the middleware and by Starlette itself, of the same bytes; and what a
declared form makes of parts that no browser sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from forebay import Forebay

KIND = "multipart/form-data; boundary=b"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\nContent-Disposition: form-data; %s" % p for p in parts) + b"--b--"


async def told(request: Request) -> JSONResponse:
    items: list[Any] = []
    async with request.form() as received:
        for name, value in received.multi_items():
            if isinstance(value, UploadFile):
                content = (await value.read()).decode("latin-1")
                headers = sorted(value.headers.items())
                items.append(
                    ["file", name, value.filename, value.content_type, value.size, content, headers]
                )
            else:
                items.append(["text", name, value])
    return JSONResponse(items)


@contextlib.asynccontextmanager
async def running(uploads: Forebay) -> AsyncIterator[None]:
    await uploads.start()
    try:
        yield
    finally:
        await uploads.stop()


async def answers(folder: Path, body: bytes, kind: str) -> tuple[httpx.Response, httpx.Response]:
    """By Starlette alone, and with the middleware."""
    plain = Starlette(routes=[Route("/", told, methods=["POST"])])
    ours = Starlette(routes=[Route("/", told, methods=["POST"])])
    uploads = Forebay(folder)
    ours.add_middleware(uploads.form_middleware)
    found = []
    async with running(uploads):
        for app in (plain, ours):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                found.append(await client.post("/", content=body, headers={"Content-Type": kind}))
    return found[0], found[1]


SAME = {
    "text and a file": form(b"name=a\r\n\r\nx\r\n", b'name="f"; filename="g"\r\n\r\ny\r\n'),
    "types": form(
        b'name="f"; filename="g.txt"\r\nContent-Type: text/plain; charset=x\r\n\r\ny\r\n'
    ),
    "its own header": form(b'name="f"; filename="g"\r\nX-Own: 1\r\n\r\ny\r\n'),
    "no file chosen": form(
        b'name="f"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n\r\n'
    ),
    "json": form(b'name="j"\r\nContent-Type: application/json\r\n\r\n{}\r\n'),
    "xml": form(b'name="j"\r\nContent-Type: text/xml\r\n\r\n<a/>\r\n'),
    "not UTF-8": form(b"name=a\r\n\r\n\xff\r\n"),
    "a charset": form(b"name=a\r\nContent-Type: text/plain\r\n\r\n\xe4\r\n"),
    "nothing": form(),
    "UTF-8": form('name="ä"; filename="日本.txt"\r\n\r\ny\r\n'.encode()),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_the_same_comes_of_the_same_bytes(tmp_path: Path, body: bytes):
    plain, ours = asyncio.run(answers(tmp_path, body, KIND))
    assert (plain.status_code, ours.status_code) == (200, 200)
    assert ours.json() == plain.json()


def test_a_form_in_another_charset_is_read_in_it(tmp_path: Path):
    body = form("name=a\r\n\r\nПривет\r\n".encode("koi8-r"))
    plain, ours = asyncio.run(answers(tmp_path, body, f"{KIND}; charset=koi8-r"))
    assert ours.json() == plain.json() == [["text", "a", "Привет"]]


def test_a_part_that_says_it_is_a_file_is_one_to_the_middleware_too(tmp_path: Path):
    body = form(
        b"name=photo\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\r\n",
        b"name=photo; filename*=UTF-8''%ff\r\n\r\nx\r\n",
    )
    _, ours = asyncio.run(answers(tmp_path, body, KIND))
    assert [item[:4] for item in ours.json()] == [
        ["file", "photo", "photo.jpg", "image/jpeg"],
        ["file", "photo", "photo.bin", None],
    ]
    assert ours.json()[0][5] == "\xff\xd8"


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data, boundary=b", '"multipart/form-data"; boundary=b', "multipart/form-data"],
)  # fmt: skip
def test_a_form_that_cannot_be_read_is_refused_and_not_an_empty_one(tmp_path: Path, kind: str):
    _, ours = asyncio.run(answers(tmp_path, SAME["text and a file"], kind))
    assert ours.status_code == 400
    assert "Content-Type" in ours.text


# --- a declared form -----------------------------------------------------------------------------


async def declared(folder: Path, body: bytes, kind: str = KIND, **more: Any) -> dict[str, Any]:
    """What a route makes of it: the answer's status, and what the form held."""
    uploads = Forebay(folder)
    found: dict[str, Any] = {}

    async def route(request: Request) -> JSONResponse:
        async with uploads.received_form(request, **more) as received:
            found["fields"] = received.fields.multi_items()
            found["files"] = [(n, f.name, f.size) for n, f in received.files.multi_items()]
            found["left out"] = [
                (one.field, one.filename, one.error.code) for one in received.left_out
            ]
        return JSONResponse({})

    app = Starlette(routes=[Route("/", route, methods=["POST"])])
    async with (
        running(uploads),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client,
    ):
        answer = await client.post("/", content=body, headers={"Content-Type": kind})
    found["status"] = answer.status_code
    if answer.is_error:
        found["error"] = answer.text
    return found


def test_a_declared_form_holds_what_says_it_is_a_file_and_tells_of_hidden_ones(tmp_path: Path):
    body = form(
        b'name=f; filename="a"\r\n\r\n1\r\n',
        b'name=f; filename="trip/.DS_Store"\r\n\r\n2\r\n',
        b"name=g\r\nContent-Type: image/png\r\n\r\n33\r\n",
        b"name=meta\r\nContent-Type: application/json\r\n\r\n{}\r\n",
    )
    found = asyncio.run(declared(tmp_path, body, files={"f": "in/", "g": "in/"}))
    assert found == {
        "status": 200,
        "fields": [("meta", "{}")],
        "files": [("f", "in/a", 1), ("g", "in/g.png", 2)],
        "left out": [("f", "trip/.DS_Store", "FB_INVALID_NAME")],
    }
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a", "g.png"]


def test_a_declared_form_of_nothing_but_hidden_files_is_refused(tmp_path: Path):
    body = form(b'name=f; filename=".env"\r\n\r\n1\r\n', b"name=a\r\n\r\nx\r\n")
    found = asyncio.run(declared(tmp_path, body, files={"f": "in/"}))
    assert found["status"] == 400
    assert "'.env' in the field 'f'" in found["error"]


def test_files_of_one_declared_form_never_replace_each_other(tmp_path: Path):
    body = form(*[b'name=%s; filename="image.jpg"\r\n\r\n%s\r\n' % (n, n) for n in (b"a", b"b")])
    for _ in range(2):
        found = asyncio.run(declared(tmp_path, body, files={"*": "in/"}, conflict="replace"))
        assert found["status"] == 200
        assert len({name for _, name, _ in found["files"]}) == 2
        for field, name, _ in found["files"]:
            assert (tmp_path / name).read_bytes() == field.encode()


@pytest.mark.parametrize("name", ["a\x85", "..", "x" * 256])
def test_a_file_that_cannot_be_stored_refuses_a_declared_form_and_is_named(
    tmp_path: Path, name: str
):
    body = form(
        b'name=f; filename="a"\r\n\r\n1\r\n', f'name=g; filename="{name}"\r\n\r\n2\r\n'.encode()
    )
    found = asyncio.run(declared(tmp_path, body, files={"*": "in/"}))
    assert found["status"] == 400
    assert "in the field 'g'" in found["error"]
    assert not (tmp_path / "in").exists()


# --- a route that takes a file as its body -------------------------------------------------------

NO_FILES = {
    f"{KIND}": 415,
    "multipart/form-data, boundary=b": 400,
    "MULTIPART/FORM-DATA": 415,
    "multipart/related; boundary=b": 415,
    '"multipart/form-data"; boundary=b': 400,
    "multipart/form-data;" + ";" * 10_000: 400,
    "image": 400,
}


@pytest.mark.parametrize("by_hand", [False, True], ids=["received", "by hand"])
def test_no_route_takes_a_form_for_a_file(tmp_path: Path, by_hand: bool):
    uploads = Forebay(tmp_path)

    async def route(request: Request) -> JSONResponse:
        if by_hand:
            async with uploads.create_upload(request, "in/") as upload:
                await upload.body()
        else:
            async with uploads.received(request, to="in/"):
                pass
        return JSONResponse({})

    async def main() -> None:
        app = Starlette(routes=[Route("/", route, methods=["POST", "PUT"])])
        transport = httpx.ASGITransport(app)
        async with (
            running(uploads),
            httpx.AsyncClient(transport=transport, base_url="http://a") as client,
        ):
            for kind, status in NO_FILES.items():
                for method in ("POST", "PUT"):
                    answer = await client.request(
                        method, "/", content=b"x", headers={"Content-Type": kind}
                    )
                    assert (answer.status_code, kind) == (status, kind)
            twice = [("Content-Type", "text/plain"), ("Content-Type", KIND)]
            assert (await client.post("/", content=b"x", headers=twice)).status_code == 400
            assert not (tmp_path / "in").exists()
            assert (await client.post("/", content=b"x")).status_code == 200

    asyncio.run(main())
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [b"x"]
