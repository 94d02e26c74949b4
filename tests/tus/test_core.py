"""tus 1.0, core protocol: versions, HEAD, PATCH, OPTIONS (items 1 to 42, 116 to 118)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content
from tus.client import (
    STREAM,
    ask,
    create,
    head,
    metadata,
    patch,
    patch_head,
    reply_of,
    request_head,
    upload,
)

Start = Callable[..., ServerProcess]


# --- A. versions and fields ------------------------------------------------------------------


def test_every_answer_carries_the_version(start_any: Start) -> None:
    """Items 1 and 118."""
    server = start_any()
    path = create(server, 3)
    replies = [
        ask(server, "POST", Upload_Length="x"),
        ask(server, "POST", path),
        ask(server, "PUT", path, b"x"),
        ask(server, "GET", path),
        ask(server, "GET"),
        head(server, path),
        patch(server, path, 1, b"x"),
        patch(server, path, 0, b"abc"),
        ask(server, "PATCH", path),
        head(server, "/uploads/" + "x" * 32),
        ask(server, "HEAD", "/uploads/../x"),
        ask(server, "DELETE", "/uploads/" + "x" * 32),
    ]
    assert [r.status for r in replies] == [
        400, 405, 405, 200, 405, 200, 409, 204, 415, 404, 404, 404
    ]  # fmt: skip
    assert {r.fields.get("tus-resumable") for r in replies} == {"1.0.0"}
    assert all("allow" in r.fields for r in replies if r.status == 405)


@pytest.mark.parametrize("version", ["0.2.2", "1.0.1", "2", "", None])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_another_version_is_refused_and_does_nothing(
    start_any: Start, method: str, version: str | None
) -> None:
    """Items 2 and 3."""
    server = start_any()
    path = create(server, 3)
    target = "/uploads/" if method == "POST" else path
    fields = {"Upload_Length": 3} if method == "POST" else {}
    if method == "PATCH":
        fields = {"Upload_Offset": 0, "Content_Type": STREAM}
    before = len(server.leftovers())
    body = b"abc" if method == "PATCH" else None
    reply = ask(server, method, target, body, version=version, **fields)
    assert (reply.status, reply.fields["tus-version"]) == (412, "1.0.0")
    assert head(server, path).offset == 0
    assert len(server.leftovers()) == before


def test_head_needs_no_version_but_a_wrong_one_is_refused(start_any: Start) -> None:
    """Item 4."""
    server = start_any()
    path = create(server, 3)
    reply = ask(server, "HEAD", path, version=None)
    assert (reply.status, reply.offset, reply.fields["tus-resumable"]) == (200, 0, "1.0.0")
    assert ask(server, "HEAD", path, version="0.1").status == 412


@pytest.mark.parametrize("version", [None, "1.0.0", "0.0.1"])
@pytest.mark.parametrize("path", ["/uploads", "/uploads/", "/uploads/" + "x" * 32])
def test_options_tells_everything_to_anybody(
    start_any: Start, path: str, version: str | None
) -> None:
    """Items 5 to 8, 39 to 41, 43, 55, 64, 73, 82, 83, 96 and 101."""
    server = start_any("--max-size", "1000")
    reply = ask(server, "OPTIONS", path, version=version)
    assert reply.status == 200
    assert reply.fields["tus-version"] == "1.0.0"
    assert reply.fields["tus-max-size"] == "1000"
    assert reply.fields["tus-checksum-algorithm"].startswith("sha1,sha256,sha512,md5,crc32")
    extensions = set(reply.fields["tus-extension"].split(","))
    assert extensions >= {
        "creation",
        "creation-defer-length",
        "creation-with-upload",
        "expiration",
        "checksum",
        "termination",
        "concatenation",
        "concatenation-unfinished",
    }


def test_no_maximum_is_told_where_there_is_none(server: ServerProcess) -> None:
    """Item 8."""
    assert "tus-max-size" not in ask(server, "OPTIONS").fields


def test_a_post_can_stand_for_another_method(start_any: Start) -> None:
    """Item 9."""
    server = start_any("--allow-delete")
    path = create(server, 3)

    def post(method: str, body: bytes | None = None, **fields: str | int):
        return ask(server, "POST", path, body, X_HTTP_Method_Override=method, **fields)

    reply = post("PATCH", b"ab", Upload_Offset=0, Content_Type=STREAM)
    assert (reply.status, reply.offset) == (204, 2)
    assert post("head").offset == 2
    for unknown in ("PUT", "", "PATCH, DELETE", "TRACE"):
        assert post(unknown).status == 400
    assert json.loads(post("GET").body)["offset"] == 2
    assert "tus-version" in post("options").fields
    assert post("DELETE").status == 204
    assert head(server, path).status == 404


@pytest.mark.parametrize("sent", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"])
def test_the_actual_method_does_not_count_beside_an_override(start_any: Start, sent: str) -> None:
    """Item 9."""
    server = start_any()
    made = ask(server, sent, body=b"", Upload_Length=3, X_HTTP_Method_Override="POST")
    assert made.status == 201, made
    path = made.location

    def override(method: str, body: bytes | None = None, **fields: str | int):
        return ask(server, sent, path, body, X_HTTP_Method_Override=method, **fields)

    assert override("Patch", b"ab", Upload_Offset=0, Content_Type=STREAM).status == 204
    assert override("HEAD").offset == 2
    assert json.loads(ask(server, "GET", path, version=None).body)["offset"] == 2
    assert override("DELETE").status == 204
    assert ask(server, "HEAD", path).status == 404


def test_an_override_counts_for_tus_alone(start_any: Start) -> None:
    """Item 9: neither for a file nor for another protocol."""
    server = start_any("--allow-delete")
    (server.folder / "kept").write_bytes(b"kept")
    delete = {"X-HTTP-Method-Override": "DELETE"}
    assert server.request("GET", "/files/kept", headers=delete)[::2] == (200, b"kept")
    for method, path in (("POST", "/files/"), ("PUT", "/files/new"), ("PUT", "/files/kept")):
        assert server.request(method, path, b"x", delete)[0] == 400
    assert server.request("POST", "/files/", b"x", {"X-HTTP-Method-Override": "post"})[0] == 201
    draft = {"Upload-Complete": "?0"}
    begun = server.request("POST", "/uploads/", b"ab", draft)
    assert begun[0] == 201
    assert server.request("POST", "/uploads/", b"ab", draft | delete)[0] == 400
    path = begun[1]["location"]
    assert server.request("HEAD", path, headers=delete)[0] == 412  # and tells what it needs
    assert server.request("HEAD", path)[1]["upload-offset"] == "2"
    assert server.request("DELETE", path)[0] == 204
    assert (server.folder / "kept").read_bytes() == b"kept"


NO_NUMBERS = ["-1", "+1", "1 2", "1e3", "0x10", "", "1.0", "9223372036854775808", "007", "٣", "1,1"]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_only_plain_numbers_are_lengths_and_offsets(reuse_server: Start, value: str) -> None:
    """Items 10 and 11."""
    server = reuse_server()
    path = create(server)
    for request in (
        request_head("POST", "/uploads/", f"Upload-Length: {value}"),
        request_head(
            "PATCH", path, f"Upload-Offset: {value}", f"Content-Type: {STREAM}", "Content-Length: 0"
        ),
        patch_head(path, 0, f"Upload-Length: {value}", "Content-Length: 0"),
    ):
        with RawClient(server) as client:
            client.send(request)
            assert reply_of(client).status == 400, request


@pytest.mark.parametrize(
    "field",
    ["Upload-Length: 3", "Upload-Metadata: a", "Upload-Concat: partial", "Tus-Resumable: 1.0.0"],
)
def test_a_field_that_comes_twice_is_refused(reuse_server: Start, field: str) -> None:
    """Item 12."""
    server = reuse_server()
    with RawClient(server) as client:
        client.send(request_head("POST", "/uploads/", "Upload-Length: 3", field, field))
        assert reply_of(client).status == 400
    assert field != "Upload-Length: 3" or not server.published()


# --- B. HEAD ---------------------------------------------------------------------------------


def test_head_tells_where_an_upload_stands(start_any: Start) -> None:
    """Items 13, 14, 16, 17, 19 and 21."""
    server = start_any()
    told = metadata(filename="größe.bin", other="x") + ",empty,  spaced  eA=="
    path = create(server, 5, Upload_Metadata=told)
    for offset, piece in ((0, b"ab"), (2, b"cde"), (5, None)):
        reply = head(server, path)
        assert (reply.status, reply.offset) == (200, offset)
        assert reply.fields["upload-length"] == "5"
        assert reply.fields["cache-control"] == "no-store"
        assert reply.fields["upload-metadata"] == told
        assert "upload-defer-length" not in reply.fields
        assert "content-length" not in reply.fields
        if piece:
            assert patch(server, path, offset, piece).status == 204


def test_head_tells_that_the_length_is_not_known(start_any: Start) -> None:
    """Items 15 and 57."""
    server = start_any()
    reply = head(server, create(server))
    assert reply.fields["upload-defer-length"] == "1"
    assert "upload-length" not in reply.fields
    assert reply.offset == 0


def test_head_of_what_is_not_there_has_no_offset_and_no_body(start_any: Start) -> None:
    """Items 18 and 116."""
    server = start_any()
    for path in ("/uploads/" + "x" * 32, "/uploads/x", "/uploads/a%2fb"):
        reply = head(server, path)
        assert reply.status == 404
        assert "upload-offset" not in reply.fields
        assert reply.body == b""


# --- C. PATCH --------------------------------------------------------------------------------


def test_chunks_become_the_file(start_any: Start) -> None:
    """Items 26, 27 and 68."""
    server = start_any()
    data = content(700_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f.bin"))
    for start in range(0, len(data), 100_000):
        assert server.published() == {}
        reply = patch(server, path, start, data[start : start + 100_000])
        assert (reply.status, reply.offset, reply.body) == (204, start + 100_000, b"")
    assert (server.folder / "f.bin").read_bytes() == data
    assert patch(server, "/uploads/" + "x" * 32, 0, b"x").status == 404


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        (STREAM, 204),
        ("Application/Offset+Octet-Stream", 204),
        (f"{STREAM}; charset=x", 204),
        ("application/octet-stream", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_a_patch_needs_its_media_type(
    reuse_server: Start, media_type: str | None, status: int
) -> None:
    """Item 23."""
    server = reuse_server()
    path = create(server, 9)
    given = [f"Content-Type: {media_type}"] if media_type is not None else []
    with RawClient(server) as client:
        client.send(
            request_head("PATCH", path, "Upload-Offset: 0", "Content-Length: 1", *given) + b"x"
        )
        assert reply_of(client).status == status
    assert head(server, path).offset == (status == 204)


def test_a_patch_needs_an_offset_and_it_must_be_the_current_one(start_any: Start) -> None:
    """Items 24 and 25."""
    server = start_any()
    path = create(server, 9)
    assert patch(server, path, 0, b"abc").status == 204
    assert ask(server, "PATCH", path, b"x", Content_Type=STREAM).status == 400
    for wrong in (0, 2, 4, 9, 10**18):
        reply = patch(server, path, wrong, b"x")
        assert (reply.status, reply.offset) == (409, 3)
        assert json.loads(reply.body)["code"] == "FB_OFFSET_MISMATCH"
    assert head(server, path).offset == 3


def test_no_more_is_taken_than_the_length(start_any: Start) -> None:
    """Item 30."""
    server = start_any()
    path = create(server, 5)
    assert patch(server, path, 0, b"123456").status == 413
    assert head(server, path).offset == 0
    assert patch(server, path, 0, b"123").status == 204
    assert patch(server, path, 3, b"456").status == 413
    assert head(server, path).offset == 3
    assert server.published() == {}


def test_what_fits_of_a_chunked_body_that_is_too_long_is_kept(server: ServerProcess) -> None:
    """Item 30: the rest is refused, and the file is the first bytes, whole."""
    path = create(server, 5, Upload_Metadata=metadata(filename="five"))
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Transfer-Encoding: chunked") + chunked([b"1234", b"5678"]))
        assert reply_of(client).status == 413
    reply = head(server, path)
    assert (reply.status, reply.offset) == (200, 5)
    assert (server.folder / "five").read_bytes() == b"12345"


def test_an_empty_patch_changes_nothing(start_any: Start) -> None:
    """Items 32 and 34."""
    server = start_any()
    path = create(server, 3)
    for _ in range(2):
        reply = patch(server, path, 0, b"")
        assert (reply.status, reply.offset) == (204, 0)
    assert ask(server, "PATCH", path, Upload_Offset=0, Content_Type=STREAM).status == 204


def test_a_finished_upload_takes_nothing_more(server: ServerProcess) -> None:
    """Item 33: an empty one, announced or chunked, is told again; more is too much."""
    path = upload(server, b"abc", Upload_Metadata=metadata(filename="abc"))
    before = (server.folder / "abc").stat()
    for _ in range(2):
        reply = patch(server, path, 3, b"")
        assert (reply.status, reply.offset) == (204, 3)
    assert patch(server, path, 3, b"d").status == 413
    assert patch(server, path, 0, b"abc").status == 409
    for body, status in (([], 204), ([b"d"], 413)):
        with RawClient(server) as client:
            client.send(patch_head(path, 3, "Transfer-Encoding: chunked") + chunked(body))
            assert reply_of(client).status == status
    assert (server.folder / "abc").read_bytes() == b"abc"
    assert (server.folder / "abc").stat().st_ino == before.st_ino
    assert list(server.published()) == ["abc"]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_compressed_content_is_refused(start_any: Start, coding: str) -> None:
    """Item 38."""
    server = start_any()
    path = create(server, 9)
    assert patch(server, path, 0, b"x", Content_Encoding=coding).status == 415
    assert head(server, path).offset == 0
    assert patch(server, path, 0, b"x", Content_Encoding="identity").status == 204


def test_100_continue_comes_only_to_what_will_be_read(server: ServerProcess) -> None:
    """Items 35 and 72."""
    path = create(server, 3)
    expect = ("Expect: 100-continue", "Content-Length: 3")
    stream = (f"Content-Type: {STREAM}", *expect)
    for request, status in (
        (patch_head(path, 1, *expect), 409),
        (patch_head(path, 0, *expect, "Content-Encoding: gzip"), 415),
        (patch_head(path, 0, *expect, "Upload-Checksum: what eA=="), 400),
        (request_head("POST", "/uploads/", "Upload-Length: 2", *stream), 413),
    ):  # fmt: skip
        with RawClient(server) as client:
            client.send(request)
            assert client.head()[0] == status
    with RawClient(server) as client:
        client.send(patch_head(path, 0, *expect))
        assert client.head()[0] == 100
        client.send(b"abc")
        assert reply_of(client).offset == 3
    with RawClient(server) as client:
        client.send(
            request_head(
                "POST", "/uploads/", "Upload-Length: 3", f"Content-Type: {STREAM}", *expect
            )
        )
        assert client.head()[0] == 100
        client.send(b"abc")
        assert reply_of(client).offset == 3


# --- D. OPTIONS and CORS ---------------------------------------------------------------------


def test_a_page_of_an_allowed_origin_can_do_everything(start_any: Start) -> None:
    """Item 42."""
    server = start_any("--allow-origin", "https://app.example")
    wanted = "tus-resumable,upload-length,upload-metadata,upload-offset,x-request-id,authorization"
    reply = ask(
        server,
        "OPTIONS",
        version=None,
        Origin="https://app.example",
        Access_Control_Request_Method="PATCH",
        Access_Control_Request_Headers=wanted,
    )
    assert reply.status == 200
    assert reply.fields["access-control-allow-headers"] == wanted
    methods = set(reply.fields["access-control-allow-methods"].split(", "))
    assert methods >= {"POST", "HEAD", "PATCH", "DELETE", "GET", "OPTIONS"}
    reply = ask(server, "POST", Upload_Length=1, Origin="https://app.example")
    assert reply.fields["access-control-allow-origin"] == "https://app.example"
    assert "Origin" in reply.fields["vary"]
    exposed = set(reply.fields["access-control-expose-headers"].lower().split(", "))
    assert exposed >= {
        "location",
        "tus-resumable",
        "tus-version",
        "tus-extension",
        "tus-max-size",
        "tus-checksum-algorithm",
        "upload-offset",
        "upload-length",
        "upload-defer-length",
        "upload-metadata",
        "upload-concat",
        "upload-expires",
    }
    assert ask(server, "POST", Upload_Length=1, Origin="https://evil.example").status == 403


def test_an_error_has_a_code_and_a_sentence(start_any: Start) -> None:
    """Item 116."""
    server = start_any()
    reply = ask(server, "POST", Upload_Length=-1)
    problem = json.loads(reply.body)
    assert (problem["status"], problem["code"]) == (400, "FB_INVALID_FIELD")
    assert problem["detail"]


def test_a_get_tells_the_state_and_disturbs_nobody(server: ServerProcess) -> None:
    """Item 117: the file itself is under /files/, once it is whole."""
    path = create(server, 5, Upload_Metadata=metadata(filename="x.bin"))
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Content-Length: 5") + b"ab")
        told = json.loads(ask(server, "GET", path, version=None).body)
        assert told["state"] == "open" and told["length"] == 5
        assert server.request("GET", "/files/x.bin")[0] == 404
        client.send(b"cde")
        assert reply_of(client).status == 204
    told = json.loads(ask(server, "GET", path, version=None).body)
    assert (told["state"], told["offset"], told["name"]) == ("complete", 5, "x.bin")
    assert server.request("GET", "/files/x.bin")[2] == b"abcde"
