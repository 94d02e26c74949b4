"""What other servers were seen to get wrong about resumable uploads, and what users asked for.

Each note has tests that would fail if it were true here; those that no other file has are
below the table.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import hashlib
import select
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content
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
    request_head,
    upload,
)
from tus.test_interruptions import begun, stored

Start = Callable[..., ServerProcess]
RELAXED = ("--durability", "relaxed")
TESTS = Path(__file__).parents[1]
MiB = 1 << 20

_HERE = "tus/test_field_notes.py"

NOTES: dict[str, tuple[str, ...]] = {
    # --- seen broken in peers ----------------------------------------------------------------
    "body spooled to disk before authentication, enable switch and size limit": (
        "engine/uploads/test_create.py::test_every_request_is_authorised_and_a_stranger_finds_nothing",
        "ietf/test_creation.py::test_resumable_uploads_can_be_switched_off",
        "tus/test_creation.py::test_too_long_an_upload_is_refused_at_once",
        f"{_HERE}::test_nothing_of_a_refused_request_is_stored",
    ),
    "401 and 415 answered, bytes written all the same": (
        "tus/test_creation.py::test_what_cannot_be_taken_is_refused_before_anything_is_made",
        f"{_HERE}::test_nothing_of_a_refused_request_is_stored",
    ),
    "kill -9 in the middle of a PATCH, restart, resume: the file is corrupt": (
        "durability/test_gibibyte.py::"
        "test_a_gibibyte_that_is_cut_and_goes_on_arrives_whole_in_flat_memory",
        "durability/test_kill_resumable.py::test_no_offset_is_taken_back_by_kill_9",
        "durability/test_kill_resumable.py::test_no_offset_is_taken_back_by_many_kills",
        "ietf/test_crash.py::test_progress_that_was_told_is_never_taken_back",
        "tus/test_interruptions.py::test_a_killed_server_has_kept_what_it_acknowledged",
    ),
    "10 MiB chunked body into an 8 MiB upload": (
        "tus/test_core.py::test_what_fits_of_a_chunked_body_that_is_too_long_is_kept",
        f"{_HERE}::test_ten_mebibytes_do_not_go_into_eight",
    ),
    "whole PATCH body held in RAM": (
        "durability/test_gibibyte.py::"
        "test_a_gibibyte_that_is_cut_and_goes_on_arrives_whole_in_flat_memory",
    ),
    "one 512 MiB chunk of a chunked body": (
        f"{_HERE}::test_one_chunk_of_half_a_gibibyte_is_taken_in_flat_memory",
    ),
    "two PATCHes on one upload freeze the whole server": (
        f"{_HERE}::test_a_patch_that_waits_for_its_upload_holds_nobody_else_up",
        "tus/test_interruptions.py::test_a_newer_patch_takes_over",
    ),
    "HEAD during a stalled PATCH: more than 30 s": (
        "ietf/test_takeover.py::test_a_question_ends_a_stalled_append",
        "tus/test_interruptions.py::test_head_ends_a_running_patch_and_tells_an_offset_that_fits",
    ),
    "GET and HEAD take the exclusive lock: a download interrupts a running upload": (
        "ietf/test_takeover.py::test_looking_at_the_state_ends_nothing",
        "tus/test_core.py::test_a_get_tells_the_state_and_disturbs_nobody",
        f"{_HERE}::test_downloads_and_uploads_do_not_disturb_each_other",
    ),
    "Upload-Concat returned a file outside the store": (
        "protocol/test_tus_fields.py::test_no_url_leads_anywhere_but_to_an_id",
        "tus/test_concatenation.py::test_only_uploads_of_this_server_can_be_parts",
    ),
    "size limit bypassed by deferred length plus Content-Length": (
        "engine/uploads/test_service.py::test_limits_hold_for_every_way_of_telling_a_length",
        "tus/test_creation.py::test_the_maximum_holds_while_the_length_is_not_known",
    ),
    ".info rewritten in place with truncation, no fsync anywhere": (
        "sessions/sqlite/test_sessions.py::test_strict_syncs_every_commit",
        "stores/files/test_sync_order.py::test_a_resumable_upload_survives_from_its_creation",
    ),
    "connect and reset kills the process": (
        "e2e/test_malformed.py::test_a_storm_of_resets_leaves_no_descriptor_and_no_file",
        "tus/test_interruptions.py::test_a_reset_while_nobody_reads_leaves_a_prefix",
    ),
    "a client's disconnect kills the process": (
        "tus/test_interruptions.py::test_the_beginning_of_a_body_that_breaks_off_is_kept",
    ),
    "8 idle sockets stall everybody": (
        "e2e/test_timeouts.py::test_thousands_of_silent_clients_hold_nobody_up",
        f"{_HERE}::test_stalled_uploads_hold_nobody_up",
    ),
    "8 concurrent uploads of one name: one file left": (
        "durability/test_kill_resumable.py::test_no_offset_is_taken_back_by_kill_9",
        f"{_HERE}::test_eight_uploads_of_one_name_are_eight_files",
    ),
    "rate limit closes the socket without an answer": (
        f"{_HERE}::test_one_patch_too_many_is_told_to_come_back",
    ),
    "size limit: connection dropped, no 413": (
        f"{_HERE}::test_a_client_that_sends_everything_first_reads_the_413",
    ),
    "the temp directory is another filesystem: every byte written twice": (
        f"{_HERE}::test_the_file_is_the_one_that_the_bytes_were_written_to",
    ),
    "SIGTERM leaves an orphan nothing sweeps": (
        "engine/maintenance/test_sweep.py::test_data_without_a_record_goes_but_not_while_it_is_being_created",
        "engine/maintenance/test_sweep.py::test_expired_uploads_go_and_others_stay",
        "tus/test_interruptions.py::test_a_server_that_stops_keeps_what_came",
    ),
    "X-HTTP-Method-Override ignored": (
        "tus/test_core.py::test_a_post_can_stand_for_another_method",
    ),
    "empty Upload-Metadata refused": (
        "tus/test_clients.py::test_tuspy_sends_a_file_in_chunks",
        "tus/test_creation.py::test_metadata_in_every_legal_form_is_taken",
    ),
    "checksum mismatch answered 417 instead of 460; wrong checksum accepted": (
        "tus/test_checksum.py::test_each_algorithm_that_is_offered_is_compared",
    ),
    "metadata of HEAD re-serialised, order and bad pairs lost": (
        "tus/test_core.py::test_head_tells_where_an_upload_stands",
    ),
    "disk full is a bare 500 or an opaque 400": (
        "tus/test_concatenation.py::test_a_disk_that_is_too_small_is_told_at_once",
        f"{_HERE}::test_a_full_disk_is_told_as_that_and_the_upload_goes_on_when_there_is_room",
    ),
    "ids from a non-cryptographic random source": (
        "ietf/test_creation.py::test_ids_cannot_be_guessed_and_tell_nothing",
        "tus/test_creation.py::test_an_upload_has_a_place_that_cannot_be_guessed",
    ),
    "negative Upload-Length accepted": (
        "protocol/test_tus.py::test_nothing_but_a_canonical_number_is_read",
        "tus/test_core.py::test_only_plain_numbers_are_lengths_and_offsets",
    ),
    "no 100-continue: curl waits a second": (
        "tus/test_core.py::test_100_continue_comes_only_to_what_will_be_read",
    ),
    # --- asked for by users ------------------------------------------------------------------
    "resume that survives an app restart": (
        "ietf/test_crash.py::test_an_upload_outlives_the_process",
        "tus/test_clients.py::test_tus_js_client_goes_on_after_it_stopped_and_the_server_restarted",
        "tus/test_clients.py::test_tuspy_goes_on_after_a_restart",
    ),
    "no 409 loops with stale state; no stale locks": (
        "durability/test_kill_resumable.py::test_no_offset_is_taken_back_by_kill_9",
        "ietf/test_append.py::test_another_offset_is_refused_with_the_right_one",
        "tus/test_core.py::test_a_patch_needs_an_offset_and_it_must_be_the_current_one",
    ),
    "expiry and clean-up of abandoned uploads": (
        "engine/maintenance/test_sweep.py::test_expired_uploads_go_and_others_stay",
        "tus/test_creation.py::test_an_expired_upload_is_gone_before_anybody_swept_it",
    ),
    "correct Location behind a proxy, https kept": (
        "tus/test_creation.py::test_a_proxys_prefix_is_part_of_the_path",
        "tus/test_creation.py::test_a_whole_url_can_be_asked_for",
    ),
    "CORS right by default": (
        "tus/test_core.py::test_a_page_of_an_allowed_origin_can_do_everything",
    ),
    "authorisation per request": (
        "engine/uploads/test_create.py::test_every_request_is_authorised_and_a_stranger_finds_nothing",
    ),
    "finish hooks that fire exactly once and can fail the upload": (
        "engine/uploads/test_create.py::test_how_it_ended_is_kept_and_told_once",
        "engine/uploads/test_service.py::"
        "test_a_refused_file_ends_its_upload_and_whoever_comes_back_is_told",
    ),
    "the original file name on disk": (
        "tus/test_clients.py::test_aiotus_sends_a_file_and_reads_its_metadata_back",
        "tus/test_core.py::test_chunks_become_the_file",
    ),
    "returning data with the final answer": (
        "ietf/test_append.py::test_a_lost_final_answer_is_given_again",
    ),
    "checksums, of a chunk and of the whole file": (
        "ietf/test_digests.py::test_the_whole_is_verified_at_the_end",
        "tus/test_checksum.py::test_each_algorithm_that_is_offered_is_compared",
    ),
    "downloads not blocked by uploads": (
        f"{_HERE}::test_downloads_and_uploads_do_not_disturb_each_other",
    ),
    "chunk-size hints for proxies with body limits": (
        "ietf/test_limits.py::test_options_tell_of_the_limits",
        "tus/test_clients.py::test_tuspy_sends_a_file_in_chunks",
    ),
    "concatenation of 100 GB without a time-out": (
        "engine/uploads/test_concatenation.py::test_a_copy_goes_on_after_a_restart",
        "engine/uploads/test_concatenation.py::test_a_long_copy_goes_on_behind_its_answer",
    ),
    "disk full told as disk full": (
        f"{_HERE}::test_a_full_disk_is_told_as_that_and_the_upload_goes_on_when_there_is_room",
    ),
    "temp files on the destination's filesystem and a rename": (
        f"{_HERE}::test_the_file_is_the_one_that_the_bytes_were_written_to",
    ),
    "a 413 that the client sees": (
        f"{_HERE}::test_a_client_that_sends_everything_first_reads_the_413",
    ),
    "URLSession speaks the IETF draft, interop 3, 5, 6, 8": (
        "ietf/test_creation.py::test_every_version_that_is_spoken_gets_its_104_and_its_fields",
    ),
}


@functools.cache
def defined_in(path: str) -> frozenset[str]:
    """The tests that a file defines."""
    tree = ast.parse((TESTS / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in tree.body if isinstance(n, kinds) and "test_" in n.name)


@pytest.mark.parametrize("note", NOTES)
def test_the_tests_of_a_note_exist(note: str) -> None:
    assert NOTES[note]
    for test in NOTES[note]:
        path, _, name = test.partition("::")
        assert name in defined_in(path), test


def test_every_test_below_belongs_to_a_note() -> None:
    named = {test for tests in NOTES.values() for test in tests}
    own = defined_in(_HERE) - {
        "test_the_tests_of_a_note_exist",
        "test_every_test_below_belongs_to_a_note",
    }
    assert {f"{_HERE}::{name}" for name in own} <= named


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"Upload_Offset": -1}),
        (400, {"Upload_Checksum": "crc7 AAAA"}),
        (409, {"Upload_Offset": 2}),
        (412, {"Tus_Resumable": "0.2.2"}),
        (413, {"Upload_Offset": 3}),
        (415, {"Content_Type": "application/octet-stream"}),
        (421, {"Host": "elsewhere.example"}),
    ],
    ids=str,
)
def test_nothing_of_a_refused_request_is_stored(
    reuse_server: Start, status: int, fields: dict[str, str | int]
) -> None:
    server = reuse_server()
    path = create(server, 100_000)
    assert patch(server, path, 0, b"abc").status == 204
    body = content(99_998 if status == 413 else 50_000)
    fields = {"Tus_Resumable": "1.0.0", "Upload_Offset": 3, "Content_Type": STREAM} | fields
    assert ask(server, "PATCH", path, body, version=None, **fields).status == status
    assert stored(server, path) == 3
    assert head(server, path).offset == 3
    assert server.published() == {}
    assert ask(server, "DELETE", path).status == 204


def test_ten_mebibytes_do_not_go_into_eight(reuse_server: Start) -> None:
    """Neither at once, nor at the next resume."""
    server = reuse_server()
    data = content(10 * MiB)
    path = create(server, 8 * MiB, Upload_Metadata=metadata(filename="eight"))
    assert patch(server, path, 0, data[:MiB]).status == 204
    with RawClient(server) as client:
        client.send(patch_head(path, MiB, "Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):
            client.send(chunked([data[MiB:]]))
        assert reply_of(client).status == 413
    assert head(server, path).offset == 8 * MiB
    assert patch(server, path, 8 * MiB, data[8 * MiB :]).status == 413
    assert (server.folder / "eight").read_bytes() == data[: 8 * MiB]


@pytest.mark.parametrize("chunked_body", [False, True], ids=["length", "chunked"])
def test_a_client_that_sends_everything_first_reads_the_413(
    reuse_server: Start, chunked_body: bool
) -> None:
    server = reuse_server("--max-size", "1MiB")
    path = create(server)
    framing = "Transfer-Encoding: chunked" if chunked_body else f"Content-Length: {32 * MiB}"
    with RawClient(server, timeout=60) as client:
        client.send(patch_head(path, 0, framing))
        for _ in range(32):
            client.send((b"100000\r\n" if chunked_body else b"") + b"x" * MiB)
            client.send(b"\r\n" if chunked_body else b"")
        assert reply_of(client).status == 413
        assert client.is_closed()
    assert server.published() == {}
    assert ask(server, "DELETE", path).status == 204


def test_one_patch_too_many_is_told_to_come_back(reuse_server: Start) -> None:
    server = reuse_server("--max-uploads", "1")
    one, two = create(server, 6), create(server, 6)
    with RawClient(server) as first:
        first.send(patch_head(one, 0, "Content-Length: 6", "Expect: 100-continue"))
        assert first.head()[0] == 100
        first.send(b"abc")
        reply = patch(server, two, 0, b"x" * 6)
        assert reply.status == 503
        assert int(reply.fields["retry-after"]) > 0
        assert head(server, two).offset == 0
        first.send(b"def")
        assert reply_of(first).status == 204
    assert patch(server, two, 0, b"x" * 6).status == 204


def test_a_full_disk_is_told_as_that_and_the_upload_goes_on_when_there_is_room(
    start_server: Start,
) -> None:
    server = start_server(*RELAXED)
    path = create(server, 9, Upload_Metadata=metadata(filename="f"))
    assert patch(server, path, 0, b"abc").status == 204
    assert server.stop() == 0
    server = start_server(*RELAXED, "--min-free", "1000TB")
    for reply in (
        patch(server, path, 3, b"defghi"),
        ask(server, "POST", body=b"abc", Upload_Length=3, Content_Type=STREAM),
    ):
        assert reply.status == 507
        assert b"FB_DISK_FULL" in reply.body
    assert head(server, path).offset == 3
    assert server.stop() == 0
    server = start_server(*RELAXED)
    assert patch(server, path, 3, b"defghi").status == 204
    assert (server.folder / "f").read_bytes() == b"abcdefghi"
    assert server.published() == {"f": 9}
    assert server.leftovers() == []


# --- who waits for whom ----------------------------------------------------------------------


def has_answer(client: RawClient) -> bool:
    return bool(select.select([client.socket], [], [], 0)[0])


def test_a_patch_that_waits_for_its_upload_holds_nobody_else_up(server: ServerProcess) -> None:
    """Its upload is held by somebody who does not let go: here, by this test."""
    path = create(server, 3, Upload_Metadata=metadata(filename="waited"))
    data = server.folder / ".forebay/uploads" / path.rpartition("/")[2]
    with data.open("rb") as file, RawClient(server) as one, RawClient(server) as two:
        fcntl.flock(file, fcntl.LOCK_EX)
        for client in (one, two):
            client.send(patch_head(path, 0, "Content-Length: 3") + b"abc")
        for number in range(8):
            upload(server, b"x", Upload_Metadata=metadata(filename=f"beside-{number}"))
            assert server.request("GET", f"/files/beside-{number}")[2] == b"x"
            assert ask(server, "GET", path, version=None).status == 200
        assert not has_answer(one) and not has_answer(two)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert {reply_of(one).status, reply_of(two).status} <= {204, 409, 413, 503}
    assert head(server, path).offset == 3
    assert (server.folder / "waited").read_bytes() == b"abc"


def test_stalled_uploads_hold_nobody_up(start_server: Start) -> None:
    """Many more of them than there are threads."""
    server = start_server(*RELAXED, "--threads", "2")
    paths = [create(server, 6, Upload_Metadata=metadata(filename=f"s{n}")) for n in range(50)]
    stalled = [begun(server, path, 0, b"abc", 6) for path in paths]
    upload(server, content(3 * MiB), Upload_Metadata=metadata(filename="beside"))
    assert (server.folder / "beside").read_bytes() == content(3 * MiB)
    assert not any(has_answer(client) for client in stalled)
    for client in stalled:
        client.send(b"def")
        assert reply_of(client).status == 204
        client.close()
    assert len(server.published()) == 51


def test_downloads_and_uploads_do_not_disturb_each_other(reuse_server: Start) -> None:
    server = reuse_server()
    (server.folder / "there").write_bytes(content(16 * MiB))
    path = create(server, 6, Upload_Metadata=metadata(filename="comes"))
    with begun(server, path, 0, b"abc", 6) as client, RawClient(server) as reader:
        reader.send(b"GET /files/there HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.head()[0] == 200  # and it reads on only later
        assert server.request("HEAD", "/files/there")[0] == 200
        assert server.request("GET", "/files/comes")[0] == 404
        assert ask(server, "GET", path, version=None).status == 200
        assert not has_answer(client)
        client.send(b"def")
        assert reply_of(client).status == 204
        assert reader.read(16 * MiB) == content(16 * MiB)
    assert (server.folder / "comes").read_bytes() == b"abcdef"


def test_eight_uploads_of_one_name_are_eight_files(reuse_server: Start) -> None:
    server = reuse_server("--workers", "2")
    contents = [content(300_000, seed) for seed in range(8)]
    paths = [create(server, 300_000, Upload_Metadata=metadata(filename="n.bin")) for _ in contents]
    replies: list[Reply] = []

    def send(path: str, data: bytes) -> None:
        replies.append(patch(server, path, 0, data))

    threads = [
        threading.Thread(target=send, args=pair) for pair in zip(paths, contents, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [204] * 8
    names = {"n.bin", *(f"n ({number}).bin" for number in range(1, 8))}
    assert set(server.published()) == names
    assert sorted((server.folder / name).read_bytes() for name in names) == sorted(contents)


# --- what it costs ---------------------------------------------------------------------------


def test_the_file_is_the_one_that_the_bytes_were_written_to(reuse_server: Start) -> None:
    """Nothing is copied at the end: the same inode has the name then."""
    server = reuse_server()
    data = content(3 * MiB)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f"))
    assert patch(server, path, 0, data[:MiB]).status == 204
    staged = (server.folder / ".forebay/uploads" / path.rpartition("/")[2]).stat()
    assert patch(server, path, MiB, data[MiB:]).status == 204
    found = (server.folder / "f").stat()
    assert (found.st_dev, found.st_ino, found.st_nlink) == (staged.st_dev, staged.st_ino, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_chunk_of_half_a_gibibyte_is_taken_in_flat_memory(start_server: Start) -> None:
    server = start_server(*RELAXED)
    upload(server, b"small", Upload_Metadata=metadata(filename="small"))
    idle = server.rss()
    piece, expected = content(MiB), hashlib.sha256()
    asks = ("Upload-Defer-Length: 1", f"Upload-Metadata: {metadata(filename='big')}")
    with RawClient(server, timeout=300) as client:
        client.send(request_head("POST", "/uploads/", *asks, "Content-Length: 0"))
        path = reply_of(client).location
        client.send(
            patch_head(path, 0, f"Upload-Length: {512 * MiB}", "Transfer-Encoding: chunked")
        )
        client.send(b"%x\r\n" % (512 * MiB))
        for _ in range(512):
            client.send(piece)
            expected.update(piece)
        client.send(b"\r\n0\r\n\r\n")
        assert reply_of(client).offset == 512 * MiB
    assert server.rss("VmHWM") - idle <= 24 * MiB
    with (server.folder / "big").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected.hexdigest()
