"""Files that come in parts, on each server that can run the application."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from partial.client import ask, begin_and_stall, part, put
from raw_http import RawClient, chunked, content, head

BODY = content(700_000)
SIZE = len(BODY)
Start = Callable[..., ServerProcess]


def cancel(server: ServerProcess, name: str) -> None:
    """So that nothing of a test is in the way of the next one."""
    location = ask(server, f"/files/{name}").fields["content-location"]
    assert server.request("DELETE", location)[0] == 204


def test_a_file_in_parts_by_its_name(start_any: Start) -> None:
    server = start_any()
    first = part(server, "/files/a/f.bin", BODY, 0, 300_000, Content_Type="text/x")
    assert (first.status, first.received) == (308, 300_000)
    assert "location" not in first.fields  # many clients would send the part there again
    assert first.fields["content-location"].startswith("/uploads/")
    assert (first.json["offset"], first.json["length"]) == (300_000, SIZE)
    assert server.published() == {}
    second = part(server, "/files/a/f.bin", BODY, 300_000, 300_001, method="PATCH")
    assert (second.status, second.received) == (308, 300_001)
    asked = ask(server, "/files/a/f.bin", SIZE)
    assert (asked.status, asked.received, asked.body) == (308, 300_001, second.body)
    last = part(server, "/files/a/f.bin", BODY, 300_001, SIZE)
    assert (last.status, last.fields["location"]) == (201, "/files/a/f.bin")
    assert (last.json["size"], last.json["type"]) == (SIZE, "text/x")
    assert (server.folder / "a/f.bin").read_bytes() == BODY
    for again in (
        ask(server, "/files/a/f.bin", SIZE),
        part(server, "/files/a/f.bin", BODY, 300_001, SIZE),
    ):  # the answer was lost
        assert (again.status, again.body) == (201, last.body)
    assert server.leftovers() == []


def test_a_file_in_parts_by_the_address_of_its_upload(start_any: Start) -> None:
    server = start_any()
    location = part(server, "/files/f", BODY, 0, 10).fields["content-location"]
    assert part(server, location, BODY, 10, 20, method="PATCH").received == 20
    assert ask(server, location).received == 20
    status, fields, _ = server.request("HEAD", location)
    assert (status, fields["range"]) == (200, "bytes=0-19")
    status, _, body = server.request("GET", location)
    assert (status, json.loads(body)["protocol"]) == (200, "content-range")
    assert part(server, "/files/f", BODY, 20, 30).received == 30
    assert part(server, location, BODY, 30, SIZE).status == 201
    assert ask(server, location, SIZE).status == 201
    assert (server.folder / "f").read_bytes() == BODY


def test_a_single_part_is_the_whole_file(start_any: Start) -> None:
    server = start_any()
    for method in ("PUT", "PATCH"):
        reply = part(server, f"/files/{method}", BODY, 0, SIZE, method=method)
        assert (reply.status, reply.fields["location"]) == (201, f"/files/{method}")
        assert (server.folder / method).read_bytes() == BODY
        again = part(server, f"/files/{method}", BODY, 0, SIZE, method=method)
        assert (again.status, again.code) == (409, "FB_NAME_TAKEN")
    assert server.leftovers() == []


@pytest.mark.parametrize("how", ["by the last part", "by a question"])
def test_the_total_may_be_told_late(start_any: Start, how: str) -> None:
    server = start_any()
    assert part(server, "/files/f", BODY, 0, 100, "*").json["length"] is None
    assert part(server, "/files/f", BODY, 100, 200, "*").received == 200
    assert ask(server, "/files/f", 150).code == "FB_INCONSISTENT_LENGTH"
    assert ask(server, "/files/f", 500).status == 308
    if how == "by the last part":
        last = part(server, "/files/f", BODY, 200, 300, 300)
    else:
        assert part(server, "/files/f", BODY, 200, 300, "*").status == 308
        last = ask(server, "/files/f", 300)
    assert last.status == 201
    assert (server.folder / "f").read_bytes() == BODY[:300]


def test_gaps_and_overlaps_are_told_where_to_go_on(start_any: Start) -> None:
    server = start_any()
    reply = part(server, "/files/f", BODY, 5, 10)
    assert (reply.status, reply.code) == (409, "FB_OFFSET_MISMATCH")
    assert (reply.received, reply.json["expected-offset"]) == (0, 0)
    location = part(server, "/files/f", BODY, 0, 100).fields["content-location"]
    for target in ("/files/f", location):
        for start in (1, 99, 101, 500):
            reply = part(server, target, BODY, start, start + 50)
            assert (reply.status, reply.code) == (409, "FB_OFFSET_MISMATCH")
            assert (reply.received, reply.json["expected-offset"]) == (100, 100)
            assert reply.fields["location"] == location
    assert part(server, location, BODY, 0, 100).code == "FB_OFFSET_MISMATCH"
    assert part(server, "/files/f", BODY, 100, SIZE).status == 201
    assert (server.folder / "f").read_bytes() == BODY


def test_who_begins_while_another_lives_is_refused(start_any: Start) -> None:
    server = start_any()
    location = part(server, "/files/f", BODY, 0, 100).fields["content-location"]
    for stop, total in ((100, SIZE), (50, 70), (SIZE, SIZE), (10, "*")):
        reply = part(server, "/files/f", BODY, 0, stop, total)
        assert (reply.status, reply.code) == (409, "FB_UPLOAD_EXISTS")
        assert (reply.received, reply.fields["location"]) == (100, location)
    assert ask(server, "/files/f").received == 100
    assert server.request("DELETE", location)[0] == 204
    gone = ask(server, "/files/f")
    assert (gone.status, gone.code) == (404, "FB_NOT_FOUND")
    assert part(server, "/files/f", BODY, 0, 50, 50).status == 201
    assert (server.folder / "f").read_bytes() == BODY[:50]


def test_a_total_that_changes_is_refused(start_any: Start) -> None:
    server = start_any()
    part(server, "/files/f", BODY, 0, 100)
    for reply in (
        part(server, "/files/f", BODY, 100, 200, SIZE + 1),
        part(server, "/files/f", BODY, 100, 200, 200),
        ask(server, "/files/f", SIZE + 1),
    ):
        assert (reply.status, reply.code) == (400, "FB_INCONSISTENT_LENGTH")
    assert ask(server, "/files/f", SIZE).received == 100
    # the length that is known ends it, also when a part does not tell it
    assert part(server, "/files/f", BODY, 100, SIZE, "*").status == 201


def test_what_contradicts_itself_stores_nothing(start_any: Start) -> None:
    server = start_any()
    for value, body in (
        ("bytes 5-3/10", b""),
        ("bytes 0-9/5", b"0123456789"),
        ("bytes 0-9/20", b"01234"),
        ("items 0-4/20", b"01234"),
        ("bytes */20", b"01234"),
        ("junk", b"01234"),
    ):
        for method in ("PUT", "PATCH"):
            reply = put(server, "/files/f", value, body, method)
            assert (reply.status, reply.code) == (400, "FB_INVALID_FIELD"), value
    for extra in (
        {"Tus_Resumable": "1.0.0"},
        {"Upload_Complete": "?1"},
        {"Upload_Offset": "0"},
    ):
        assert put(server, "/files/f", "bytes 0-0/1", b"x", **extra).status == 400
    assert put(server, "/files/f", "bytes 0-0/1", b"x", Content_Encoding="gzip").status == 415
    with RawClient(server) as client:
        twice = ("Content-Range: bytes 0-0/1",) * 2
        client.send(head("PUT", "/files/f", *twice, length=1) + b"x")
        assert client.response()[0] == 400
    with RawClient(server) as client:
        fields = ("Content-Range: bytes 0-0/1", "Transfer-Encoding: chunked")
        client.send(head("PUT", "/files/f", *fields) + chunked([b"x"]))
        assert client.response()[0] == 411
    for target in ("/files/", "/uploads/"):
        assert put(server, target, "bytes 0-0/1", b"x").status == 405
    assert ask(server, "/files/f").status == 404
    assert server.published() == {}
    assert server.leftovers() == []


def test_only_its_own_uploads_take_parts(start_any: Start) -> None:
    server = start_any()
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    location = server.request("POST", "/uploads/", b"", tus)[1]["location"]
    reply = put(server, location, "bytes 0-4/10", b"01234")
    assert (reply.status, reply.code) == (409, "FB_WRONG_STATE")
    assert server.request("DELETE", location, None, {"Tus-Resumable": "1.0.0"})[0] == 204
    assert put(server, "/uploads/" + "A" * 32, "bytes 0-4/10", b"01234").status == 404


def test_what_a_put_is_refused_for_a_first_part_is(start_any: Start) -> None:
    server = start_any("--max-size", "1MB", "--accept-types", "text/*")
    text = {"Content_Type": "text/plain"}
    assert part(server, "/files/f", BODY, 0, 10, 1_000_001, **text).code == "FB_TOO_LARGE"
    assert part(server, "/files/f", BODY, 0, 10).code == "FB_UNSUPPORTED_MEDIA_TYPE"
    assert part(server, "/files/.f", BODY, 0, 10, **text).code == "FB_INVALID_NAME"
    assert part(server, "/files/f", BODY, 0, 10, **text, If_Match="*").status == 412
    server.request("PUT", "/files/taken", b"x", {"Content-Type": "text/plain"})
    assert part(server, "/files/taken", BODY, 0, 10, **text).code == "FB_NAME_TAKEN"
    assert part(server, "/files/taken/f", BODY, 0, 10, **text).code == "FB_NOT_A_FOLDER"
    assert part(server, "/files/f", BODY, 0, 600_000, "*", **text).status == 308
    late = part(server, "/files/f", BODY, 600_000, 700_000, 1_000_001)
    assert late.code == "FB_TOO_LARGE"
    cancel(server, "f")
    assert server.leftovers() == []


def test_digests_of_a_part_and_of_the_whole(start_any: Start) -> None:
    def sha(data: bytes) -> str:
        return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"

    server = start_any()
    wrong = part(server, "/files/f", BODY, 0, 100, Content_Digest=sha(b"other"))
    assert (wrong.status, wrong.code) == (400, "FB_DIGEST_MISMATCH")
    assert server.leftovers() == []
    whole = {"Repr_Digest": sha(BODY), "Want_Repr_Digest": "sha-256=1"}
    assert part(server, "/files/f", BODY, 0, 100, Content_Digest=sha(BODY[:100]), **whole).received
    wrong = part(server, "/files/f", BODY, 100, SIZE, Content_Digest=sha(BODY))
    assert wrong.code == "FB_DIGEST_MISMATCH"
    assert ask(server, "/files/f").received == 100
    last = part(server, "/files/f", BODY, 100, SIZE, Content_Digest=sha(BODY[100:]))
    assert (last.status, "repr-digest" in last.fields) == (201, False)
    assert f"sha-256=:{last.json['digest']['sha-256']}:" == sha(BODY)
    assert part(server, "/files/g", BODY, 0, 100, **whole).status == 308
    bad = part(server, "/files/g", BODY[:100] + BODY[:100] + BODY[200:], 100, SIZE)
    assert (bad.status, bad.code) == (400, "FB_DIGEST_MISMATCH")
    assert ask(server, "/files/g").status == 410
    assert part(server, "/files/g", BODY, 0, SIZE, **whole).status == 201
    assert (server.folder / "g").read_bytes() == BODY


@pytest.mark.parametrize("name", ["Repr-Digest", "X-Checksum-Sha256"])
def test_a_digest_of_the_file_counts_whichever_part_tells_it(start_any: Start, name: str) -> None:
    def told(data: bytes) -> dict[str, str]:
        digest = hashlib.sha256(data)
        structured = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        return {name: structured if name == "Repr-Digest" else digest.hexdigest()}

    server = start_any()
    assert part(server, "/files/f", BODY, 0, 100).status == 308
    bad = part(server, "/files/f", BODY, 100, SIZE, **told(b"other"))
    assert (bad.status, bad.code) == (400, "FB_DIGEST_MISMATCH")
    assert (server.published(), server.leftovers()) == ({}, [])
    assert part(server, "/files/g", BODY, 0, 100).status == 308
    assert part(server, "/files/g", BODY, 100, 200, **told(BODY)).status == 308
    for other in (told(b"other"), {name: "sha-256=junk"}):
        bad = part(server, "/files/g", BODY, 200, SIZE, **other)
        assert (bad.status, bad.code) == (400, "FB_INVALID_FIELD")
    assert ask(server, "/files/g").received == 200
    assert part(server, "/files/g", BODY, 200, SIZE, **told(BODY)).status == 201
    assert (server.folder / "g").read_bytes() == BODY


def test_a_cut_part_keeps_its_prefix(start_any: Start) -> None:
    server = start_any()
    with begin_and_stall(server, "/files/f", BODY, 0, 200_000):
        pass
    deadline = time.monotonic() + 30
    while (reply := ask(server, "/files/f")).status != 308:  # it has not begun yet
        assert time.monotonic() < deadline, reply
    got = reply.received
    assert 0 < got <= 200_000
    assert part(server, "/files/f", BODY, got, SIZE).status == 201
    assert (server.folder / "f").read_bytes() == BODY


def test_the_question_ends_a_stalled_part_and_tells_an_offset_that_fits(start_any: Start) -> None:
    server = start_any()
    part(server, "/files/f", BODY, 0, 100)
    with begin_and_stall(server, "/files/f", BODY, 100, 200_000) as stalled:
        # it may not have begun when the first question comes; it ends at the latest then
        offset = ask(server, "/files/f").received
        assert 100 <= offset <= 200_000
        assert part(server, "/files/f", BODY, offset, SIZE).status == 201
        assert stalled.response()[0] in (409, 503)
    assert (server.folder / "f").read_bytes() == BODY


def test_options_name_patch(start_any: Start) -> None:
    server = start_any()
    assert "PATCH" in server.request("OPTIONS", "/files/f")[1]["allow"]
    assert "PUT" in server.request("OPTIONS", "/uploads/x" + "A" * 30)[1]["allow"]


def test_without_resumable_uploads_the_flag_is_named(start_server: Start) -> None:
    server = start_server("--no-resumable")
    reply = part(server, "/files/f", BODY, 0, 10)
    assert (reply.status, reply.code) == (501, "FB_NOT_OFFERED")
    assert "--no-resumable" in reply.json["detail"]
    assert part(server, "/files/f", BODY, 0, 10, method="PATCH").status == 405
    assert server.published() == {}
    assert server.leftovers() == []
