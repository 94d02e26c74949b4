"""`forebay.testing`, and the guide that tells of it: its tests pass as they are written."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forebay.testing
from forebay import Forebay, InvalidForm, MissingField, VerificationRefused
from forebay.errors import InvalidName, NameTaken
from forebay.testing import (
    Client,
    in_temporary_folder,
    make_form,
    make_upload,
    temporary_forebay,
)

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "testing.md"


def test_the_tests_of_the_guide_pass(tmp_path: Path):
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert {name for name, _ in blocks} == {
        *("shop.py", "test_shop.py", "test_handlers.py", "test_overrides.py")
    }
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    ignored = ["-W", "ignore:Using `httpx`", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, *ignored, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".forebay"]


def test_every_name_can_be_loaded_and_the_package_loads_none_of_it():
    for name in forebay.testing.__all__:
        assert getattr(forebay.testing, name) is not None
    with pytest.raises(AttributeError):
        forebay.testing.nothing  # type: ignore[attr-defined]
    heavy = ("uvicorn", "asyncio", "pytest", "httpx", "fastapi", "starlette", "forebay.engine")
    code = f"import sys, forebay.testing; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_made_upload_is_read_like_a_real_one():
    data = bytes(2_500_000)
    for upload in (make_upload(data, name="a/b.bin", digest="sha256"), make_upload(data)):
        assert upload.size == upload.length == len(data) and upload.path is None

        async def read(upload: Any = upload) -> list[int]:
            assert await upload.read() == data
            return [len(piece) async for piece in upload]

        assert sum(asyncio.run(read())) == len(data)
        assert sum(asyncio.run(read())) == len(data)  # in another event loop, too
        with upload.open() as file:
            assert file.read(3) == bytes(3) and file.seek(0) == 0
    upload = make_upload(data, name="a/b.bin", digest="sha256", principal="ann")
    assert upload.digest == hashlib.sha256(data).hexdigest()
    assert (upload.name, upload.filename, upload.principal.id) == ("a/b.bin", "b.bin", "ann")
    told = make_upload(b"abc", filename="a.txt", metadata={"team": "film"})
    assert (told.metadata, told.filename) == ({"team": "film"}, "a.txt")
    assert upload.id and not upload.renamed and not upload.replaced


def test_a_made_upload_has_metadata_and_fields():
    upload = make_upload(b"x", metadata={"key": "value"}, fields=[("title", "T")])
    assert upload.metadata == {"key": "value"}
    assert upload.fields["title"] == "T"


def test_a_made_upload_has_the_head_of_a_request():
    upload = make_upload(b"abc", filename="ä.txt", media_type="text/plain", headers={"X-Team": "a"})
    assert upload.head is not None
    assert (upload.head.filename, upload.head.length) == ("ä.txt", 3)
    assert (upload.head.media_type, upload.head.headers["x-team"]) == ("text/plain", "a")


def test_a_made_upload_is_moved_by_the_rules_of_a_real_one(tmp_path: Path):
    for folder in (None, tmp_path / "data"):
        first, second = (make_upload(b"abc", filename="a.txt", folder=folder) for _ in range(2))
        asyncio.run(first.move_to("in/"))
        assert first.name == "in/a.txt"
        with pytest.raises(InvalidName):
            asyncio.run(second.move_to("../a"))
        if folder is None:
            continue
        with pytest.raises(NameTaken):
            asyncio.run(second.move_to("in/"))
        asyncio.run(second.move_to("in/", conflict="rename"))
        assert (second.name, second.renamed) == ("in/a (1).txt", True)
        assert second.path is not None and Path(second.path).read_bytes() == b"abc"
    with pytest.raises(InvalidName):
        make_upload(b"", name="../a")


def test_a_made_form():
    clip = make_upload(b"abc", name="clips/a.mp4")
    form = make_form({"title": "x", "tags": ["a", "b"]}, {"clip": clip, "stills": []})
    assert form["title"] == "x" and form["clip"] is clip and form["stills"] == []
    assert form.getall("tags") == ["a", "b"] and form.model is None
    with pytest.raises(MissingField) as raised:
        form["year"]
    assert isinstance(raised.value, KeyError) and isinstance(raised.value, InvalidForm)


def starlette_app(uploads: Forebay) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    async def broken(request: Request) -> None:
        raise RuntimeError("a mistake")

    async def echo(request: Request) -> JSONResponse:
        body = await request.body()
        return JSONResponse([len(body), request.headers.get("content-length"), str(request.url)])

    return Starlette(
        routes=[
            Route("/broken", broken),
            Route("/echo", echo, methods=["POST"]),
            Mount("/files", uploads.files),
            Mount("/uploads", uploads.resumable),
        ],
        lifespan=uploads.lifespan,
    )


def test_a_client_and_a_temporary_forebay():
    with temporary_forebay(max_size=1000) as uploads:
        folder = Path(uploads.settings.dir)
        with Client(starlette_app(uploads), headers={"X-Team": "a"}) as client:
            assert client.upload("/files/a%20b", b"abc", method="PUT").status == 201
            assert client.get("/files/a%20b").body == b"abc"
            assert client.upload("/files/big", bytes(1001), method="PUT").status == 413
            pieces = client.upload("/files/pieces", [b"ab", b"cd"], method="PUT")
            assert pieces.json()["size"] == 4
            form = client.form("/files/", {"t": "x"}, {"f": [("a.txt", b"1"), ("b.txt", b"2")]})
            assert [file["name"] for file in form.json()["files"]] == ["a.txt", "b.txt"]
            assert client.tus("/uploads/", b"", filename="none").status == 201
            assert client.tus("/uploads/", bytes(1001)).status == 413
            assert client.request("POST", "/echo?a=b", content="äö").json() == [
                *(4, "4", "http://localhost/echo?a=b")
            ]
            with pytest.raises(RuntimeError, match="a mistake"):
                client.get("/broken")
        with Client(starlette_app(uploads), raise_errors=False) as client:  # started again
            assert client.get("/broken").status == 500
            assert client.get("/files/nothing").status == 404
            assert client.delete("/files/pieces").status == 405
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="in a block"):
        client.get("/files/")


def test_an_application_s_own_forebay_works_in_a_temporary_folder(tmp_path: Path):
    uploads = Forebay(tmp_path / "data")

    @uploads.on_verify
    def verify(upload: Any) -> None:
        if upload.size == 3:
            raise VerificationRefused("three")

    app = starlette_app(uploads)
    for _ in range(2):
        with in_temporary_folder(uploads, max_size=10) as folder, Client(app) as client:
            assert client.upload("/files/a", bytes(11), method="PUT").status == 413
            assert client.upload("/files/a", bytes(3), method="PUT").status == 422
            assert client.upload("/files/a", bytes(4), method="PUT").status == 201
            assert (folder / "a").stat().st_size == 4
            with pytest.raises(RuntimeError, match="is running"), in_temporary_folder(uploads):
                pass
        assert not folder.exists()
    with Client(app) as client:
        assert client.upload("/files/b", bytes(11), method="PUT").status == 201
    assert (tmp_path / "data/b").exists() and not (tmp_path / "data/a").exists()


def test_an_application_that_does_not_start_is_said_so():
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no folder"})

    async def without(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with pytest.raises(RuntimeError, match="no folder"), Client(failing):
        pass
    with Client(without) as client:
        assert client.get("/").status == 204
