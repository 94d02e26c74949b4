"""What callbacks are given: the same of every way in, before and after a restart."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from library.conftest import Start
from library.running import Application
from waiting import wait_for

APP = "library.callbacks_app:app"
MARK = {"X-Mark": "here", "Cookie": "who=me; other=x"}
TUS = {"Tus-Resumable": "1.0.0", **MARK}
STREAM = {"Content-Type": "application/offset+octet-stream"}
NAME = "größer ünd schöner.txt"


def metadata(**pairs: str | bytes) -> str:
    def coded(value: str | bytes) -> str:
        data = value.encode() if isinstance(value, str) else value
        return base64.b64encode(data).decode()

    return ",".join(f"{key} {coded(value)}" for key, value in pairs.items())


class Seen:
    def __init__(self, app: Application) -> None:
        self._path = app.folder.parent / "seen"
        self._start = len(self._lines())

    def _lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def all(self, what: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._lines()[self._start :]]
        return [one for one in found if one["what"] == what]

    def last(self, what: str) -> dict[str, Any]:
        return self.all(what)[-1]


def named(name: str) -> dict[str, str]:
    quoted = "".join(f"%{octet:02X}" for octet in name.encode())
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quoted}", **MARK}


WAYS = ["/files/", "/fixed", "/moved", "/hand"]


@pytest.mark.parametrize("way", WAYS)
def test_callbacks_get_the_name_and_the_client_of_a_whole_upload(application: Start, way: str):
    """Bug: callbacks were given the stored name, and no head."""
    app = application(APP)
    for _ in range(2):  # the second is renamed, but where the handler refuses that
        seen = Seen(app)
        kind = {"Content-Type": "text/plain"}
        answer = httpx.post(app.url + way, content=b"abc", headers={**named(NAME), **kind})
    taken = 2 if way != "/moved" else 1
    assert answer.status_code < 400 or taken == 1
    given = [seen.last(what) for what in ("authorise", "verify")]
    if taken == 2:
        given.append(seen.last("complete"))
        assert given[-1]["renamed"]
        assert given[-1]["name"] not in (NAME, "fixed.bin")
    for one in given:
        assert (one["filename"], one["media_type"]) == (NAME, "text/plain")
    for one in given[1:]:
        assert one["head"] == ["POST", way, "here"]
        assert (one["principal"], one["length"]) == ("somebody", 3)
    asked = given[0]
    assert (asked["method"], asked["path"], asked["mark"], asked["client"]) == (
        "POST",
        way,
        "here",
        True,
    )
    assert asked["cookies"] == {"who": "me", "other": "x"}
    assert asked["length"] == 3
    assert {one["id"] for one in seen.all("verify") + seen.all("complete")} == {given[1]["id"]}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("C:\\Users\\me\\a b.txt", "a b.txt"),
        ("../../etc/passwd", "passwd"),
        (".hidden", ".hidden"),
        ("a\x1b[31m.txt", "a\N{REPLACEMENT CHARACTER}[31m.txt"),
        ("..", None),
    ],
)
def test_callbacks_get_a_name_that_cannot_be_stored_as_text(
    application: Start, sent: str, shown: Any
):
    app = application(APP)
    seen = Seen(app)
    answer = httpx.post(
        app.url + "/uploads/",
        content=b"abc",
        headers={**TUS, **STREAM, "Upload-Length": "3", "Upload-Metadata": metadata(filename=sent)},
    )
    assert answer.status_code == 201, answer.text
    assert seen.last("complete")["filename"] == shown
    assert "/" not in seen.last("complete")["name"]


def test_a_put_is_called_by_its_path(application: Start):
    app = application(APP)
    seen = Seen(app)
    answer = httpx.put(f"{app.url}/files/some/{NAME}?a=1&b=", content=b"abc", headers=MARK)
    assert answer.status_code == 201
    assert seen.last("complete")["filename"] == NAME
    assert seen.last("authorise")["query"] == {"a": "1", "b": ""}


def test_parts_by_content_range_are_of_one_upload(application: Start):
    app = application(APP)
    seen = Seen(app)
    url = f"{app.url}/files/parts/{NAME}"
    for first, last in ((0, 2), (3, 5)):
        headers = {**MARK, "Content-Range": f"bytes {first}-{last}/6", "Content-Type": "text/plain"}
        answer = httpx.put(url, content=b"abc", headers=headers)
    assert answer.status_code == 201, answer.text
    for what in ("authorise", "verify", "complete"):
        one = seen.last(what)
        assert (one["filename"], one["length"], one["media_type"]) == (NAME, 6, "text/plain")
    assert seen.last("authorise")["id"] == seen.last("complete")["id"]
    assert seen.last("complete")["head"] == ["PUT", f"/files/parts/{NAME}", "here"]


@pytest.mark.parametrize("way", ["/files/", "/form"])
def test_the_fields_of_a_form_are_given_with_its_files(application: Start, way: str):
    app = application(APP)
    seen = Seen(app)
    answer = httpx.post(
        app.url + way,
        data={"title": "Ein Titel", "tag": ["a", "b"]},
        files={"clip": (NAME, b"abc", "video/mp4")},
        headers=MARK,
    )
    assert answer.status_code < 300, answer.text
    fields = [["title", "Ein Titel"], ["tag", "a"], ["tag", "b"]]
    if way == "/form":
        assert answer.json() == [NAME, fields]
    for what in ("verify", "complete"):
        one = seen.last(what)
        assert (one["filename"], one["media_type"], one["fields"]) == (NAME, "video/mp4", fields)
        assert one["head"] == ["POST", way, "here"]
    assert seen.last("verify")["id"] == seen.last("complete")["id"]
    assert seen.last("progress")["fields"] == fields  # received so far: all, at the end
    assert seen.last("progress")["head"] == ["POST", way, "here"]


def begin(app: Application, path: str, **more: str) -> httpx.Response:
    given = metadata(filename=NAME, filetype="text/plain", note="schön", raw=b"\xff\x00")
    return httpx.post(
        app.url + path,
        headers={**TUS, "Upload-Length": "6", "Upload-Metadata": given, "X-User": "me", **more},
    )


def send(app: Application, location: str, offset: int, data: bytes) -> httpx.Response:
    url = location if location.startswith("http") else app.url + location
    headers = {**TUS, **STREAM, "Upload-Offset": str(offset)}
    return httpx.patch(url, content=data, headers=headers)


@pytest.mark.parametrize("path", ["/uploads/", "/own"])
def test_callbacks_of_tus_are_given_its_metadata_and_the_request_at_hand(
    application: Start, path: str
):
    app = application(APP)
    seen = Seen(app)
    begun = begin(app, path)
    assert begun.status_code == 201, begun.text
    assert seen.last("authorise")["filename"] == NAME
    location = begun.headers["location"]
    assert send(app, location, 0, b"abc").status_code == 204
    assert send(app, location, 3, b"def").status_code == 204
    wanted = {"filename": NAME, "filetype": "text/plain", "note": "schön", "raw": "ff00"}
    given = [seen.last(what) for what in ("authorise", "verify", "complete", "progress")]
    if path == "/own":
        given.append(seen.last("to"))
    for one in given:
        assert (one["filename"], one["metadata"]) == (NAME, wanted), one
        assert (one["length"], one["media_type"]) == (6, "text/plain")
    assert given[0]["action"] == "append"
    ids = {one["id"] for one in given[:4]}
    assert ids == {location.rpartition("/")[2]}
    upload = "/" + location.partition("://")[2].partition("/")[2] if "://" in location else location
    for one in given[1:4]:
        assert one["head"] == ["PATCH", upload, "here"]
    if path == "/own":
        assert given[2]["name"].startswith("of/me/")
        assert given[2]["digest"] == hashlib.sha256(b"abcdef").hexdigest()


def test_to_of_an_ietf_creation_is_given_the_upload_and_not_the_request(application: Start):
    app = application(APP)
    seen = Seen(app)
    answer = httpx.post(
        app.url + "/own",
        content=b"abc",
        headers={
            **named(NAME),
            "Upload-Draft-Interop-Version": "8",
            "Upload-Complete": "?0",
            "Upload-Length": "6",
            "Content-Type": "text/plain",
        },
    )
    assert answer.status_code == 201, answer.text
    one = seen.last("to")
    assert (one["filename"], one["length"], one["media_type"]) == (NAME, 6, "text/plain")
    assert one["metadata"] == {}


def test_the_path_is_the_one_that_was_asked_for_on_routes_of_its_own(application: Start):
    app = application(APP)
    seen = Seen(app)
    headers = {**TUS, **STREAM, "Upload-Length": "3"}
    assert httpx.post(app.url + "/own", content=b"abc", headers=headers).status_code == 201
    assert seen.last("authorise")["path"] == "/own"
    assert seen.last("complete")["head"] == ["POST", "/own", "here"]


def test_the_encoded_size_is_given(application: Start):
    app = application(APP)
    seen = Seen(app)
    coded = gzip.compress(bytes(100_000))
    headers = {"Content-Encoding": "gzip", **named("zeros")}
    assert httpx.post(f"{app.url}/files/", content=coded, headers=headers).status_code == 201
    assert seen.last("complete")["encoded"] == len(coded)


# --- what fails, and restarts ----------------------------------------------------------------


def whole(app: Application, path: str) -> None:
    headers = {**named(NAME), "Content-Type": "text/plain"}
    httpx.post(app.url + path, content=b"abcdef", headers=headers)


def tus(app: Application, path: str) -> None:
    send(app, begin(app, path).headers["location"], 0, b"abcdef")


def form(app: Application, path: str) -> None:
    files = {"clip": (NAME, b"abcdef", "text/plain")}
    httpx.post(app.url + path, data={"title": "T"}, files=files, headers=MARK)


CASES = [
    (whole, "/files/", "kill"),
    (whole, "/moved", "die"),
    (tus, "/own", "kill"),
    (tus, "/uploads/", "die"),
    (form, "/form", "die"),
    (form, "/files/", "kill"),
]


@pytest.mark.parametrize(("way", "path", "ends"), CASES)
def test_after_a_restart_on_complete_is_given_the_same(
    own_application: Start, tmp_path: Path, way: Any, path: str, ends: str
):
    app = own_application(APP)
    (tmp_path / ("fail" if ends == "kill" else "die")).touch()
    seen = Seen(app)
    try:
        way(app, path)
    except httpx.TransportError:
        assert ends == "die"
    wait_for(lambda: len(seen.all("complete")) > 0)
    if ends == "kill":
        app.kill()
        (tmp_path / "fail").unlink()
    else:
        app._wait(30)
        (tmp_path / "die").unlink()
    first, before = seen.all("complete")[0], len(seen.all("complete"))
    again = own_application(APP)
    wait_for(lambda: len(seen.all("complete")) > before)
    last = seen.all("complete")[-1]
    assert first["head"] is not None and last["head"] is None
    assert {**last, "head": first["head"]} == first
    wait_for(lambda: not again.leftovers())
    time.sleep(0.3)
    assert len(seen.all("complete")) == before + 1


def listed(app: Application, *options: str) -> str:
    command = [sys.executable, "-m", "forebay", "uploads", "list", *options, str(app.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_one_that_fails_is_called_again_until_it_returns_and_shown_meanwhile(
    own_application: Start, tmp_path: Path
):
    """Bug: it was called once and never again."""
    app = own_application(APP)
    (tmp_path / "fail").touch()
    seen = Seen(app)
    whole(app, "/files/")
    wait_for(lambda: len(seen.all("complete")) >= 2)
    [shown] = json.loads(listed(app, "--json"))
    assert shown["on_complete"]["state"] == "failing"
    assert shown["on_complete"]["last_error"] == "ValueError: not now"
    assert "on_complete failed" in listed(app)
    (tmp_path / "fail").unlink()

    wait_for(lambda: json.loads(listed(app, "--json")) == [])
    assert len({one["id"] for one in seen.all("complete")}) == 1
