"""What was broken once in downloads, listings and parts: each test has its bug's name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from forebay.protocol.names import numbered
from forebay.stores.files import folders
from forebay.stores.files.store import FileStore
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]

TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
IETF = {"Upload-Draft-Interop-Version": "8", "Content-Type": "application/partial-upload"}
PART = {"Content-Range": "bytes 0-4/10"}


def test_a_tus_upload_with_content_range_published_a_part_as_the_whole(server: ServerProcess):
    creation = {**TUS, **PART, "Upload-Length": "5", "Upload-Metadata": "filename eA=="}
    status, _, body = server.request("POST", "/uploads/", b"01234", creation)
    assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_FIELD")
    del creation["Content-Range"]
    status, fields, _ = server.request("POST", "/uploads/", b"", {**creation, "Upload-Length": "5"})
    assert status == 201
    append = {**TUS, **PART, "Upload-Offset": "0"}
    status, _, body = server.request("PATCH", fields["location"], b"01234", append)
    assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_FIELD")
    assert server.published() == {}


def test_an_ietf_append_with_content_range_went_where_upload_offset_said(server: ServerProcess):
    begun = ("Upload-Draft-Interop-Version: 8", "Upload-Complete: ?0", "Upload-Length: 10")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/x", *begun, length=0))
        status, fields, _ = client.response()
    assert status == 201
    append = {**IETF, "Upload-Complete": "?0", "Upload-Offset": "0"}
    elsewhere = {**append, "Content-Range": "bytes 5-9/10"}
    status, _, body = server.request("PATCH", fields["location"], b"56789", elsewhere)
    assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_FIELD")
    _, _, body = server.request("GET", fields["location"])
    assert json.loads(body)["offset"] == 0


def test_a_folder_of_links_was_read_once_for_each_few_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in range(200):
        os.symlink("elsewhere", tmp_path / f"link-{number:03}")
    (tmp_path / "z-file").touch()
    (tmp_path / "z-folder").mkdir()
    store = FileStore(str(tmp_path), durability="relaxed", numbered=numbered)
    reads = 0
    scan = folders.os.scandir

    def counted(fd: int) -> object:
        nonlocal reads
        reads += 1
        return scan(fd)

    try:
        monkeypatch.setattr(folders.os, "scandir", counted)
        found = [info.name for info in store.list_folder("", limit=1)]
    finally:
        store.close()
    assert found == ["z-file"]
    assert reads == 1


def test_last_modified_was_later_than_the_date_of_the_answer(server: ServerProcess):
    file = server.folder / "from-the-future.txt"
    file.write_bytes(b"text")
    later = time.time() + 86400
    os.utime(file, (later, later))
    _, fields, _ = server.request("GET", "/files/from-the-future.txt")
    told = parsedate_to_datetime(fields["last-modified"])
    assert told <= parsedate_to_datetime(fields["date"])
    # What changes with each second is no strong validator.
    resumed = {"Range": "bytes=1-", "If-Range": fields["last-modified"]}
    assert server.request("GET", "/files/from-the-future.txt", headers=resumed)[0] == 200


def test_listings_led_to_names_that_cannot_be_asked_for(server: ServerProcess):
    for name in ("a\nb", "a\\b", "end ", "\u202egpj.exe", "\u200b.hidden", "\x1b[2J", "plain"):
        (server.folder / name).write_bytes(b"x")
    (server.folder / "c\rd").mkdir()
    for accept in ("application/json", "text/html"):
        _, _, body = server.request("GET", "/files/", headers={"Accept": accept})
        assert b"plain" in body
        assert b"gpj" not in body
    seen, after = [], ""
    while True:
        status, _, body = server.request("GET", f"/files/?limit=1&after={after}")
        page = json.loads(body)
        assert status == 200
        seen += page["entries"]
        if page["next"] is None:
            break
        after = "".join(f"%{octet:02x}" for octet in page["next"].encode())
    assert [entry["name"] for entry in seen] == ["plain"]
    assert server.request("GET", seen[0]["url"])[0] == 200


@pytest.mark.parametrize("limit", ["1_0", "%D9%A1", "+5", "%205", "1e3", "", "0", "9" * 5000])
def test_limit_was_whatever_python_takes_for_a_number(server: ServerProcess, limit: str):
    assert server.request("GET", f"/files/?limit={limit}")[0] == 400


def test_a_damaged_file_was_answered_with_a_broken_connection(start_server: Start):
    server = start_server("--durability", "relaxed", "--compress-at-rest", "zstd")
    text = b"".join(b"line %d of some text\n" % n for n in range(300_000))
    assert server.request("PUT", "/files/a.txt", text)[0] == 201
    file = server.folder / "a.txt"
    with open(file, "r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"\xff" * 100)
    status, _, body = server.request("GET", "/files/a.txt")
    assert (status, json.loads(body)["code"]) == (500, "FB_STORAGE_FAILED")
    ranged = server.request("GET", "/files/a.txt", headers={"Range": "bytes=5-9,1000-1009"})
    assert ranged[0] == 500
    # What is whole behind the damage can be had.
    status, _, body = server.request("GET", "/files/a.txt", headers={"Range": "bytes=-5"})
    assert (status, body) == (206, text[-5:])
    assert "Traceback" not in server.log
