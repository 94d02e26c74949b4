"""Whatever a handler does, its upload is whole or gone, and the connection is of use."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from library.conftest import Start
from library.running import Application
from raw_http import RawClient, chunked, content, head
from waiting import wait_for

APP = "library.odd_app:app"
DATA = content(2_600_000)


@pytest.fixture
def odd(application: Start, server: str) -> Application:
    found = application(APP, server)
    for path in [found.folder / name for name in found.published()]:
        path.unlink()
    httpx.get(f"{found.url}/told")
    return found


def post(app: Application, path: str, body: bytes = DATA, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(app.url + path, content=body, headers=named, timeout=30)


def wait_until_empty(app: Application) -> None:
    """The answer may be here before the file that was refused is gone."""
    wait_for(lambda: not app.published() and not app.leftovers())


def test_a_plain_handler_gets_the_file(odd: Application):
    answer = post(odd, "/in", X_Filename="it%20is.bin")
    told = answer.json()
    assert answer.status_code == 200
    assert told["name"] == "in/it is.bin" and told["filename"] == "it is.bin"
    assert told["path"] == str(odd.folder.resolve() / "in/it is.bin")
    assert told["digest"] == hashlib.sha256(DATA).hexdigest()
    assert Path(told["path"]).read_bytes() == DATA


def test_all_callbacks_get_one_id_for_one_upload(odd: Application):
    answer = post(odd, "/in", X_Filename="told.bin").json()
    told = httpx.get(f"{odd.url}/told").json()
    kinds = [one["what"] for one in told]
    assert kinds[-2:] == ["verify", "complete"]
    assert "progress" in kinds
    assert {one["id"] for one in told} == {answer["id"]}
    last = [one for one in told if one["what"] == "progress"][-1]
    assert last["received"] == len(DATA) and last["length"] == len(DATA)
    assert told[-2]["path"] is None and told[-1]["path"] == answer["path"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/raises", 409),
        ("/breaks", 500),
        ("/wrong-answer", 500),
        ("/raises-by-hand", 409),
        ("/needs-a-number", 422),
        ("/needs-a-number?number=x", 422),
    ],
)
def test_an_exception_of_a_handler_removes_the_file(odd: Application, path: str, status: int):
    answer = post(odd, path, X_Filename="gone.bin")
    assert answer.status_code == status
    wait_until_empty(odd)
    told = httpx.get(f"{odd.url}/told").json()
    assert "complete" not in [one["what"] for one in told]


def test_a_file_that_was_changed_since_is_not_removed(odd: Application):
    assert post(odd, "/changed-and-raises", X_Filename="other.bin").status_code == 409
    assert (odd.folder / "in/other.bin").read_bytes() == b"somebody else's"


def test_a_file_that_replaced_another_stays(odd: Application):
    (odd.folder / "in").mkdir(exist_ok=True)
    (odd.folder / "in/same.bin").write_bytes(b"older")
    assert post(odd, "/replace-and-raise").status_code == 409
    assert (odd.folder / "in/same.bin").read_bytes() == DATA


def test_names_are_never_overwritten_unasked(odd: Application):
    assert post(odd, "/exact", b"first").status_code == 200
    assert post(odd, "/exact", b"second").status_code == 409
    assert (odd.folder / "in/one.bin").read_bytes() == b"first"
    names = [post(odd, "/in", b"x", X_Filename="a.txt").json()["name"] for _ in range(2)]
    assert names == ["in/a.txt", "in/a (1).txt"]


def test_a_name_from_the_wire_cannot_leave_its_folder(odd: Application):
    assert post(odd, "/in", b"x", X_Filename="..").status_code == 400
    told = post(odd, "/in", b"x", Content_Disposition='attachment; filename="../../up.txt"')
    assert told.json()["name"] == "in/up.txt"
    assert post(odd, "/own", b"x", X_User="../..").status_code == 400
    assert post(odd, "/own", b"x", X_User="ann").json()["name"].startswith("users/ann/")


def test_a_destination_may_refuse_by_the_head_alone(odd: Application):
    client = RawClient(odd)
    client.send(head("POST", "/own", length=10**9))
    status, _, body = client.response()
    assert status == 403
    assert json.loads(body)["detail"] == {"code": "FB_FORBIDDEN", "message": "Say who you are."}
    client.socket.close()


def test_authorisation_of_the_route_comes_before_the_body(odd: Application):
    client = RawClient(odd)
    client.send(head("POST", "/guarded", length=10**9))
    assert client.response()[0] == 401
    client.socket.close()
    assert post(odd, "/guarded", b"x", Authorization="Bearer mine").status_code == 200


def test_on_verify_refuses_before_anybody_sees_the_file(odd: Application):
    answer = post(odd, "/in", b"virus", X_Filename="ill.bin")
    assert answer.status_code == 422
    assert answer.json()["detail"] == {"code": "FB_VERIFICATION_REFUSED", "message": "It is ill."}
    assert odd.published() == {}
    answer = post(odd, "/moved/there", b"virus", X_Filename="ill.bin")
    assert answer.status_code == 422
    assert odd.published() == {}


def test_a_chunked_body_cannot_pass_its_limit(odd: Application):
    client = RawClient(odd)
    client.send(head("POST", "/moved/there", "Transfer-Encoding: chunked"))
    client.send(chunked([DATA, DATA[:500_000]]))
    status, _, body = client.response()
    assert status == 413
    assert json.loads(body)["detail"]["code"] == "FB_TOO_LARGE"
    client.socket.close()
    wait_until_empty(odd)


@pytest.mark.parametrize("size", [0, 5, 1_000_000, 2_600_000])
def test_an_upload_without_a_destination_is_readable_and_then_gone(odd: Application, size: int):
    told = post(odd, "/nowhere", DATA[:size]).json()
    assert told["length"] == told["size"] == size
    assert told["path"] is None
    assert told["digest"] == hashlib.sha256(DATA[:size]).hexdigest()
    assert odd.published() == {} and odd.leftovers() == []


@pytest.mark.parametrize("size", [5, 2_600_000])
def test_a_moved_upload_stays(odd: Application, size: int):
    for name in ("there/it.bin", "there/it (1).bin"):  # a refused move can be tried again
        told = post(odd, "/moved/there", DATA[:size], X_Filename="it.bin").json()
        assert told["name"] == name
        assert (odd.folder / name).read_bytes() == DATA[:size]
    assert "complete" in [one["what"] for one in httpx.get(f"{odd.url}/told").json()]


def test_a_body_that_is_not_received_is_an_error_and_leaves_a_sane_connection(odd: Application):
    client = RawClient(odd)
    client.send(head("POST", "/unread", length=1000) + bytes(1000))
    assert client.response()[0] == 500
    assert odd.wait_for_log("was left before the body was received")
    client.socket.close()
    client = RawClient(odd)
    client.send(head("GET", "/told"))
    assert client.response()[0] == 200  # and not some of the body, read as a request
    client.socket.close()
    client = RawClient(odd)
    client.send(head("POST", "/unread", length=10**9) + bytes(100_000))
    assert client.response()[0] == 500
    client.socket.close()
    wait_until_empty(odd)


def test_a_body_left_half_read_is_an_error_and_leaves_nothing(odd: Application):
    client = RawClient(odd)
    client.send(head("POST", "/half-read", length=10**9) + DATA)
    assert client.response()[0] == 500
    client.socket.close()
    wait_until_empty(odd)
    assert post(odd, "/in").status_code == 200


@pytest.mark.parametrize("size", [0, 5, 2_600_000])
@pytest.mark.parametrize(
    "way", ["stream", "chunks", "closed", "twice", "task", "published", "nothing"]
)
def test_there_is_no_success_for_a_body_that_was_not_received_to_its_end(
    odd: Application, way: str, size: int
):
    if size == 0 and way == "chunks":
        return  # it has come to its end
    assert post(odd, f"/left/{way}", DATA[:size], X_Filename="left.bin").status_code == 500
    assert odd.published() == {}
    wait_until_empty(odd)


def test_an_error_that_broke_a_body_off_is_answered_though_the_handler_swallowed_it(
    odd: Application,
):
    assert post(odd, "/swallowed", DATA[:1001]).status_code == 413
    client = RawClient(odd)
    client.send(head("POST", "/swallowed", "Transfer-Encoding: chunked") + chunked([DATA[:1001]]))
    assert client.response()[0] == 413
    client.socket.close()
    assert post(odd, "/swallowed", DATA[:1000]).status_code == 200
    assert list(odd.published().values()) == [1000]


@pytest.mark.parametrize("size", [0, 5, 2_600_000])
def test_a_manual_upload_without_a_destination_is_gone(odd: Application, size: int):
    told = post(odd, "/nowhere-by-hand", DATA[:size], X_Filename="it.bin").json()
    assert (told["length"], told["name"], told["path"]) == (size, "it.bin", None)
    assert told["digest"] == hashlib.sha256(DATA[:size]).hexdigest()
    assert odd.published() == {}
    wait_until_empty(odd)


def test_a_manual_upload_that_is_moved_stays_and_completes(odd: Application):
    httpx.get(f"{odd.url}/told")
    for name in ("to/it.bin", "to/it (1).bin"):
        told = post(odd, "/moved-by-hand/to", DATA, X_Filename="it.bin").json()
        assert told["name"] == name
        assert (odd.folder / name).read_bytes() == DATA
    told = [one["what"] for one in httpx.get(f"{odd.url}/told").json()]
    assert told.count("complete") == 2
    assert post(odd, "/raises-when-moved", DATA).status_code == 409
    assert (odd.folder / "kept.bin").read_bytes() == DATA


def test_a_client_that_leaves_leaves_nothing(odd: Application):
    for path in ("/in", "/nowhere", "/chunks", "/looked-at"):
        client = RawClient(odd)
        client.send(head("POST", path, length=10**9) + DATA)
        client.socket.close()
    wait_until_empty(odd)


def test_chunks_are_bounded_and_whole(odd: Application):
    data = content(9_000_000)
    told = post(odd, "/chunks", data, X_Filename="c.bin").json()
    assert told["digest"] == hashlib.sha256(data).hexdigest()
    assert told["largest"] <= 1 << 20
    assert (odd.folder / told["name"]).read_bytes() == data


@pytest.mark.parametrize("path", ["/pieces", "/moved/in", "/looked-at"])
def test_a_compressed_body_is_described_by_its_decoded_content(odd: Application, path: str):
    data = b"some text, " * 10_000
    answer = post(odd, path, gzip.compress(data), Content_Encoding="gzip", X_Filename="z.txt")
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == len(data)
    assert (odd.folder / "in/z.txt").read_bytes() == data


def test_a_compressed_body_is_refused_where_a_digest_is_asked_for(odd: Application):
    answer = post(odd, "/in", gzip.compress(b"x"), Content_Encoding="gzip")
    assert answer.status_code == 415
    assert answer.json()["detail"]["code"] == "FB_UNSUPPORTED_CODING"


def test_what_was_looked_at_may_still_be_rejected(odd: Application):
    answer = post(odd, "/looked-at", b"bad" + DATA)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "not good"
    wait_until_empty(odd)
    assert post(odd, "/looked-at", b"good").json()["size"] == 4


def test_what_a_handler_hangs_on_does_not_outlive_the_server(own_application: Start, server: str):
    app = own_application(APP, server)
    clients = [RawClient(app) for _ in range(2)]
    clients[0].send(head("POST", "/hangs-by-hand", length=10**6) + bytes(1000))
    clients[1].send(head("POST", "/hangs-by-hand", "Transfer-Encoding: chunked"))
    for client in clients:
        time.sleep(0.2)
        client.socket.close()
    app.kill()
    assert app.published() == {}
    assert app.leftovers() == []


def test_memory_does_not_grow_with_the_body(own_application: Start, server: str):
    app = own_application(APP, server)
    post(app, "/in", b"warm")
    before = app.rss("VmHWM")
    piece = bytes(1 << 20)
    for path, status in (("/raises", 409), ("/chunks", 200)):
        client = RawClient(app)
        client.send(head("POST", path, length=150 << 20))
        for _ in range(150):
            client.send(piece)
        assert client.response()[0] == status
        client.socket.close()
    assert app.rss("VmHWM") - before < 48 << 20


# --- forms ---------------------------------------------------------------------------------------


def test_a_declared_form(odd: Application):
    answer = httpx.post(
        f"{odd.url}/form",
        data={"title": "x"},
        files=[
            ("clip", ("one.mp4", DATA)),
            ("clip", ("one.mp4", b"2")),
            ("notes", ("n.txt", b"some notes")),
        ],
    )
    told = answer.json()
    assert [clip["name"] for clip in told["clips"]] == ["clips/one.mp4", "clips/one (1).mp4"]
    assert told["notes"] == "some notes"
    assert odd.published() == {"clips/one.mp4": len(DATA), "clips/one (1).mp4": 1}
    told = httpx.get(f"{odd.url}/told").json()
    assert [one["what"] for one in told if one["what"] != "progress"] == [
        *("verify", "verify", "complete", "complete")
    ]


def test_the_files_of_a_form_are_removed_after_an_error(odd: Application):
    files = [("clip", ("one.mp4", DATA)), ("clip", ("two.mp4", b"2"))]
    answer = httpx.post(f"{odd.url}/form", data={"title": "raise"}, files=files)
    assert answer.status_code == 409
    wait_until_empty(odd)
    assert "complete" not in [one["what"] for one in httpx.get(f"{odd.url}/told").json()]


def test_a_form_beyond_its_limit_is_refused_at_its_head(odd: Application):
    client = RawClient(odd)
    kind = "Content-Type: multipart/form-data; boundary=x"
    client.send(head("POST", "/form", kind, length=10_000_001))
    assert client.response()[0] == 413
    client.socket.close()


def test_existing_handlers_get_their_form_unchanged(odd: Application):
    files: list[Any] = [("files", ("a.bin", DATA, "video/mp4")), ("files", ("b.txt", b"b"))]
    answer = httpx.post(f"{odd.url}/plain-form", data={"title": "ä"}, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "title": "ä",
        "files": [["a.bin", "video/mp4", len(DATA), len(DATA)], ["b.txt", "text/plain", 1, 1]],
        "kept_by": ["StoredUploadFile"],
    }
    wait_until_empty(odd)
    missing = httpx.post(f"{odd.url}/plain-form", files=files)
    assert missing.status_code == 422 and missing.json()["detail"][0]["loc"] == ["body", "title"]
    urlencoded = httpx.post(f"{odd.url}/small-form", data={"a": "b"})
    assert urlencoded.json() == "b"


def test_a_file_of_an_existing_form_can_be_published_without_a_copy(odd: Application):
    answer = httpx.post(f"{odd.url}/plain-form-kept", files={"file": ("k.bin", DATA)})
    assert answer.json() == {"name": "kept/k.bin"}
    assert (odd.folder / "kept/k.bin").read_bytes() == DATA


def test_a_malformed_form_is_answered_in_the_frameworks_terms(odd: Application):
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{odd.url}/plain-form", content=b"no form", headers=kind)
    assert answer.status_code == 400
    assert answer.json()["detail"]["code"] == "FB_INCOMPLETE_BODY"


def test_what_opted_in_to_nothing_is_as_it_was(odd: Application):
    assert httpx.post(f"{odd.url}/json", json={"name": "x"}).json() == {"name": "x"}
    assert httpx.post(f"{odd.url}/json", json={"nam": "x"}).status_code == 422


# --- resumable uploads on routes of the application's own ----------------------------------------

TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


def test_the_steps_of_a_resumable_upload_on_own_routes(odd: Application):
    refused = httpx.post(f"{odd.url}/mine", headers={**TUS, "Upload-Length": "5"})
    assert refused.status_code == 415
    text = {"Upload-Metadata": "filename YS50eHQ=,filetype dGV4dC9wbGFpbg=="}
    too_long = httpx.post(f"{odd.url}/mine", headers={**TUS, **text, "Upload-Length": "1001"})
    assert too_long.status_code == 413
    begun = httpx.post(f"{odd.url}/mine", headers={**TUS, **text, "Upload-Length": "10"})
    assert begun.status_code == 201
    url = odd.url + begun.headers["location"]
    assert begun.headers["location"].startswith("/mine/")
    assert httpx.patch(url, content=b"hello", headers={**APPEND, "Upload-Offset": "0"}).is_success
    assert httpx.head(url, headers=TUS).headers["upload-offset"] == "5"
    assert httpx.get(url).json()["offset"] == 5
    wrong = httpx.patch(url, content=b"x", headers={**APPEND, "Upload-Offset": "3"})
    assert wrong.status_code == 409
    done = httpx.patch(url, content=b"world", headers={**APPEND, "Upload-Offset": "5"})
    assert done.status_code == 204
    assert (odd.folder / "mine/a.txt").read_bytes() == b"helloworld"
    begun = httpx.post(f"{odd.url}/mine", headers={**TUS, **text, "Upload-Length": "10"})
    url = odd.url + begun.headers["location"]
    assert httpx.delete(url, headers=TUS).status_code == 204
    assert httpx.head(url, headers=TUS).status_code in (404, 410)
    assert httpx.get(f"{odd.url}/mine/nonsense").status_code == 404


def test_progress_of_a_resumable_upload_is_of_the_whole(odd: Application):
    text = {"Upload-Metadata": "filename YS50eHQ=,filetype dGV4dC9wbGFpbg=="}
    begun = httpx.post(f"{odd.url}/mine", headers={**TUS, **text, "Upload-Length": "10"})
    url = odd.url + begun.headers["location"]
    for offset, piece in ((0, b"hello"), (5, b"world")):
        httpx.patch(url, content=piece, headers={**APPEND, "Upload-Offset": str(offset)})
    told = httpx.get(f"{odd.url}/told").json()
    assert [one["received"] for one in told if one["what"] == "progress"][-1] == 10
    assert {one["id"] for one in told} == {url.rpartition("/")[2]}
