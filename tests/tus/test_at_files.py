"""tus at `/files/`, where the clients of tusd look for it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import aiotus
import pytest
from tusclient.client import TusClient

from e2e.server import ServerProcess
from raw_http import RawClient, content, head
from tus.client import STREAM, ask, metadata, patch, reply_of, upload
from tus.test_clients import DATA, RELAXED, JsClient, js, modules

Start = Callable[..., ServerProcess]
__all__ = ["js", "modules"]  # fixtures


# --- clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["/files/", "/files", "/files/in/a/folder/"])
def test_tuspy_finds_it_at_files_and_goes_on_after_a_restart(
    start_server: Start, base: str
) -> None:
    server = start_server(*RELAXED)

    def uploader(**options: object):
        given = {"chunk_size": 600_000, "metadata": {"filename": "f.bin"}, **options}
        return TusClient(server.url + base).uploader(file_stream=io.BytesIO(DATA), **given)

    first = uploader()
    first.upload(stop_at=1_200_000)
    assert "/uploads/" in first.url
    path = "/uploads/" + first.url.rpartition("/")[2]
    server.kill()
    server = start_server(*RELAXED)
    second = uploader(url=f"{server.url}{path}")
    assert second.offset == 1_200_000
    second.upload()
    folder = server.folder / base.removeprefix("/files").strip("/")
    assert (folder / "f.bin").read_bytes() == DATA
    assert len(server.published()) == 1


def test_aiotus_finds_it_at_files(reuse_server: Start) -> None:
    server = reuse_server("--absolute-location")
    named = {"filename": "größe.bin".encode()}
    files = f"{server.url}/files/"
    assert asyncio.run(aiotus.upload(files, io.BytesIO(DATA), named, chunksize=700_000))
    assert (server.folder / "größe.bin").read_bytes() == DATA
    parts = [io.BytesIO(DATA[i : i + 1_000_000]) for i in range(0, len(DATA), 1_000_000)]
    files += "sub/"
    assert asyncio.run(aiotus.upload_multiple(files, parts, {"filename": b"all.bin"}))
    assert server.published() == {"größe.bin": len(DATA), "sub/all.bin": len(DATA)}
    assert (server.folder / "sub/all.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    "options",
    [
        {"chunkSize": 700_000},
        {"chunkSize": 700_000, "parallel": 3},
        {"chunkSize": 600_000, "stream": True},
        {"chunkSize": 700_000, "early": True, "override": True},
    ],
    ids=str,
)
def test_tus_js_client_finds_it_at_files(
    reuse_server: Start, js: JsClient, options: dict[str, object]
) -> None:
    server = reuse_server()
    assert "url" in js.run(server, endpoint=f"{server.url}/files/", **options)
    assert server.published() == {"f.bin": len(DATA)}
    assert (server.folder / "f.bin").read_bytes() == DATA


def test_tus_js_client_with_the_address_of_a_file_begins_anew(
    reuse_server: Start, js: JsClient
) -> None:
    """Its address of an upload at tusd, from before: there is a file of that name now."""
    server = reuse_server()
    (server.folder / "old").write_bytes(b"old")
    old = f"{server.url}/files/old"
    told = js.run(server, endpoint=f"{server.url}/files/", uploadUrl=old)
    assert told["url"].startswith(f"{server.url}/uploads/")
    assert server.published() == {"f.bin": len(DATA), "old": 3}


# --- on the wire -----------------------------------------------------------------------------


def test_a_creation_at_files_never_publishes_its_beginning(start_any: Start) -> None:
    server = start_any()
    reply = ask(server, "POST", "/files/", b"only 18 bytes here", Upload_Length=100)
    assert (reply.status, reply.fields["tus-resumable"]) == (201, "1.0.0")
    assert reply.location.startswith("/uploads/")
    assert server.published() == {}
    with_upload = {"Upload_Length": 100, "Content_Type": STREAM}
    reply = ask(server, "POST", "/files/a/b/", b"x" * 18, **with_upload)
    assert (reply.status, reply.offset) == (201, 18)
    assert server.published() == {}
    assert patch(server, reply.location, 18, b"y" * 82).status == 204
    ((name, size),) = server.published().items()
    assert (name.startswith("a/b/upload-"), size) == (True, 100)


def test_everything_of_a_creation_works_at_files(start_any: Start) -> None:
    server = start_any()
    named = {"Upload_Metadata": metadata(filename="f.txt", filetype="text/plain")}
    deferred = ask(server, "POST", "/files/", Upload_Defer_Length=1, **named)
    assert patch(server, deferred.location, 0, b"abc", Upload_Length=3).status == 204
    assert server.published() == {"f.txt": 3}
    # As of a POST to a folder, a taken name is changed.
    empty = ask(server, "POST", "/files/", Upload_Length=0, **named)
    assert (empty.status, server.published()) == (201, {"f.txt": 3, "f (1).txt": 0})
    parts = [upload(server, data, Upload_Concat="partial") for data in (b"one", b"two")]
    final = ask(server, "POST", "/files/joined/", Upload_Concat="final;" + " ".join(parts), **named)
    assert final.status == 201
    assert (server.folder / "joined/f.txt").read_bytes() == b"onetwo"
    for path in ("/files/", "/files/folder/"):
        told = ask(server, "OPTIONS", path).fields
        assert told["tus-version"] == "1.0.0"
        assert "creation-with-upload" in told["tus-extension"]
        assert "POST" in told["allow"]


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/files/name", {"Upload_Length": 3}, 405),
        ("POST", "/files/../", {"Upload_Length": 3}, 400),
        ("POST", "/files/.hidden/", {"Upload_Length": 3}, 400),
        ("POST", "/files/", {}, 400),
        ("POST", "/files/", {"Upload_Length": -3}, 400),
        ("POST", "/files/", {"Upload_Length": 9, "Upload_Offset": 6, "Content_Type": STREAM}, 400),
        ("POST", "/uploads/", {"Upload_Length": 9, "Upload_Offset": 6}, 400),
        ("POST", "/files/", {"Upload_Length": 3, "Upload_Checksum": "junk"}, 400),
        ("PUT", "/files/new", {"Upload_Length": 3}, 400),
        ("PUT", "/files/", {"Upload_Length": 3}, 405),
        ("PATCH", "/files/kept", {"Upload_Offset": 0, "Content_Type": STREAM}, 404),
        ("PATCH", "/files/none", {"Upload_Offset": 0, "Content_Type": STREAM}, 404),
        ("HEAD", "/files/kept", {}, 404),
        ("HEAD", "/files/none", {}, 404),
        ("DELETE", "/files/kept", {}, 404),
        ("POST", "/files/kept", {"X_HTTP_Method_Override": "DELETE"}, 404),
        ("GET", "/files/kept", {"X_HTTP_Method_Override": "DELETE"}, 404),
        ("POST", "/files/", {"X_HTTP_Method_Override": "BREW"}, 400),
    ],
)
def test_what_tus_cannot_do_at_files_is_refused(
    start_any: Start, method: str, path: str, fields: dict[str, str | int], status: int
) -> None:
    server = start_any("--allow-delete")
    (server.folder / "kept").write_bytes(b"kept")
    if fields.get("Upload_Checksum"):
        fields = {**fields, "Content_Type": STREAM}
    body = None if method in ("HEAD", "GET", "DELETE") else b"abc"
    reply = ask(server, method, path, body, **fields)
    assert reply.status == status, reply
    assert server.published() == {"kept": 4}
    assert server.leftovers() == []


def test_another_or_a_missing_version_is_told_which_one_is_spoken(start_any: Start) -> None:
    server = start_any()
    for version in ("0.2.2", None, ""):
        reply = ask(server, "POST", "/files/", b"abc", version=version, Upload_Length=3)
        assert (reply.status, reply.fields["tus-version"]) == (412, "1.0.0")
    two = ("Tus-Resumable: 1.0.0", "Tus-Resumable: 1.0.0", "Upload-Length: 3")
    with RawClient(server) as client:
        client.send(head("POST", "/files/", *two, length=3) + b"abc")
        assert reply_of(client).status == 400
    assert server.published() == {}


def test_a_download_may_carry_the_fields_of_tus(start_any: Start) -> None:
    server = start_any()
    (server.folder / "kept").write_bytes(b"kept")
    assert ask(server, "GET", "/files/kept").body == b"kept"


def test_an_upload_of_files_survives_the_process(start_server: Start) -> None:
    server = start_server(*RELAXED)
    data = content(300_000)
    begun = ask(
        server, "POST", "/files/deep/", data[:9], Upload_Length=300_000, Content_Type=STREAM
    )
    server.kill()
    server = start_server(*RELAXED)
    assert patch(server, begun.location, 9, data[9:]).status == 204
    (path,) = Path(server.folder, "deep").iterdir()
    assert path.read_bytes() == data


def test_where_no_upload_can_be_resumed_tus_is_told_so(reuse_server: Start) -> None:
    server = reuse_server("--no-resumable")
    reply = ask(server, "POST", "/files/", b"only 18 bytes here", Upload_Length=100)
    assert reply.status == 400
    assert b"send the whole file" in reply.body
    assert server.published() == {}


@pytest.mark.parametrize("path", ["/uploads/", "/files/", "/files/sub/"])
def test_a_form_in_the_body_of_a_creation_is_refused_and_not_ignored(
    reuse_server: Start, path: str
) -> None:
    server = reuse_server()
    for kind in ("multipart/form-data; boundary=B", "Multipart/Form-Data, boundary=B"):
        reply = ask(server, "POST", path, body=b"--B--", Upload_Length=5, Content_Type=kind)
        assert reply.status in (400, 415), (path, kind)
        assert "location" not in reply.fields
    assert server.published() == {}
