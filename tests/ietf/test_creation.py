"""Creation (RUFH checklist, sections A, E and J): who is told what, before and after the body."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from ietf.client import PARTIAL, VERSIONS, Client, Upload, ask, chunked, content, v
from raw_http import head

BODY = content(300_000)
Start = Callable[..., ServerProcess]


def test_a_whole_file_in_one_request_is_announced_and_answered_like_a_plain_put(
    server: ServerProcess,
) -> None:
    """Items 31, 33, 36, 2, 25."""
    plain = ask(server, "PUT", "/files/plain.bin", body=BODY)
    reply = ask(server, "PUT", "/files/f.bin", v(8), "Upload-Complete: ?1", body=BODY)
    [(status, fields)] = reply.interim
    assert status == 104
    assert fields["location"].startswith("/uploads/")
    assert fields["upload-draft-interop-version"] == "8"
    assert 86_000 < int(fields["upload-limit"].removeprefix("max-age=")) <= 86_400
    assert (reply.status, reply.complete, reply.offset) == (201, "?1", len(BODY))
    assert reply.fields["location"] == "/files/f.bin"
    assert set(reply.json) == set(plain.json)
    assert plain.fields.names <= reply.fields.names
    assert (server.folder / "f.bin").read_bytes() == BODY
    assert Upload(server, fields["location"]).where().complete == "?1"


@pytest.mark.parametrize("target", ["/files/", "/uploads/", "/files/?name=f.bin"])
def test_a_post_begins_an_upload_too(server: ServerProcess, target: str) -> None:
    """Items 31, 41: the name comes from where a plain POST has it."""
    named = 'Content-Disposition: inline; filename="f.bin"'
    reply = ask(server, "POST", target, v(), "Upload-Complete: ?1", named, body=BODY)
    assert reply.announced.startswith("/uploads/")
    assert (reply.status, reply.json["name"]) == (201, "f.bin")
    again = ask(server, "POST", target, v(), "Upload-Complete: ?1", named, body=BODY)
    assert again.json["name"] == "f (1).bin"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_that_is_spoken_gets_its_104_and_its_fields(
    server: ServerProcess, version: int
) -> None:
    """Items 1, 2, 3."""
    old = version == 3
    begin = "Upload-Incomplete: ?1" if old else "Upload-Complete: ?0"
    reply = ask(server, "POST", "/uploads/?name=f.bin", v(version), begin, body=BODY[:1000])
    [(_, fields)] = reply.interim
    assert fields["upload-draft-interop-version"] == str(version)
    assert ("upload-limit" in fields) is (version >= 6)
    assert ("expires=" in fields.get("upload-limit", "")) is (version == 6)
    upload = Upload(server, reply.announced)
    where = upload.where(v(version))
    assert where.status == 204  # item 3: 204 for all, which 3 demands
    flag = where.fields["upload-incomplete" if old else "upload-complete"]
    assert flag == ("?1" if old else "?0")
    assert where.fields["upload-draft-interop-version"] == str(version)
    end = "Upload-Incomplete: ?0" if old else "Upload-Complete: ?1"
    kind = [PARTIAL] if version >= 6 else []
    last = upload.ask("PATCH", v(version), "Upload-Offset: 1000", end, *kind, body=BODY[1000:])
    assert last.status == 201
    assert last.fields["upload-incomplete" if old else "upload-complete"] == ("?0" if old else "?1")
    assert upload.stored() == BODY


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Upload-Draft-Interop-Version: 2"],
        ["Upload-Draft-Interop-Version: 10"],
        ["Upload-Draft-Interop-Version: 8;9, 8"],
        ["Upload-Draft-Interop-Version: six"],
        ["Upload-Draft-Interop-Version: ?1"],
        ["Upload-Draft-Interop-Version: 8.0"],
    ],
)
@pytest.mark.parametrize("complete", ["?0", "?1"])
def test_no_104_to_a_client_that_does_not_ask_in_a_known_version(
    server: ServerProcess, fields: list[str], complete: str
) -> None:
    """Items 1 and 32: the request is served all the same."""
    reply = ask(server, "PUT", "/files/f.bin", f"Upload-Complete: {complete}", *fields, body=BODY)
    assert reply.interim == []
    assert (reply.status, reply.complete) == (201, complete)
    assert reply.fields["location"].startswith("/files/" if complete == "?1" else "/uploads/")


def test_a_switch_sends_104_without_a_version_too(reuse_server: Start) -> None:
    """Item 4: for the day when it is an RFC."""
    server = reuse_server("--resumable-without-version")
    reply = ask(server, "PUT", "/files/f.bin", "Upload-Complete: ?1", body=BODY)
    [(status, fields)] = reply.interim
    assert status == 104
    assert "upload-draft-interop-version" not in fields
    plain = ask(server, "PUT", "/files/plain.bin", body=BODY)
    assert plain.interim == []
    future = ask(server, "PUT", "/files/g.bin", "Upload-Complete: ?1", v(99), body=BODY)
    assert future.interim == []


def test_http_1_0_never_gets_a_104(server: ServerProcess) -> None:
    """Item 71."""
    for complete, name in (("?1", "a.bin"), ("?0", "b.bin")):
        with Client(server) as client:
            request = head("PUT", f"/files/{name}", v(), f"Upload-Complete: {complete}", length=5)
            client.send(request.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello")
            reply = client.reply()
        assert reply.interim == []
        assert (reply.status, reply.complete) == (201, complete)


def test_http_client_of_python_never_meets_a_104(server: ServerProcess) -> None:
    """Item 4: it takes any 1xx but 100 for the final answer."""
    for method, path in (("PUT", "/files/f.bin"), ("POST", "/uploads/")):
        for complete in ("?1", "?0"):
            link = http.client.HTTPConnection(server.host, server.port, timeout=30)
            link.request(method, path, BODY, {"Upload-Complete": complete})
            answer = link.getresponse()
            assert answer.status in (201, 409)
            answer.read()
            link.close()


def test_a_104_does_not_replace_the_100(server: ServerProcess) -> None:
    """Item 42."""
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1", "Expect: 100-continue")
        client.send(head("PUT", "/files/f.bin", *asks, length=5))
        statuses = [client.head()[0], client.head()[0]]
        assert statuses == [104, 100]
        client.send(b"hello")
        assert client.reply().status == 201


def test_the_104_comes_before_a_byte_of_the_body(server: ServerProcess) -> None:
    """Item 33."""
    with Client(server) as client:
        client.send(head("PUT", "/files/f.bin", v(), "Upload-Complete: ?1", length=5))
        status, fields = client.head()
        assert status == 104
        assert ask(server, "GET", fields["location"]).json["offset"] == 0
        client.send(b"hello")
        assert client.reply().status == 201


def test_a_part_is_answered_with_where_to_go_on(server: ServerProcess) -> None:
    """Items 34, 37, 25."""
    fields = (v(), "Upload-Complete: ?0", f"Upload-Length: {len(BODY)}")
    reply = ask(server, "PUT", "/files/f.bin", *fields, body=BODY[:1000])
    assert (reply.status, reply.complete, reply.offset) == (201, "?0", 1000)
    assert reply.fields["location"] == reply.announced
    assert 0 < reply.limits["max-age"] <= 86_400
    assert not (server.folder / "f.bin").exists()
    upload = Upload(server, reply.announced)
    assert upload.append(1000, BODY[1000:], last=True).status == 201
    assert upload.stored() == BODY


def test_careful_creation_makes_the_upload_before_any_byte(server: ServerProcess) -> None:
    """Item 38."""
    upload = Upload.begin(server)
    where = upload.where()
    assert (where.offset, where.complete) == (0, "?0")
    assert "upload-length" not in where.fields
    assert upload.append(0, BODY, last=True).status == 201
    assert upload.stored() == BODY


@pytest.mark.parametrize("number", [9, 99])
def test_an_empty_file_is_complete_at_once(server: ServerProcess, number: int) -> None:
    """Item 38."""
    reply = ask(server, "PUT", "/files/f.bin", v(number), "Upload-Complete: ?1", body=b"")
    assert (reply.status, reply.complete, reply.json["size"]) == (201, "?1", 0)
    assert (server.folder / "f.bin").read_bytes() == b""


@pytest.mark.parametrize("value", ["1", "true", "?2", "?1, ?1", '"?1"', ""])
def test_an_unreadable_upload_complete_begins_nothing_and_stores_nothing(
    server: ServerProcess, value: str
) -> None:
    """Items 6, 10, 31: what its sender meant is not known, so it is no plain request either."""
    reply = ask(server, "PUT", "/files/f.bin", v(), f"Upload-Complete: {value}", body=BODY)
    assert (reply.status, reply.complete, reply.interim) == (400, None, [])
    assert server.published() == {}
    assert (
        ask(server, "POST", "/uploads/", v(), f"Upload-Complete: {value}", body=b"").status == 400
    )


def test_a_cut_creation_keeps_its_prefix(server: ServerProcess) -> None:
    """Items 39, 44."""
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1")
        client.half("PUT", "/files/f.bin", *asks, body=BODY[:123_456], length=len(BODY))
        client.half_close()
        reply = client.reply()
    assert (reply.status, reply.complete) == (400, "?0")
    upload = Upload(server, reply.announced)
    where = upload.where()
    assert (where.offset, where.complete) == (123_456, "?0")
    assert where.fields["upload-length"] == str(len(BODY))
    assert not (server.folder / "f.bin").exists()
    assert upload.finish(BODY).status == 201
    assert upload.stored() == BODY


@pytest.mark.parametrize("seen", [True, False])
def test_a_creation_that_is_reset_can_go_on_where_it_was_announced(
    server: ServerProcess, seen: bool
) -> None:
    """Items 33, 39: also when the client went away without looking at the 104."""
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1")
        client.half("PUT", "/files/f.bin", *asks, body=BODY[:100], length=len(BODY))
        location = client.head()[1]["location"] if seen else ""
        client.reset()
    if not seen:  # nobody ever comes back to it: it stays until it expires
        return
    upload = Upload(server, location)
    assert upload.where().offset <= 100
    assert upload.finish(BODY).status == 201


def test_what_nobody_can_come_back_to_is_not_kept(server: ServerProcess) -> None:
    """Items 32, 39: a broken part of an upload that was never announced."""
    for complete in ("?0", "?1"):
        with Client(server) as client:
            asks = f"Upload-Complete: {complete}"
            client.half("PUT", "/files/f.bin", asks, body=BODY[:100], length=len(BODY))
            client.half_close()
            assert client.reply().status == 400
    assert server.leftovers() == []
    assert not (server.folder / "f.bin").exists()


def test_a_taken_name_is_refused_before_a_byte(server: ServerProcess) -> None:
    """Items 36, 40: the target's own answer, so there is nothing to resume."""
    (server.folder / "f.bin").write_bytes(b"mine")
    with Client(server) as client:
        client.send(head("PUT", "/files/f.bin", v(), "Upload-Complete: ?1", length=10**9))
        reply = client.reply()
    assert (reply.status, reply.complete, reply.interim) == (409, "?1", [])
    assert (server.folder / "f.bin").read_bytes() == b"mine"
    assert server.leftovers() == []


def test_a_name_taken_meanwhile_is_refused_at_the_end(server: ServerProcess) -> None:
    """Items 36, 56: the error of the target carries ?1."""
    upload = Upload.begin(server)
    (server.folder / "f.bin").write_bytes(b"mine")
    reply = upload.append(0, BODY, last=True)
    assert (reply.status, reply.complete) == (409, "?1")
    assert upload.stored() == b"mine"
    (server.folder / "f.bin").unlink()
    where = upload.where()  # all bytes are there, so the question ends it
    assert (where.status, where.complete, where.offset) == (204, "?1", len(BODY))
    assert upload.stored() == BODY


def test_preconditions_hold_at_the_beginning_and_at_the_end(server: ServerProcess) -> None:
    """Item 36: as a plain PUT does."""
    missing = ask(
        server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?0", 'If-Match: "x"', body=b""
    )
    assert (missing.status, missing.complete, missing.interim) == (412, "?1", [])
    upload = Upload.begin(server, "f.bin", "If-None-Match: *")
    (server.folder / "f.bin").write_bytes(b"mine")
    reply = upload.append(0, BODY, last=True)
    assert (reply.status, reply.complete) == (412, "?1")
    assert upload.ask("DELETE").status == 204
    assert upload.stored() == b"mine"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Content-Encoding: gzip",), 415),
        (("Content-Type: multipart/form-data; boundary=x",), 415),
    ],
)
def test_what_a_plain_upload_refuses_is_refused_here(
    server: ServerProcess, fields: tuple[str, ...], status: int
) -> None:
    """Items 40, 41, 43."""
    form = any("form-data" in field for field in fields)  # to /files/ one may go, if it is whole
    for target in ("/uploads/",) if form else ("/files/", "/uploads/"):
        reply = ask(server, "POST", target, v(), "Upload-Complete: ?1", *fields, body=b"x")
        assert (reply.status, reply.complete, reply.interim) == (status, "?1", [])


def test_a_form_that_is_sent_whole_is_taken_as_any_form_is(server: ServerProcess) -> None:
    """Items 32, 43: URLSession says `Upload-Complete: ?1` with every upload task."""
    kind = "Content-Type: multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="phone.jpg"\r\n\r\n'
    body = part + BODY + b"\r\n--b--\r\n"
    length = f"Upload-Length: {len(body)}"
    whole = (v(), "Upload-Complete: ?1", length, kind)
    reply = ask(server, "POST", "/files/", *whole, body=body)
    assert (reply.status, reply.complete, reply.interim) == (201, None, [])
    assert reply.fields["location"] == "/files/phone.jpg"
    assert (server.folder / "phone.jpg").read_bytes() == BODY

    for fields in ((v(), "Upload-Complete: ?0", kind), (v(), "Upload-Complete: x", kind)):
        assert ask(server, "POST", "/files/", *fields, body=body).status == 415
    cut = ask(server, "POST", "/files/", *whole, body=body[:-20])
    assert (cut.status, cut.complete) == (400, None)
    assert not (server.folder / "phone (1).jpg").exists()


def test_the_type_of_the_whole_is_kept(server: ServerProcess) -> None:
    """Item 41."""
    upload = Upload.begin(server, "f.bin", "Content-Type: image/x-test")
    assert upload.append(0, b"x", last=True).json["type"] == "image/x-test"


def test_ids_cannot_be_guessed_and_tell_nothing(server: ServerProcess) -> None:
    """Item 20."""
    ids = {Upload.begin(server, "secret name.bin".replace(" ", "%20")).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(found) >= 32 for found in ids)
    assert not any("secret" in found for found in ids)
    for found in ids:
        ask(server, "DELETE", f"/uploads/{found}")


def test_a_chunked_creation_may_tell_its_length(server: ServerProcess) -> None:
    """Items 16, 17."""
    with Client(server) as client:
        fields = (v(), "Upload-Complete: ?1", f"Upload-Length: {len(BODY)}")
        client.send(head("PUT", "/files/f.bin", *fields, "Transfer-Encoding: chunked"))
        client.send(chunked([BODY[:100], BODY[100:]]))
        reply = client.reply()
    assert (reply.status, reply.complete) == (201, "?1")
    assert Upload(server, reply.announced).where().fields["upload-length"] == str(len(BODY))


def test_incremental_changes_nothing_since_bodies_are_never_gathered(
    server: ServerProcess,
) -> None:
    """Item 84: what has come is kept although more is awaited."""
    with Client(server) as client:
        asks = (v(), "Upload-Complete: ?1", "Incremental: ?1")
        client.half("PUT", "/files/f.bin", *asks, body=BODY[:5000], length=len(BODY))
        client.half_close()
        reply = client.reply()
    assert Upload(server, reply.announced).where().offset == 5000


def test_resumable_uploads_can_be_switched_off(reuse_server: Start) -> None:
    """Item 32."""
    server = reuse_server("--no-resumable")
    reply = ask(server, "PUT", "/files/f.bin", v(), "Upload-Complete: ?1", body=BODY)
    assert (reply.status, reply.interim, reply.complete) == (201, [], None)
    assert ask(server, "OPTIONS", "/files/").fields.get("upload-limit") is None
    assert Path(server.folder, "f.bin").read_bytes() == BODY
