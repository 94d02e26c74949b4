"""Append, offset retrieval, cancellation (RUFH checklist, sections B, C, F, G, H and K)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from ietf.client import PARTIAL, VERSIONS, Client, Reply, Upload, ask, chunked, content, v
from raw_http import head

BODY = content(200_000)
Start = Callable[..., ServerProcess]
PROBLEMS = "https://iana.org/assignments/http-problem-types#"


def lasting(reply: Reply) -> list[tuple[str, str]]:
    """The fields that are about the upload, not about this connection."""
    return [field for field in reply.fields if field[0] not in ("date", "connection")]


def test_an_upload_in_parts(server: ServerProcess) -> None:
    """Items 55, 56, 11."""
    upload = Upload.begin(server)
    for start in range(0, 150_000, 50_000):
        reply = upload.append(start, BODY[start : start + 50_000])
        assert (reply.status, reply.complete, reply.offset) == (204, "?0", start + 50_000)
        assert upload.where().offset == start + 50_000
        assert not (server.folder / "f.bin").exists()
    reply = upload.append(150_000, BODY[150_000:], v(), last=True)
    assert (reply.status, reply.complete, reply.offset) == (201, "?1", len(BODY))
    assert reply.fields["location"] == "/files/f.bin"
    assert reply.fields["upload-draft-interop-version"] == "9"
    assert reply.json["size"] == len(BODY)
    assert upload.stored() == BODY


def test_where_an_upload_stands(server: ServerProcess) -> None:
    """Items 44, 45, 46, 48, 25."""
    upload = Upload.begin(server, "f.bin", "Upload-Length: 10", body=b"abc")
    for fields in ((), (v(8),)):
        where = upload.where(*fields)
        assert (where.status, where.offset, where.complete) == (204, 3, "?0")
        assert where.fields["upload-length"] == "10"
        assert where.fields["cache-control"] == "no-store"
        assert 0 < where.limits["max-age"] <= 86_400
    get = upload.ask("GET", v())  # item 48: a client of the draft asks by GET
    assert (get.status, get.offset, get.body) == (204, 3, b"")
    status = upload.ask("GET")  # and anybody else looks on
    assert (status.status, status.json["offset"]) == (200, 3)
    assert (status.offset, status.complete, status.fields["upload-length"]) == (3, "?0", "10")
    assert 0 < status.limits["max-age"] <= 86_400
    assert status.fields["cache-control"] == "no-store"


def test_what_a_question_carries_beside_is_ignored(server: ServerProcess) -> None:
    """Item 49."""
    upload = Upload.begin(server, body=b"abc")
    where = upload.where("Upload-Offset: 7", "Upload-Complete: ?1")
    assert (where.status, where.offset, where.complete) == (204, 3, "?0")


def test_the_offset_that_was_told_is_accepted(server: ServerProcess) -> None:
    """Items 13, 47, 59."""
    upload = Upload.begin(server)
    upload.cut(0, BODY[:70_001], len(BODY))
    offset = upload.where().offset
    assert offset == 70_001
    assert upload.append(offset, BODY[offset:], last=True).status == 201
    assert upload.stored() == BODY


@pytest.mark.parametrize("offset", [0, 99, 101, 10**14])
def test_another_offset_is_refused_with_the_right_one(server: ServerProcess, offset: int) -> None:
    """Items 54, 73."""
    upload = Upload.begin(server, body=BODY[:100])
    reply = upload.append(offset, b"x" * 10)
    assert (reply.status, reply.complete, reply.offset) == (409, "?0", 100)
    assert reply.fields["content-type"] == "application/problem+json"
    assert reply.json["type"] == PROBLEMS + "mismatching-upload-offset"
    assert (reply.json["expected-offset"], reply.json["provided-offset"]) == (100, offset)
    assert upload.where().offset == 100


@pytest.mark.parametrize(
    "value", [None, "", "-1", "1.0", "ten", "?1", '"10"', "1000000000000000", "1, 1"]
)
def test_an_append_without_a_readable_offset_is_refused(
    server: ServerProcess, value: str | None
) -> None:
    """Items 5, 10, 52."""
    upload = Upload.begin(server)
    fields = [] if value is None else [f"Upload-Offset: {value}"]
    reply = upload.ask("PATCH", PARTIAL, "Upload-Complete: ?0", *fields, body=b"x")
    assert (reply.status, reply.complete) == (400, "?0")
    assert upload.where().offset == 0


def test_parameters_of_a_field_are_ignored(server: ServerProcess) -> None:
    """Items 5, 6: they are no other value."""
    upload = Upload.begin(server)
    reply = upload.ask("PATCH", PARTIAL, "Upload-Complete: ?1;a", "Upload-Offset: 0;b=1", body=b"x")
    assert (reply.status, reply.complete) == (201, "?1")


@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_an_append_must_say_whether_it_is_the_last(
    server: ServerProcess, version: int | None
) -> None:
    """Item 53: old clients leave it out."""
    upload = Upload.begin(server)
    fields = [] if version is None else [v(version)]
    reply = upload.ask("PATCH", PARTIAL, "Upload-Offset: 0", *fields, body=b"x")
    if version in (3, 4, 5):
        assert (reply.status, reply.offset) == (204, 1)
    else:
        assert (reply.status, reply.complete) == (400, "?0")


@pytest.mark.parametrize("version", [None, *VERSIONS])
@pytest.mark.parametrize(
    "kind", ["", "Content-Type: application/octet-stream", "Content-Type: application/json"]
)
def test_an_append_is_a_partial_upload(
    server: ServerProcess, version: int | None, kind: str
) -> None:
    """Items 51, 62."""
    upload = Upload.begin(server)
    complete = "Upload-Incomplete: ?1" if version == 3 else "Upload-Complete: ?0"
    fields = [complete, *([kind] if kind else []), *([] if version is None else [v(version)])]
    reply = upload.ask("PATCH", "Upload-Offset: 0", *fields, body=b"x")
    if version in (3, 4, 5):
        assert (reply.status, reply.offset) == (204, 1)
    else:
        assert (reply.status, reply.complete) == (415, "?0")
        assert reply.fields["accept-patch"] == "application/partial-upload"
        assert upload.where().offset == 0


def test_offset_at_the_length_does_not_complete(server: ServerProcess) -> None:
    """Items 14, 57."""
    upload = Upload.begin(server, "f.bin", f"Upload-Length: {len(BODY)}")
    reply = upload.append(0, BODY)
    assert (reply.status, reply.complete, reply.offset) == (204, "?0", len(BODY))
    where = upload.where()
    assert (where.complete, where.offset) == ("?0", len(BODY))
    assert not (server.folder / "f.bin").exists()
    end = upload.append(len(BODY), b"", last=True)
    assert (end.status, end.complete) == (201, "?1")
    assert upload.stored() == BODY


def test_nothing_can_be_added_to_a_complete_upload(server: ServerProcess) -> None:
    """Items 15, 58, 21."""
    upload = Upload.begin(server, body=BODY)
    assert upload.append(len(BODY), b"", last=True).status == 201
    for last in (False, True):
        more = upload.append(len(BODY), b"more", last=last)
        assert (more.status, more.complete) == (409, "?0")
    wrong = upload.append(5, b"more", last=True)
    assert (wrong.status, wrong.complete, wrong.offset) == (409, "?0", len(BODY))
    not_last = upload.append(len(BODY), b"")
    assert (not_last.status, not_last.complete) == (409, "?0")
    where = upload.where()
    assert (where.status, where.complete, where.offset) == (204, "?1", len(BODY))
    assert upload.stored() == BODY


@pytest.mark.parametrize("seen", ["created", "renamed", "replaced"])
def test_a_lost_final_answer_is_given_again(reuse_server: Start, seen: str) -> None:
    """Item 58: to an empty request at the end, and to the last one as it was."""
    policy = {"created": "auto", "renamed": "rename", "replaced": "replace"}[seen]
    server = reuse_server("--on-conflict", policy)
    if seen != "created":
        (server.folder / "f.bin").write_bytes(b"before")
    fields = (v(), "Want-Repr-Digest: sha-256=5")
    upload = Upload.begin(server, "f.bin", *fields, body=BODY[:1000])
    first = upload.append(1000, BODY[1000:], last=True)
    assert first.status == (200 if seen == "replaced" else 201)
    assert first.json["renamed"] is (seen == "renamed")
    for again in (
        upload.append(len(BODY), b"", last=True),
        upload.append(1000, BODY[1000:], last=True),
    ):
        assert again.status == first.status
        assert again.json == first.json
        assert lasting(again) == lasting(first)
    length = "Upload-Length: 7"
    other = upload.append(len(BODY), b"", length, last=True)
    assert (other.status, other.complete) == (400, "?0")


def test_a_lost_answer_of_the_creation_is_given_again(server: ServerProcess) -> None:
    """Items 58, 21."""
    first = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?1", body=BODY)
    upload = Upload(server, first.announced)
    assert upload.where().complete == "?1"
    again = upload.append(len(BODY), b"", v(), last=True)
    assert (again.status, again.body) == (first.status, first.body)
    assert lasting(again) == lasting(first)


def test_an_upload_that_was_cancelled_is_gone(server: ServerProcess) -> None:
    """Items 63, 50, 65."""
    upload = Upload.begin(server, body=BODY)
    assert upload.ask("DELETE", v()).status == 204
    assert upload.where().status == 404
    assert upload.append(len(BODY), b"", last=True).status == 404
    assert upload.ask("DELETE").status == 404
    assert server.leftovers() == []


@pytest.mark.parametrize("allowed", [True, False])
def test_a_finished_file_goes_only_where_files_may_be_deleted(
    reuse_server: Start, allowed: bool
) -> None:
    """Item 63: to cancel what is finished removes it, which needs --allow-delete."""
    server = reuse_server(*(["--allow-delete"] if allowed else []))
    upload = Upload.begin(server, body=BODY)
    upload.append(len(BODY), b"", last=True)
    assert upload.ask("DELETE", v()).status == (204 if allowed else 403)
    assert upload.where(v()).status == (404 if allowed else 204)
    assert (server.folder / "f.bin").exists() is not allowed


@pytest.mark.parametrize("path", ["/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "/uploads/..%2f.."])
def test_what_never_was_is_not_found(server: ServerProcess, path: str) -> None:
    """Item 50."""
    assert ask(server, "HEAD", path, v()).status == 404
    assert ask(server, "DELETE", path, v()).status == 404
    fields = ("Upload-Offset: 0", "Upload-Complete: ?1", PARTIAL)
    assert ask(server, "PATCH", path, *fields, body=b"x").status == 404


def test_a_post_to_an_upload_is_refused(server: ServerProcess) -> None:
    """Section G: only PATCH appends."""
    upload = Upload.begin(server)
    assert upload.ask("POST", v(), "Upload-Complete: ?1", body=b"x").status == 405


def test_an_upload_goes_on_in_the_protocol_it_began_in(server: ServerProcess) -> None:
    """Item 66: what another protocol would make of its state is not tried."""
    begun = ask(server, "POST", "/uploads/", "Tus-Resumable: 1.0.0", "Upload-Length: 5", body=b"")
    assert begun.status == 201
    upload = Upload(server, begun.fields["location"])
    for reply in (
        upload.append(0, b"hello", last=True),
        upload.where(v()),
        upload.ask("DELETE", v()),
    ):
        assert (reply.status, "upload-offset" in reply.fields) == (409, False)
    assert upload.ask("DELETE", "Tus-Resumable: 1.0.0").status == 204


# --- lengths -----------------------------------------------------------------------------------


def test_the_first_length_that_is_told_is_kept(server: ServerProcess) -> None:
    """Items 16, 17, 74."""
    upload = Upload.begin(server)
    assert upload.append(0, b"abc", "Upload-Length: 10").fields["upload-length"] == "10"
    assert upload.where().fields["upload-length"] == "10"
    for fields in (("Upload-Length: 11",), ("Upload-Length: 2",)):
        reply = upload.append(3, b"d", *fields)
        assert (reply.status, reply.complete) == (400, "?0")
        assert reply.json["type"] == PROBLEMS + "inconsistent-upload-length"
    assert upload.append(3, b"defghij", last=True).status == 201


@pytest.mark.parametrize("value", ["-1", "1.5", "ten", "9999999999999999", "3, 4"])
def test_an_unreadable_length_is_as_if_it_were_not_there(server: ServerProcess, value: str) -> None:
    """Items 7, 9."""
    upload = Upload.begin(server, "f.bin", f"Upload-Length: {value}")
    assert "upload-length" not in upload.where().fields


def test_a_creation_that_tells_two_lengths_is_refused(server: ServerProcess) -> None:
    """Items 16, 74."""
    for number in (9, 99):
        for complete, length in (("?1", 4), ("?1", 6), ("?0", 4)):
            fields = (v(number), f"Upload-Complete: {complete}", f"Upload-Length: {length}")
            reply = ask(server, "PUT", "/files/f.bin", *fields, body=b"hello")
            assert (reply.status, reply.complete, reply.interim) == (400, "?0", [])
            assert reply.json["type"] == PROBLEMS + "inconsistent-upload-length"
    assert server.leftovers() == []


def test_a_last_part_of_the_wrong_size_is_refused_at_its_head(server: ServerProcess) -> None:
    """Items 16, 19."""
    upload = Upload.begin(server, "f.bin", "Upload-Length: 10", body=b"abc")
    for size in (6, 8):
        reply = upload.append(3, b"x" * size, last=True)
        assert (reply.status, reply.complete) == (400, "?0")
    reply = upload.append(3, b"x" * 8)
    assert (reply.status, reply.complete) == (400, "?0")
    assert upload.where().offset == 3
    assert upload.append(3, b"x" * 7, last=True).status == 201


def test_a_last_part_that_comes_out_short_does_not_complete(server: ServerProcess) -> None:
    """Items 19, 18: chunked, so only its end tells."""
    upload = Upload.begin(server, "f.bin", "Upload-Length: 10")
    reply = upload.append_chunked(0, b"abc", last=True)
    assert (reply.status, reply.complete) == (400, "?0")
    assert reply.json["type"] == PROBLEMS + "inconsistent-upload-length"
    assert (upload.where().offset, upload.where().complete) == (3, "?0")
    assert upload.append(3, b"defghij", last=True).status == 201
    assert upload.stored() == b"abcdefghij"


@pytest.mark.parametrize("last", [True, False])
def test_more_than_the_length_makes_the_upload_invalid(server: ServerProcess, last: bool) -> None:
    """Items 18, 61: chunked, so no head gives it away."""
    upload = Upload.begin(server, "f.bin", "Upload-Length: 10")
    reply = upload.append_chunked(0, b"x" * 11, last=last)
    assert (reply.status, reply.complete) == (400, "?0")
    assert reply.json["type"] == PROBLEMS + "inconsistent-upload-length"
    assert upload.where().status == 410
    assert upload.append(10, b"", last=True).status == 410
    assert not (server.folder / "f.bin").exists()
    assert server.leftovers() == []


def test_a_creation_that_sends_more_than_its_length_is_invalid(server: ServerProcess) -> None:
    """Item 18."""
    with Client(server) as client:
        fields = (v(), "Upload-Complete: ?1", "Upload-Length: 10", "Transfer-Encoding: chunked")
        client.send(head("PUT", "/files/f.bin", *fields) + chunked([b"x" * 11]))
        reply = client.reply()
    assert (reply.status, reply.complete) == (400, "?0")
    assert Upload(server, reply.announced).where().status == 410
    assert not (server.folder / "f.bin").exists()


def test_a_chunked_append_that_is_cut_keeps_its_prefix(server: ServerProcess) -> None:
    """Items 59, 61."""
    upload = Upload.begin(server)
    with Client(server) as client:
        client.send(upload.head(0, length=None) + b"8\r\nabcdefgh\r\n10\r\nij")
        client.half_close()
        reply = client.reply()
    assert (reply.status, reply.complete) == (400, "?0")
    where = upload.where()
    assert (where.offset, where.complete) == (10, "?0")
