"""tus 1.0: termination and concatenation (items 96 to 115)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, content
from tus.client import (
    STREAM,
    Reply,
    ask,
    create,
    head,
    metadata,
    patch,
    patch_head,
    reply_of,
    upload,
)
from waiting import wait_for

Start = Callable[..., ServerProcess]


# --- K. termination --------------------------------------------------------------------------


def test_an_upload_that_is_ended_is_gone_with_its_data(start_any: Start) -> None:
    """Items 96 to 99."""
    server = start_any()
    before = len(server.leftovers())
    path = create(server, 9)
    assert patch(server, path, 0, b"abc").status == 204
    reply = ask(server, "DELETE", path)
    assert (reply.status, reply.body) == (204, b"")
    assert len(server.leftovers()) == before
    assert head(server, path).status == 404
    assert patch(server, path, 3, b"x").status == 404
    assert ask(server, "DELETE", path).status == 404


def test_a_finished_upload_is_removed_only_where_that_is_allowed(start_any: Start) -> None:
    """Items 96 and 99."""
    server = start_any()
    path = upload(server, b"abc", Upload_Metadata=metadata(filename="stays"))
    assert ask(server, "DELETE", path).status == 403
    assert (server.folder / "stays").read_bytes() == b"abc"
    assert head(server, path).offset == 3
    server = start_any("--allow-delete")
    path = upload(server, b"abc", Upload_Metadata=metadata(filename="goes"))
    assert ask(server, "DELETE", path).status == 204
    assert not (server.folder / "goes").exists()
    assert head(server, path).status == 404


def test_a_file_that_took_the_name_since_is_not_removed(start_any: Start) -> None:
    """Item 97: what goes is what this upload stored, and nothing else."""
    server = start_any("--allow-delete")
    path = upload(server, b"abc", Upload_Metadata=metadata(filename="name"))
    assert server.request("DELETE", "/files/name")[0] == 204
    assert server.request("PUT", "/files/name", b"another")[0] == 201
    assert ask(server, "DELETE", path).status == 204
    assert (server.folder / "name").read_bytes() == b"another"


def test_ending_an_upload_ends_its_running_patch(server: ServerProcess) -> None:
    """Item 99."""
    path = create(server, 9)
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Content-Length: 9") + b"abc")
        wait_for(lambda: server.leftovers())
        assert ask(server, "DELETE", path).status == 204
        assert reply_of(client).status in (404, 503)
    assert head(server, path).status == 404
    assert server.leftovers() == []


# --- L. concatenation ------------------------------------------------------------------------


def part(server: ServerProcess, data: bytes, **fields: str | int) -> str:
    return upload(server, data, Upload_Concat="partial", **fields)


def join(server: ServerProcess, *paths: str, **fields: str | int) -> Reply:
    return ask(server, "POST", Upload_Concat=f"final;{' '.join(paths)}", **fields)


def test_parts_become_one_file_in_their_order(start_any: Start) -> None:
    """Items 102, 104 to 108, and 30."""
    server = start_any()
    pieces = [content(300_000, 1), b"", content(70_000, 2)]
    parts = [part(server, p, Upload_Metadata=metadata(filename="part")) for p in pieces]
    assert server.published() == {}
    reply = head(server, parts[0])
    assert (reply.offset, reply.fields["upload-concat"]) == (300_000, "partial")
    listed = f"final;{parts[2]} {server.url}{parts[0]} {parts[1]}/"
    reply = ask(server, "POST", Upload_Concat=listed, Upload_Metadata=metadata(filename="all"))
    assert reply.status == 201
    whole = pieces[2] + pieces[0] + pieces[1]
    assert (server.folder / "all").read_bytes() == whole
    assert list(server.published()) == ["all"]
    told = head(server, reply.location)
    assert told.offset == len(whole) == int(told.fields["upload-length"])
    assert told.fields["upload-concat"] == listed
    assert told.fields["upload-metadata"] == metadata(filename="all")
    assert patch(server, reply.location, len(whole), b"").status == 403
    again = join(server, parts[0], Upload_Metadata=metadata(filename="again"))
    assert again.status == 201
    assert (server.folder / "again").read_bytes() == pieces[0]


def test_a_final_upload_names_no_length_and_has_no_body(start_any: Start) -> None:
    """Items 70 and 103."""
    server = start_any()
    one = part(server, b"abc")
    assert join(server, one, Upload_Length=3).status == 400
    assert join(server, one, Upload_Defer_Length=1).status == 400
    concat = f"final;{one}"
    reply = ask(server, "POST", body=b"x", Upload_Concat=concat, Content_Type=STREAM)
    assert reply.status == 403
    assert server.published() == {}


@pytest.mark.parametrize(
    ("listed", "statuses"),
    [
        ("final;", {400}),
        ("final", {400}),
        ("final; ", {400}),
        ("partial;x", {400}),
        ("FINAL;/uploads/" + "x" * 32, {400}),
        ("final;/uploads/" + "x" * 32, {404}),
        ("final;/files/../outside/x", {400}),
        ("final;/files/../outside/" + "x" * 32, {400}),
        ("final;/uploads/../uploads/" + "x" * 32, {400}),
        ("final;/uploads/..", {400}),
        ("final;/uploads/../../etc/passwd", {400}),
        ("final;/uploads/%2e%2e", {400, 404}),
        ("final;/files/" + "x" * 32, {400}),
        ("final;/elsewhere/" + "x" * 32, {400}),
        ("final;http://other.example/files/" + "x" * 32, {400}),
        ("final;ftp://x/uploads/" + "x" * 32, {400}),
        ("final;/uploads/short", {404}),
        ("final;/uploads/" + "x" * 32 + "?a=b", {400}),
        ("final;/uploads/" + "x" * 32 + "#a", {400}),
        ("final;.forebay", {400, 404}),
        ("final;../uploads/" + "x" * 32, {400}),
        ("final;//uploads//" + "x" * 32, {400}),
    ],
)
def test_only_uploads_of_this_server_can_be_parts(
    start_any: Start, listed: str, statuses: set[int]
) -> None:
    """Items 110, 111 and 115: an id in a field is judged as one in a path (invariant 8)."""
    server = start_any()
    assert ask(server, "POST", Upload_Concat=listed).status in statuses
    assert server.published() == {}


def test_only_partial_uploads_can_be_parts(start_any: Start) -> None:
    """Item 110."""
    server = start_any()
    one = part(server, b"abc")
    whole = upload(server, b"abc", Upload_Metadata=metadata(filename="whole"))
    assert join(server, one, whole).status == 400
    gone = create(server, 3, Upload_Concat="partial")
    assert ask(server, "DELETE", gone).status == 204
    assert join(server, one, gone).status == 404
    assert list(server.published()) == ["whole"]


def test_the_sum_of_the_parts_has_the_limit_of_any_upload(start_any: Start) -> None:
    """Item 113."""
    server = start_any("--max-size", "1000")
    parts = [part(server, b"x" * 600), part(server, b"y" * 400)]
    assert join(server, *parts, part(server, b"z")).status == 413
    assert join(server, *parts).status == 201
    late = create(server, Upload_Concat="partial")
    final = join(server, parts[0], late)
    assert final.status == 201
    assert patch(server, late, 0, b"z" * 500, Upload_Length=500).status == 204
    wait_for(lambda: head(server, final.location).status == 410)
    assert list(server.published().values()) == [1000]


def test_a_part_stands_in_final_uploads_a_bounded_number_of_times(start_any: Start) -> None:
    """Bug: 60 KB of URLs had the bytes of one part stored 1,800 times."""
    server = start_any()
    one, two = part(server, content(1000)), part(server, content(10))
    for paths in ((one,) * 17, (one, two) * 17, (one,) * 500):
        assert join(server, *paths).status == 400
    assert server.published() == {}
    assert join(server, *(one,) * 10, two).status == 201
    assert join(server, *(one,) * 7).status == 400
    assert join(server, *(one,) * 6).status == 201
    assert join(server, one).status == 400
    assert sorted(server.published().values()) == [6000, 10_010]
    assert [join(server, two).status for _ in range(16)] == [201] * 15 + [400]


def test_unfinished_uploads_are_bounded_and_room_is_made_by_ending_one(start_any: Start) -> None:
    server = start_any("--max-unfinished", "3")
    paths = [create(server, 10) for _ in range(3)]
    reply = ask(server, "POST", Upload_Length=10)
    assert reply.status == 503
    assert b"FB_TOO_MANY_UNFINISHED" in reply.body
    assert server.request("PUT", "/files/plain", b"x")[0] == 201
    assert patch(server, paths[0], 0, content(10)).status == 204


def test_a_final_upload_can_be_asked_for_before_its_parts_are_there(start_any: Start) -> None:
    """Items 101, 104 and 110."""
    server = start_any()
    parts = [create(server, 3, Upload_Concat="partial"), create(server, Upload_Concat="partial")]
    reply = join(server, *parts, Upload_Metadata=metadata(filename="late"))
    assert reply.status == 201
    final = reply.location
    told = head(server, final)
    assert told.status == 200
    assert {"upload-offset", "upload-length", "upload-defer-length"}.isdisjoint(told.fields.names)
    assert told.fields["upload-concat"].startswith("final;")
    assert patch(server, final, 0, b"x").status == 403
    assert patch(server, parts[1], 0, b"def").status == 204
    assert patch(server, parts[0], 0, b"abc").status == 204
    assert patch(server, parts[1], 3, b"", Upload_Length=3).status == 204
    wait_for(lambda: "upload-offset" in head(server, final).fields)
    told = head(server, final)
    assert (told.offset, told.fields["upload-length"]) == (6, "6")
    assert (server.folder / "late").read_bytes() == b"abcdef"


def test_a_part_that_is_ended_first_ends_the_final(server: ServerProcess) -> None:
    """Items 100 and 110: an unfinished part may go, and then there can be no whole."""
    done, other = part(server, b"abc"), create(server, 3, Upload_Concat="partial")
    final = join(server, done, other).location
    assert ask(server, "DELETE", done).status == 503  # the final is being made of it
    assert ask(server, "DELETE", other).status == 204
    wait_for(lambda: head(server, final).status == 410)
    assert ask(server, "DELETE", done).status == 204
    assert server.leftovers() == []


def test_a_part_may_go_when_the_final_is_there(start_any: Start) -> None:
    """Items 100 and 109."""
    server = start_any()
    before = len(server.leftovers())
    parts = [part(server, b"abc"), part(server, b"def")]
    final = join(server, *parts, Upload_Metadata=metadata(filename="f")).location
    for path in parts:
        assert ask(server, "DELETE", path).status == 204
    assert head(server, final).offset == 6
    assert (server.folder / "f").read_bytes() == b"abcdef"
    assert len(server.leftovers()) == before


def test_finished_parts_outlive_a_restart_and_expire(start_server: Start) -> None:
    """Items 81 and 109: a sweep at the start leaves them, until their time has come."""
    options = ("--durability", "relaxed", "--retention")
    server = start_server(*options, "1h")
    parts = [part(server, b"abc"), part(server, b"def")]
    assert "upload-expires" in head(server, parts[0]).fields
    assert server.stop() == 0
    server = start_server(*options, "1h")
    reply = join(server, *parts, Upload_Metadata=metadata(filename="f"))
    assert reply.status == 201
    assert (server.folder / "f").read_bytes() == b"abcdef"


def test_a_final_upload_that_waited_goes_on_after_a_restart(start_server: Start) -> None:
    """Items 104 and 114."""
    server = start_server("--durability", "relaxed")
    one, two = part(server, b"abc"), create(server, 3, Upload_Concat="partial")
    final = join(server, one, two, Upload_Metadata=metadata(filename="f")).location
    server.kill()
    server = start_server("--durability", "relaxed")
    assert patch(server, two, 0, b"def").status == 204
    wait_for(lambda: "upload-offset" in head(server, final).fields)
    assert (server.folder / "f").read_bytes() == b"abcdef"


def test_a_disk_that_is_too_small_is_told_at_once(start_server: Start) -> None:
    """Item 114: room is reserved before anything is copied."""
    server = start_server("--durability", "relaxed", "--min-free", "0")
    one = part(server, b"x" * 2_000_000)
    assert server.stop() == 0
    server = start_server("--durability", "relaxed", "--min-free", "1000TB")
    before = server.leftovers()
    assert join(server, one).status == 507
    assert server.leftovers() == before


def test_parts_in_many_processes(start_server: Start) -> None:
    """Items 104 and 114: whichever process is asked."""
    server = start_server("--durability", "relaxed", "--workers", "2")
    data = [content(200_000, n) for n in range(6)]
    parts = [create(server, 200_000, Upload_Concat="partial") for _ in data]
    final = join(server, *parts, Upload_Metadata=metadata(filename="f")).location
    for path, piece in zip(reversed(parts), reversed(data), strict=True):
        assert patch(server, path, 0, piece).status == 204
    wait_for(lambda: "upload-offset" in head(server, final).fields)
    assert (server.folder / "f").read_bytes() == b"".join(data)
