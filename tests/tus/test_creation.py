"""tus 1.0: creation, deferred length, creation with upload, expiration (items 43 to 81)."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content
from tus.client import (
    STREAM,
    ask,
    checksum,
    create,
    head,
    metadata,
    patch,
    patch_head,
    reply_of,
    request_head,
    upload,
)
from waiting import wait_for

Start = Callable[..., ServerProcess]


def test_a_request_that_brings_too_much_is_refused_and_the_upload_goes_on(
    reuse_server: Start,
) -> None:
    """tusd#353: proxies that limit bodies. The limit is of one request, not of the upload."""
    server = reuse_server("--max-append-size", "100")
    refused = ask(
        server, "POST", body=b"x" * 101, Upload_Length=101, Content_Type=STREAM, Upload_Offset=0
    )
    assert refused.status == 413
    assert server.leftovers() == []
    path = create(server, 250, Upload_Metadata=metadata(filename="pieces"))
    assert patch(server, path, 0, b"x" * 100).status == 204
    assert patch(server, path, 100, b"x" * 101).status == 413
    assert head(server, path).offset == 100
    assert patch(server, path, 100, b"x" * 100).status == 204
    assert patch(server, path, 200, b"x" * 50).status == 204
    assert (server.folder / "pieces").read_bytes() == b"x" * 250


# --- E. creation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Upload_Length": 3, "Upload_Defer_Length": 1},
        {"Upload_Defer_Length": 2},
        {"Upload_Defer_Length": "true"},
        {"Upload_Defer_Length": 0},
        {"Upload_Length": ""},
        {"Upload_Length": 3, "Upload_Concat": "nothing"},
    ],
    ids=str,
)
def test_a_creation_says_its_length_in_one_way(
    reuse_server: Start, fields: dict[str, str | int]
) -> None:
    """Items 44 and 56."""
    server = reuse_server()
    before = len(server.leftovers())
    assert ask(server, "POST", **fields).status == 400
    assert len(server.leftovers()) == before


def test_an_upload_has_a_place_that_cannot_be_guessed(start_any: Start) -> None:
    """Items 45 and 54: a path, so that no proxy can break it."""
    server = start_any()
    replies = [ask(server, "POST", path, Upload_Length=3) for path in ("/uploads/", "/uploads")]
    assert all(r.status == 201 and r.body == b"" for r in replies)
    places = {r.location for r in replies}
    assert len(places) == 2
    for place in places:
        assert place.startswith("/uploads/")
        assert len(place.removeprefix("/uploads/")) == 32  # 24 random bytes
        assert head(server, place).status == 200


def test_a_whole_url_can_be_asked_for(reuse_server: Start) -> None:
    """Item 45: what a proxy says of it counts only from a trusted one."""
    told = {
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "files.example",
        "X_Forwarded_Prefix": "/store",
    }
    plain = reuse_server("--absolute-location")
    place = ask(plain, "POST", Upload_Length=3, **told).location
    assert place.startswith(f"{plain.url}/uploads/")
    behind = reuse_server("--absolute-location", "--trusted-proxies", "127.0.0.0/8")
    place = ask(behind, "POST", Upload_Length=3, **told).location
    assert place.startswith("https://files.example/store/uploads/")
    place = ask(behind, "POST", Upload_Length=3, Forwarded='proto=https;host="f.example"').location
    assert place.startswith("https://f.example/uploads/")


def test_a_proxys_prefix_is_part_of_the_path(reuse_server: Start) -> None:
    """Item 45."""
    server = reuse_server("--trusted-proxies", "127.0.0.1")
    place = ask(server, "POST", Upload_Length=3, X_Forwarded_Prefix="/store/").location
    assert place.startswith("/store/uploads/")


def test_too_long_an_upload_is_refused_at_once(start_any: Start) -> None:
    """Item 46."""
    server = start_any("--max-size", "1000")
    assert ask(server, "POST", Upload_Length=1000).status == 201
    assert ask(server, "POST", Upload_Length=1001).status == 413
    assert ask(server, "POST", Upload_Length=2**63 - 1).status == 413


def test_an_empty_upload_is_complete_at_once(start_any: Start) -> None:
    """Item 47."""
    server = start_any()
    path = create(server, 0, Upload_Metadata=metadata(filename="nothing"))
    assert server.published() == {"nothing": 0}
    reply = head(server, path)
    assert (reply.offset, reply.fields["upload-length"]) == (0, "0")
    assert patch(server, path, 0, b"").status == 204
    assert server.published() == {"nothing": 0}


BAD = ["a !", "a YQ", "a YQ==,a YQ==", ",a YQ==", " ,", "a YQ== x", "a\tYQ=="]


@pytest.mark.parametrize("value", BAD)
def test_metadata_that_cannot_be_read_is_refused(reuse_server: Start, value: str) -> None:
    """Items 48 and 49."""
    server = reuse_server()
    assert ask(server, "POST", Upload_Length=1, Upload_Metadata=value).status == 400


@pytest.mark.parametrize("value", ["", "a", "a ", "a YQ==,b,  c Yw==", "a YQ==, b"])
def test_metadata_in_every_legal_form_is_taken(reuse_server: Start, value: str) -> None:
    """Items 48 and 49: tuspy sends an empty field."""
    server = reuse_server()
    path = create(server, 1, Upload_Metadata=value)
    assert head(server, path).fields.get("upload-metadata", "") == value.strip()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"filename": "a b.txt"}, "a b.txt"),
        ({"name": "n.txt"}, "n.txt"),
        ({"filename": "f", "name": "n"}, "f"),
        ({"filename": "../../etc/passwd"}, "passwd"),
        ({"filename": "C:\\dir\\x.doc"}, "x.doc"),
        ({"filename": "größe ☃.bin"}, "größe ☃.bin"),
        ({"filename": ".bashrc"}, None),
        ({"filename": ".."}, None),
        ({"filename": "a\nb"}, None),
        ({"filename": "x" * 300}, None),
        ({"filename": "dir/"}, None),
        ({"filename": ".forebay/x", "name": "kept"}, "x"),
        ({}, None),
    ],
    ids=str,
)
def test_the_name_is_the_clients_own_or_a_generated_one(
    reuse_server: Start, given: dict[str, str], stored: str | None
) -> None:
    """Item 50: a name is a hint, and no hint makes a file anywhere else than in the root."""
    server = reuse_server()
    server_files = set(server.published())
    upload(server, b"x", Upload_Metadata=metadata(**given))
    (found,) = set(server.published()) - server_files
    if stored is None:
        assert found.startswith("upload-")
    else:
        assert found == stored
    (server.folder / found).unlink()


def test_a_taken_name_is_changed_or_refused_as_the_policy_says(start_server: Start) -> None:
    """Item 51: the policy of names decides, at creation already where it can."""
    server = start_server("--durability", "relaxed")
    for text in (b"1", b"2"):
        upload(server, text, Upload_Metadata=metadata(filename="n.txt"))
    assert (server.folder / "n.txt").read_bytes() == b"1"
    assert (server.folder / "n (1).txt").read_bytes() == b"2"
    server.stop()
    server = start_server("--durability", "relaxed", "--on-conflict", "refuse")
    reply = ask(server, "POST", Upload_Length=1, Upload_Metadata=metadata(filename="n.txt"))
    assert reply.status == 409


def test_a_media_type_that_is_not_accepted_is_refused(reuse_server: Start) -> None:
    """Item 51: partial uploads are judged when they are put together."""
    server = reuse_server("--accept-types", "image/*")

    def post(**more: str) -> int:
        return ask(server, "POST", Upload_Length=1, **more).status

    assert post(Upload_Metadata=metadata(filetype="image/png")) == 201
    assert post(Upload_Metadata=metadata(type="IMAGE/jpeg; q=1")) == 201
    assert post(Upload_Metadata=metadata(filetype="text/html")) == 415
    assert post() == 415
    assert post(Upload_Concat="partial") == 201


def test_metadata_has_a_bound(reuse_server: Start) -> None:
    """Item 52."""
    server = reuse_server()
    many = ",".join(f"k{n}" for n in range(65))
    assert ask(server, "POST", Upload_Length=1, Upload_Metadata=many).status == 400
    long = "k " + "QUFB" * 20_000
    assert ask(server, "POST", Upload_Length=1, Upload_Metadata=long).status == 431


def test_hostile_metadata_reaches_neither_fields_nor_log_lines(server: ServerProcess) -> None:
    """Item 50."""
    path = upload(
        server, b"x", Upload_Metadata=metadata(filename="a\r\nSet-Cookie: x=y", type="a\nb")
    )
    reply = server.request("GET", f"/files/{next(iter(server.published()))}")
    assert "set-cookie" not in reply[1]
    assert head(server, path).status == 200
    assert "Set-Cookie" not in server.log


# --- F. creation-defer-length ----------------------------------------------------------------


@pytest.mark.parametrize("when", ["first", "last", "after"])
def test_the_length_may_come_with_any_patch(start_any: Start, when: str) -> None:
    """Items 58 and 60."""
    server = start_any()
    path = create(server, Upload_Metadata=metadata(filename=when))
    reply = patch(server, path, 0, b"abc", **({"Upload_Length": 6} if when == "first" else {}))
    assert reply.status == 204
    known = head(server, path).fields
    assert ("upload-defer-length" in known) is (when != "first")
    if when == "first" or when == "last":
        assert patch(server, path, 3, b"def", Upload_Length=6).status == 204
    else:
        assert patch(server, path, 3, b"def").status == 204
        assert when not in server.published()
        assert patch(server, path, 6, b"", Upload_Length=6).offset == 6
    assert (server.folder / when).read_bytes() == b"abcdef"
    reply = head(server, path)
    assert (reply.offset, reply.fields["upload-length"]) == (6, "6")


def test_a_length_is_told_once_and_holds(start_any: Start) -> None:
    """Items 58, 59 and 62."""
    server = start_any("--max-size", "100")
    path = create(server)
    assert patch(server, path, 0, b"abc").status == 204
    assert patch(server, path, 3, b"", Upload_Length=2).status == 400
    assert patch(server, path, 3, b"", Upload_Length=101).status == 413
    assert patch(server, path, 3, b"defg", Upload_Length=6).status == 413
    assert head(server, path).offset == 3
    assert patch(server, path, 3, b"d", Upload_Length=6).status == 204
    assert patch(server, path, 4, b"", Upload_Length=7).status == 400
    assert patch(server, path, 4, b"", Upload_Length=6).status == 204
    assert patch(server, path, 4, b"ef", Upload_Length=6).status == 204
    assert patch(server, path, 6, b"", Upload_Length=6).status == 204
    assert patch(server, path, 6, b"", Upload_Length=7).status == 400


def test_the_maximum_holds_while_the_length_is_not_known(
    server_with_maximum: ServerProcess,
) -> None:
    """Item 61: announced or chunked, in one request or many, with the creation or later."""
    server = server_with_maximum
    path = create(server)
    assert patch(server, path, 0, b"x" * 1001).status == 413
    assert head(server, path).offset == 0
    assert patch(server, path, 0, b"x" * 600).status == 204
    assert patch(server, path, 600, b"x" * 401).status == 413
    with RawClient(server) as client:
        client.send(patch_head(path, 600, "Transfer-Encoding: chunked") + chunked([b"x" * 500]))
        assert reply_of(client).status == 413
    assert head(server, path).offset == 1000
    reply = ask(server, "POST", body=b"x" * 1001, Upload_Defer_Length=1, Content_Type=STREAM)
    assert reply.status == 413
    assert "location" not in reply.fields
    assert server.published() == {}


@pytest.fixture
def server_with_maximum(reuse_server: Start) -> ServerProcess:
    return reuse_server("--max-size", "1000")


# --- G. creation-with-upload -----------------------------------------------------------------


def test_the_body_of_a_creation_is_the_beginning(start_any: Start) -> None:
    """Items 65, 66, 68 and 71."""
    server = start_any()
    told = metadata(filename="whole")
    reply = ask(server, "POST", body=b"abc", Upload_Length=6, Content_Type=STREAM)
    assert (reply.status, reply.offset) == (201, 3)
    assert patch(server, reply.location, 3, b"def").offset == 6
    reply = ask(
        server,
        "POST",
        body=b"whole",
        Upload_Length=5,
        Upload_Metadata=told,
        Content_Type=STREAM,
        Upload_Checksum=checksum(b"whole"),
    )
    assert (reply.status, reply.offset) == (201, 5)
    assert (server.folder / "whole").read_bytes() == b"whole"
    reply = ask(server, "POST", body=b"ignored", Upload_Length=9, Content_Type="text/plain")
    assert reply.status == 201
    assert "upload-offset" not in reply.fields
    assert head(server, reply.location).offset == 0
    reply = ask(server, "POST", body=b"ab", Upload_Defer_Length=1, Content_Type=STREAM)
    assert (reply.status, reply.offset) == (201, 2)


def test_what_cannot_be_taken_is_refused_before_anything_is_made(start_any: Start) -> None:
    """Items 69 and 85: a body longer than the upload, a checksum that cannot be."""
    server = start_any()
    before = len(server.leftovers())
    for more in (
        {"Upload_Length": 2},
        {"Upload_Length": 3, "Upload_Checksum": "sha0 AAAA"},
        {"Upload_Length": 3, "Upload_Checksum": "sha1 AAAA"},
        {"Upload_Length": 3, "Content_Encoding": "gzip"},
    ):
        reply = ask(server, "POST", body=b"abc", Content_Type=STREAM, **more)
        assert reply.status in (400, 413, 415)
        assert "location" not in reply.fields
    assert len(server.leftovers()) == before


def test_a_body_that_fails_leaves_an_upload_that_the_answer_names(server: ServerProcess) -> None:
    """Items 67 and 71."""
    reply = ask(
        server,
        "POST",
        body=b"abc",
        Upload_Length=3,
        Content_Type=STREAM,
        Upload_Checksum=checksum(b"abd"),
    )
    assert reply.status == 460
    assert head(server, reply.location).offset == 0
    assert patch(server, reply.location, 0, b"abc").status == 204


def test_a_body_that_breaks_off_leaves_its_beginning(server: ServerProcess) -> None:
    """Items 28 and 67: even when the answer with the place never came."""
    with RawClient(server) as client:
        client.send(
            request_head(
                "POST",
                "/uploads/",
                "Upload-Length: 9",
                f"Content-Type: {STREAM}",
                "Content-Length: 9",
            )
            + b"abcd"
        )
        wait_for(lambda: [p for p in uploads(server) if p.stat().st_size == 4])
    (data,) = uploads(server)
    reply = head(server, f"/uploads/{data.name}")
    assert (reply.status, reply.offset) == (200, 4)


def uploads(server: ServerProcess) -> list[Path]:
    return list((server.folder / ".forebay/uploads").iterdir())


# --- H. expiration ---------------------------------------------------------------------------


def test_an_unfinished_upload_tells_when_it_ends(start_any: Start) -> None:
    """Items 74 to 76, 78 and 79: later with each PATCH, and not at all once it is finished."""
    server = start_any("--retention", "100")
    reply = ask(server, "POST", Upload_Length=3)
    path = reply.location
    replies = [
        reply,
        head(server, path),
        patch(server, path, 0, b"a"),
        patch(server, path, 1, b"b"),
    ]
    times = []
    for told in replies:
        value = told.fields["upload-expires"]
        assert value.endswith(" GMT")
        times.append(parsedate_to_datetime(value).timestamp())
        assert 0 < times[-1] - time.time() <= 101
    assert times == sorted(times)
    assert "upload-expires" not in patch(server, path, 2, b"c").fields
    assert "upload-expires" not in head(server, path).fields


def test_without_a_retention_nothing_expires(reuse_server: Start) -> None:
    """Item 74."""
    server = reuse_server("--retention", "0")
    reply = ask(server, "POST", Upload_Length=3)
    assert "upload-expires" not in reply.fields
    assert "upload-expires" not in head(server, reply.location).fields


def test_an_expired_upload_is_gone_before_anybody_swept_it(start_server: Start) -> None:
    """Items 27, 53, 77, 80 and 81: and when the sweep has come, no byte is left of it."""
    server = start_server("--durability", "relaxed", "--retention", "1s")
    gone = (404, 410)  # 410 until the sweep
    path = create(server, 3)
    part = upload(server, b"abc", Upload_Concat="partial")
    wait_for(lambda: head(server, path).status in gone)
    wait_for(lambda: head(server, part).status in gone)
    assert "upload-offset" not in head(server, path).fields
    assert patch(server, path, 0, b"abc").status in gone
    assert ask(server, "DELETE", path).status in gone
    assert ask(server, "POST", Upload_Concat=f"final;{part}").status in gone
    assert server.stop() == 0
    server = start_server("--durability", "relaxed", "--retention", "1s")
    wait_for(lambda: head(server, path).status == head(server, part).status == 404)
    assert server.leftovers() == []


def test_an_upload_that_is_being_written_does_not_expire(start_server: Start) -> None:
    """Items 76 and 80: each commit renews it."""
    server = start_server("--durability", "relaxed", "--retention", "2s")
    data = content(40)
    path = create(server, len(data), Upload_Metadata=metadata(filename="slow"))
    with RawClient(server) as client:
        client.send(patch_head(path, 0, f"Content-Length: {len(data)}"))
        for start in range(0, len(data), 4):
            client.send(data[start : start + 4])
            time.sleep(0.35)
        assert reply_of(client).status == 204
    assert (server.folder / "slow").read_bytes() == data
