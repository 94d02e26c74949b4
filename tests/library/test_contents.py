"""What an application can see, read and remove of what its clients have stored."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import httpx
import pytest

from forebay import Forebay, Principal, Upload
from library.conftest import Start
from library.running import Application
from raw_http import RawClient, content, head
from tus.client import create, metadata

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture
def app(application: Start, server: str) -> Application:
    found = application("library.contents_app:app", server)
    for path in [found.folder / name for name in found.published()]:
        path.unlink()
    for one in httpx.get(f"{found.url}/api/unfinished").json():
        httpx.post(f"{found.url}/api/cancel", params={"id": one["id"]})
    httpx.get(f"{found.url}/told")
    return found


def put(app: Application, name: str, body: bytes = b"x", **headers: str) -> None:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    answer = httpx.put(f"{app.url}/files/{name}", content=body, headers=named)
    assert answer.status_code == 201, answer.text


def get(app: Application, path: str, **params: Any) -> Any:
    answer = httpx.get(f"{app.url}/api/{path}", params=params)
    return answer.json() if answer.is_success else (answer.status_code, answer.json().get("code"))


def call(app: Application, path: str, **params: Any) -> Any:
    answer = httpx.post(f"{app.url}/api/{path}", params=params, timeout=20)
    return answer.json() if answer.is_success else (answer.status_code, answer.json().get("code"))


def finished(app: Application, name: str) -> str:
    """The path of a resumable upload by ann that is a file by now."""
    fields = {
        "Upload-Length": "3",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Metadata": metadata(filename=name),
        "x-user": "ann",
    }
    answer = httpx.post(f"{app.url}/uploads/", content=b"abc", headers={**TUS, **fields})
    assert answer.headers["upload-offset"] == "3"
    return answer.headers["location"]


def told(app: Application) -> Any:
    return httpx.get(f"{app.url}/told").json()


def test_a_folder_is_listed_page_by_page_with_whole_names(app: Application):
    for name in ("b.txt", "sub/3", "sub/1", "sub/5", "sub/4", "sub/deep/x"):
        put(app, name, name.encode())
    (app.folder / "sub/a\nb").write_bytes(b"no request can ask for this")
    page = get(app, "list", folder="sub", limit=2)
    assert page == {"names": [["sub/1", 5, False], ["sub/3", 5, False]], "next": "3"}
    page = get(app, "list", folder="sub/", limit=2, after=page["next"])
    assert page == {"names": [["sub/4", 5, False], ["sub/5", 5, False]], "next": "5"}
    assert get(app, "list", folder="sub", after="sub/5")["next"] is None
    everything = ["sub/1", "sub/3", "sub/4", "sub/5", "sub/deep"]
    assert get(app, "all", folder="sub") == everything
    assert get(app, "all", folder="/sub/", limit=1) == everything
    assert ["b.txt", 5, False] in get(app, "list")["names"]
    assert get(app, "list", folder="nowhere") == (404, "FB_NOT_FOUND")
    assert get(app, "list", folder="..") == (400, "FB_INVALID_NAME")
    assert get(app, "list", folder=".forebay") == (400, "FB_INVALID_NAME")
    os.unlink(app.folder / "sub/a\nb")


def test_a_file_is_looked_at_and_read(app: Application):
    data = content(2_600_000)
    put(app, "in/a.mp4", data)
    assert get(app, "stat", name="in/a.mp4")["size"] == len(data)
    assert get(app, "stat", name="in")["folder"] and get(app, "stat", name="in/")["folder"]
    read = get(app, "read", name="in/a.mp4")
    assert (read["name"], read["type"], read["size"]) == ("in/a.mp4", "video/mp4", len(data))
    assert sum(read["pieces"]) == len(data) and max(read["pieces"]) <= 1 << 20
    for path in ("stat", "read"):
        assert get(app, path, name="in/b") == (404, "FB_NOT_FOUND")
        assert get(app, path, name="in/../../x") == (400, "FB_INVALID_NAME")
        assert get(app, path, name="") == (400, "FB_INVALID_NAME")
    assert get(app, "read", name="in") == (404, "FB_NOT_FOUND")


def test_on_delete_is_called_for_every_removed_file(app: Application):
    for number in range(3):
        put(app, f"in/{number}", b"abc")
    assert call(app, "delete", name="in/0") == {"name": "in/0", "size": 3}
    ann = {"x-user": "ann"}
    assert httpx.delete(f"{app.url}/files/in/1", headers=ann).status_code == 204
    assert call(app, "delete", name="in/0") == (404, "FB_NOT_FOUND")
    assert call(app, "delete", name="in") == (404, "FB_NOT_FOUND")
    assert httpx.delete(f"{app.url}/files/in/9", headers=ann).status_code == 404
    wrong = {"if-match": '"other"', **ann}
    assert httpx.delete(f"{app.url}/files/in/2", headers=wrong).status_code == 412
    by_api = {"name": "in/0", "size": 3, "principal": "the application", "method": None}
    by_http = {"name": "in/1", "size": 3, "principal": "ann", "method": "DELETE"}
    assert told(app) == [{**by_api, "path": None}, {**by_http, "path": None}]
    assert app.published() == {"in/2": 3}


def test_on_delete_is_called_for_a_finished_upload_removed_by_its_id(app: Application):
    path = finished(app, "t.bin")
    assert app.published() == {"t.bin": 3}
    assert httpx.delete(app.url + path, headers={**TUS, "x-user": "ann"}).status_code == 204
    assert [(one["name"], one["principal"], one["method"]) for one in told(app)] == [
        ("t.bin", "ann", "DELETE")
    ]
    assert app.published() == {}


def test_only_the_file_that_was_looked_at_is_removed(app: Application):
    put(app, "a", b"1")
    tag = get(app, "stat", name="a")["tag"]
    (app.folder / "a").write_bytes(b"another")
    assert call(app, "delete", name="a", tag=tag) == (412, "FB_PRECONDITION_FAILED")
    assert call(app, "delete", name="a", tag=get(app, "stat", name="a")["tag"])["size"] == 7


def test_what_on_delete_raises_brings_nothing_back(app: Application):
    put(app, "broken", b"1")
    assert call(app, "delete", name="broken") == {"name": "broken", "size": 1}
    assert app.wait_for_log("on_delete failed for 'broken'; the file is gone")


def test_unfinished_uploads_are_listed_and_cancelled(app: Application):
    named = metadata(filename="a.bin", team="Zürich")
    path = create(app, 9, Upload_Metadata=named, x_user="ann")
    done = finished(app, "done")
    draft = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0"}
    begun = httpx.put(f"{app.url}/files/draft", content=b"12345", headers=draft)
    assert begun.status_code == 201
    found = {one.pop("id"): one for one in get(app, "unfinished")}
    ids = [one.rpartition("/")[2] for one in (path, begun.headers["location"], done)]
    assert set(found) == set(ids[:2])
    assert found[ids[0]] == {
        "name": "a.bin",
        "protocol": "tus",
        "offset": 0,
        "length": 9,
        "principal": "ann",
        "lives": pytest.approx(86400, abs=60),
        "metadata": {"filename": "a.bin", "team": "Zürich"},
    }
    assert found[ids[1]]["protocol"] == "ietf" and found[ids[1]]["offset"] == 5
    assert call(app, "cancel", id=ids[1]) == 5
    assert call(app, "cancel", id=ids[2]) == (409, "FB_WRONG_STATE")
    assert call(app, "cancel", id=ids[1]) == (404, "FB_NOT_FOUND")
    assert call(app, "cancel", id="nonsense") == (404, "FB_NOT_FOUND")
    assert [one["id"] for one in get(app, "unfinished")] == ids[:1]
    assert app.published() == {"done": 3}
    assert told(app) == []


def test_an_upload_that_is_being_written_is_cancelled_too(app: Application):
    path = create(app, 10_000_000, x_user="ann")
    client = RawClient(app)
    fields = (
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
        "x-user: ann",
    )
    client.send(head("PATCH", path, *fields, length=10_000_000) + bytes(3_000_000))
    upload_id = path.rpartition("/")[2]
    staged = app.folder / ".forebay/uploads" / upload_id
    until = time.monotonic() + 20
    while staged.stat().st_size < 3_000_000 and time.monotonic() < until:
        time.sleep(0.01)
    assert [one["id"] for one in get(app, "unfinished")] == [upload_id]
    assert call(app, "cancel", id=upload_id) > 0
    assert client.response()[0] >= 400
    client.socket.close()
    assert get(app, "unfinished") == []
    assert httpx.head(app.url + path, headers={**TUS, "x-user": "ann"}).status_code in (404, 410)


def test_to_look_for_uploads_makes_no_state(application: Start):
    app = application("library.contents_app:plain")
    assert httpx.get(f"{app.url}/unfinished").json() == []
    assert not (app.folder / ".forebay/state.db").exists()


def test_a_page_has_a_size(tmp_path: Any):
    uploads = Forebay(tmp_path)
    for limit in (0, -1, 10_001):
        with pytest.raises(ValueError, match="limit must be from 1 to 10000"):
            uploads.list(limit=limit)
    uploads.close()


@pytest.mark.parametrize(
    ("given", "told_as"), [(None, ""), ("ann", "ann"), (7, "7"), (0, "0"), (Principal("bo"), "bo")]
)
def test_the_principal_that_removes_a_file_may_be_any_id(tmp_path: Any, given: Any, told_as: str):
    uploads = Forebay(tmp_path)
    removers = []

    @uploads.on_delete
    def deleted(upload: Upload) -> None:
        removers.append(upload.principal.id)

    async def remove() -> None:
        (tmp_path / "a").write_bytes(b"abc")
        await uploads.delete("a", principal=given)
        await uploads.stop()

    asyncio.run(remove())
    assert removers == [told_as]
