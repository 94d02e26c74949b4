"""Every example does the same things, for real clients, on our server and on plain uvicorn."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from library.conftest import Start
from library.running import Application
from raw_http import RawClient, content, head

EXAMPLES = ("fastapi", "starlette", "litestar", "django", "asgi")


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, application: Start, server: str) -> Application:
    pytest.importorskip(request.param if request.param != "asgi" else "uvicorn")
    return application(f"examples.{request.param}_app:app", server)


def curl(*args: str) -> dict[str, object]:
    done = subprocess.run(["curl", "-sS", *args], capture_output=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_declared_upload_is_where_it_belongs(example: Application, tmp_path: Path):
    data = content(3_000_000)
    (tmp_path / "it.mp4").write_bytes(data)
    told = curl(
        *("-X", "POST", "-H", "Content-Type: video/mp4", "-H", "X-Filename: declared.mp4"),
        *("-T", str(tmp_path / "it.mp4"), f"{example.url}/videos"),
    )
    assert told == {
        "name": "videos/declared.mp4",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert (example.folder / "videos/declared.mp4").read_bytes() == data
    assert example.leftovers() == []
    (example.folder / "videos/declared.mp4").unlink()


def test_what_is_refused_by_its_head_is_not_read(example: Application):
    before = example.published()
    client = RawClient(example)
    client.send(head("POST", "/videos", "Content-Type: text/plain", length=10**12))
    status, fields, body = client.response()
    assert status == 415
    assert fields["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "FB_UNSUPPORTED_MEDIA_TYPE"
    client.socket.close()
    assert example.published() == before


def test_on_verify_refuses_with_its_own_words(example: Application):
    before = example.published()
    answer = httpx.post(
        f"{example.url}/videos", content=b"MZ...", headers={"Content-Type": "video/mp4"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Programs are not taken here."
    assert answer.json()["code"] == "FB_VERIFICATION_REFUSED"
    assert example.published() == before


def test_the_files_of_a_form_are_where_they_belong(example: Application):
    data = content(2_200_000)
    answer = httpx.post(
        f"{example.url}/form",
        data={"title": "A day äöü", "more": "1"},
        files={"clip": ("clip one.mp4", data, "video/mp4")},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"title": "A day äöü", "clip": "clips/clip one.mp4"}
    assert (example.folder / "clips/clip one.mp4").read_bytes() == data
    assert example.leftovers() == []
    (example.folder / "clips/clip one.mp4").unlink()


def test_a_form_without_what_it_needs_stores_nothing(example: Application):
    before = example.published()
    answer = httpx.post(f"{example.url}/form", files={"clip": ("clip.mp4", b"abc", "video/mp4")})
    assert refused_fields(answer) == [["body", "title"]]
    answer = httpx.post(f"{example.url}/form", files={"other": ("clip.mp4", b"abc")})
    assert refused_fields(answer) == [["body", "other"]]
    answer = httpx.post(f"{example.url}/form", files={"title": (None, "x"), "clip": (None, "text")})
    assert refused_fields(answer) == [["body", "clip"]]
    assert example.published() == before and example.leftovers() == []


def refused_fields(answer: httpx.Response) -> list[list[str]]:
    """What FastAPI's own validation error names, or the problem document elsewhere."""
    assert answer.status_code == 422
    told = answer.json()
    if "code" in told:
        assert told["code"] == "FB_INVALID_FORM"
        return [error["loc"] for error in told["errors"]]
    return [error["loc"] for error in told["detail"]]


def test_the_head_is_decided_on_by_hand(example: Application):
    data = content(2_500_000)
    before = example.published()
    answer = httpx.post(f"{example.url}/checked", content=data)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "That token is not known."
    assert example.published() == before
    answer = httpx.post(
        f"{example.url}/checked",
        content=data,
        headers={"Authorization": "Bearer let-me-in", "X-Filename": "by hand.bin"},
    )
    assert answer.status_code == 200
    assert answer.json() == {"name": "checked/by hand.bin", "size": len(data)}
    assert (example.folder / "checked/by hand.bin").read_bytes() == data
    assert example.leftovers() == []
    (example.folder / "checked/by hand.bin").unlink()


def test_a_body_over_the_limit_of_its_route_is_refused_at_its_head(example: Application):
    client = RawClient(example)
    client.send(head("POST", "/checked", "Authorization: Bearer let-me-in", length=1_000_000_001))
    status, _, body = client.response()
    assert status == 413
    assert json.loads(body)["code"] == "FB_TOO_LARGE"
    client.socket.close()


def test_files_are_stored_listed_and_got_back(example: Application):
    data = content(400_000)
    answer = httpx.put(f"{example.url}/files/some/way/down.bin", content=data)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/files/some/way/down.bin"
    assert httpx.get(example.url + answer.headers["location"]).content == data
    listed = httpx.get(f"{example.url}/files/some/way/").json()
    assert [entry["url"] for entry in listed["entries"]] == ["/files/some/way/down.bin"]
    (example.folder / "some/way/down.bin").unlink()


def test_a_tus_client_uploads_in_pieces(example: Application):
    client = pytest.importorskip("tusclient.client")
    data = content(300_000)
    uploader = client.TusClient(f"{example.url}/uploads/").uploader(
        file_stream=io.BytesIO(data), chunk_size=100_000, metadata={"filename": "by tus.bin"}
    )
    uploader.upload()
    assert uploader.url.startswith(f"{example.url}/uploads/")
    assert (example.folder / "by tus.bin").read_bytes() == data
    (example.folder / "by tus.bin").unlink()


def test_a_put_to_files_leads_to_where_resumable_uploads_are(example: Application):
    draft = {"Upload-Draft-Interop-Version": "8"}
    begun = httpx.put(
        f"{example.url}/files/resumed.bin",
        content=b"first ",
        headers={**draft, "Upload-Complete": "?0"},
    )
    assert begun.status_code == 201
    location = begun.headers["location"]
    assert location.startswith("/uploads/")
    ended = httpx.patch(
        example.url + location,
        content=b"second",
        headers={
            **draft,
            "Upload-Complete": "?1",
            "Upload-Offset": "6",
            "Content-Type": "application/partial-upload",
        },
    )
    assert ended.status_code == 201
    assert ended.headers["location"] == "/files/resumed.bin"
    assert (example.folder / "resumed.bin").read_bytes() == b"first second"
    (example.folder / "resumed.bin").unlink()


@pytest.fixture
def small_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with room for 1 MiB, for what is started from now on."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_an_application_with_one_line_more_needs_no_temporary_folder(
    small_tmp: Path, own_application: Start, server: str
):
    """Starlette's own way writes there first, whatever the handler does with the file."""
    app = own_application("examples.uploadfile_app:app", server)
    data = content(5_000_000)
    answer = httpx.post(
        f"{app.url}/form",
        data={"title": "x"},
        files={"clip": ("clip.mp4", data, "video/mp4")},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "title": "x",
        "filename": "clip.mp4",
        "type": "video/mp4",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert list(small_tmp.iterdir()) == []
    assert app.published() == {}
    assert app.leftovers() == []
    app.stop()
