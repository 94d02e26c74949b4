"""No request that speaks a resumable protocol is stored as a whole file, on any server."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from e2e.server import ServerProcess
from e2e.test_forms import file, form, post, text
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]
BODY = b"only 18 bytes here"
V3, V8 = "Upload-Draft-Interop-Version: 3", "Upload-Draft-Interop-Version: 8"

SPELLINGS: list[tuple[str, ...]] = [
    ("Tus-Resumable: 1.0.0",),
    ("Tus-Resumable: 1.0.0", "Upload-Length: 100"),
    ("tus-resumable: 0.2.2", "Upload-Length: 100"),
    ("Tus-Resumable:", "Upload-Length: 100"),
    ("Tus-Resumable: 1.0.0", "Tus-Resumable: 1.0.0", "Upload-Length: 100"),
    ("Tus-Resumable: 1.0.0", "Upload-Length: 100", "Upload-Complete: ?1"),
    ("Upload-Length: 100",),
    ("Upload-Length: 18",),
    ("Upload-Length: many",),
    ("Upload-Length:",),
    ("Upload-Length: 100", "Upload-Length: 18"),
    ("Upload-Offset: 5",),
    ("Upload-Offset: 0",),
    ("Upload-Offset:",),
    ("Upload-Metadata: filename Zg==",),
    ("Upload-Metadata:",),
    ("Upload-Concat: partial",),
    ("Upload-Concat: final;/uploads/a",),
    ("Upload-Defer-Length: 1",),
    ("Upload-Checksum: sha1 AAAA",),
    ("Upload-Complete: ?0",),
    ("Upload-Complete: 0",),
    ("Upload-Complete: false",),
    ("Upload-Complete:",),
    ("Upload-Complete: ?1", "Upload-Complete: ?0"),
    ("Upload-Complete: ?1", "Upload-Length: 100"),
    ("Upload-Complete: ?1", "Upload-Offset: 82"),
    ("Upload-Complete: ?1", "Upload-Incomplete: ?1"),
    ("Upload-Incomplete: ?1",),
    ("Upload-Incomplete: ?0",),
    (V3, "Upload-Incomplete: ?1"),
    (V3, "Upload-Incomplete: no"),
    (V3, "Upload-Complete: ?1"),
    (V8,),
    (V8, "Upload-Complete: ?0"),
    (V8, "Upload-Complete: ?1", "Upload-Offset: 82"),
    ("Upload-Draft-Interop-Version: new",),
    ("Content-Type: application/offset+octet-stream",),
    ("Content-Type: APPLICATION/PARTIAL-UPLOAD; a=b",),
    ("Content-Range: bytes 0-17/100",),
    ("Content-Range: bytes 82-99/100",),
    ("Content-Range:",),
    ("Content-Range: 0-17",),
    ("X-Content-Range: bytes 0-17/100", "Session-ID: 1"),
    ("X-Upload-Content-Length: 100",),
    ("X-Goog-Upload-Protocol: resumable", "X-Goog-Upload-Command: start"),
    ("OC-Chunked: 1", "OC-Total-Length: 100"),
    ("Upload-Complete: ?1", "X-Content-Range: bytes 0-17/100"),
    ("X-HTTP-Method: PATCH",),
    ("X-HTTP-Method-Override: PATCH",),
    ("X-HTTP-Method-Override:",),
    ("X-HTTP-Method-Override: DELETE", "Tus-Resumable: 1.0.0"),
]
"""Each with a body that is at most a part of something."""

SERVED = {"/files/": ("tus", "ietf"), "/files/new.bin": ("ietf", "content-range")}


def ask(server: ServerProcess, method: str, path: str, fields: tuple[str, ...]):
    with RawClient(server) as client:
        client.send(head(method, path, *fields, length=len(BODY)) + BODY)
        return client.response()


@pytest.mark.parametrize(("method", "path"), [("PUT", "/files/new.bin"), ("POST", "/files/")])
def test_no_part_is_stored_as_a_file(start_any: Start, method: str, path: str) -> None:
    server = start_any()
    for fields in SPELLINGS:
        status, answer, body = ask(server, method, path, fields)
        assert server.published() == {}, (fields, status)
        if status in (201, 308):  # an upload, and where to go on with it
            place = answer.get("location") or answer["content-location"]
            assert place.startswith("/uploads/"), fields
            state = json.loads(server.request("GET", place)[2])
            assert state["protocol"] in SERVED[path], fields
            assert (state["state"], state["name"] == "") == ("open", False)
            headers = {"Tus-Resumable": "1.0.0"} if state["protocol"] == "tus" else {}
            assert server.request("DELETE", place, headers=headers)[0] == 204
            continue
        assert 400 <= status < 500, (fields, status)
        problem = json.loads(body)
        assert problem["code"].startswith("FB_")
        assert len(problem["detail"]) > 25, problem
    assert server.leftovers() == []


@pytest.mark.parametrize(("method", "path"), [("PUT", "/files/new.bin"), ("POST", "/files/")])
def test_where_nothing_can_be_resumed_a_part_is_refused(
    reuse_server: Start, method: str, path: str
) -> None:
    server = reuse_server("--no-resumable")
    for fields in SPELLINGS:
        status, _, _ = ask(server, method, path, fields)
        assert 400 <= status <= 501, (fields, status)
        assert server.published() == {}, fields


@pytest.mark.parametrize("options", [(), ("--no-resumable",)])
def test_what_says_that_it_is_whole_is_stored(
    reuse_server: Start, options: tuple[str, ...]
) -> None:
    """URLSession of iOS says so with every file."""
    server = reuse_server(*options)
    harmless = [
        ("Upload-Complete: ?1",),
        ("Upload-Complete: ?1", V8),
        ("Upload-Complete: ?1", "Upload-Draft-Interop-Version: 6", "Upload-Length: 18"),
        ("Upload-Incomplete: ?0", V3),
        ("X-HTTP-Method-Override: PUT",),
        ("Range: bytes=0-4",),
        ("If-Range: *", "Prefer: return=minimal"),
    ]
    for number, fields in enumerate(harmless):
        assert ask(server, "PUT", f"/files/{number}", fields)[0] == 201, fields
    assert set(server.published().values()) == {len(BODY)}
    assert len(server.published()) == len(harmless)


CHUNKS: list[dict[str, str]] = [
    {"dzuuid": "u", "dzchunkindex": "0", "dztotalchunkcount": "3"},
    {"resumableChunkNumber": "1", "resumableTotalChunks": "3"},
    {"flowChunkNumber": "1", "flowTotalChunks": "03"},
    {"qqpartindex": "0", "qqtotalparts": "12"},
    {"name": "a.bin", "chunk": "0", "chunks": "2"},
    {"chunkNumber": "1", "totalChunks": " 3 "},
]
"""What libraries for web pages say of one piece of a file: Dropzone, Resumable.js, and others."""
QUERIES = [
    *(urlencode(fields) for fields in CHUNKS),
    "uploadId=x&partNumber=1",  # Amazon S3
    "comp=block&blockid=AAAA",  # Azure
    "uploadType=resumable&name=a.bin",  # Google
]


@pytest.mark.parametrize("before", [True, False])
def test_a_form_that_says_it_is_a_piece_of_a_file_is_refused(
    reuse_server: Start, before: bool
) -> None:
    server = reuse_server()
    for fields in CHUNKS:
        parts = [text(*field) for field in fields.items()]
        parts.insert(len(parts) if before else 0, file("blob", BODY))
        status, _, body = post(server, form(*parts))
        assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_REQUEST"), fields
        assert "one of" in json.loads(body)["detail"]
        assert (server.published(), server.leftovers()) == ({}, []), fields


@pytest.mark.parametrize(("method", "path"), [("PUT", "/files/new.bin"), ("POST", "/files/")])
def test_a_query_that_says_the_body_is_a_piece_is_refused(
    reuse_server: Start, method: str, path: str
) -> None:
    server = reuse_server()
    for query in QUERIES:
        status, _, body = ask(server, method, f"{path}?{query}", ())
        assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_REQUEST"), query
    assert post(server, form(file("a", BODY)), target=f"/files/?{QUERIES[0]}")[0] == 400
    assert server.published() == {}


def test_a_file_of_one_piece_is_whole(reuse_server: Start) -> None:
    server = reuse_server()
    said = (text("dztotalchunkcount", "1"), text("chunks", "1"), text("totalChunks", "many"))
    assert post(server, form(*said, file("a", BODY)))[0] == 201
    assert ask(server, "PUT", "/files/b?flowChunkNumber=1&flowTotalChunks=1", ())[0] == 201
    assert server.published() == {"a": 18, "b": 18}
