"""tus 1.0: what goes wrong on the way (items 22, 28, 29, 31, 36 and 37; invariants 1, 4 and 10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content
from tus.client import create, head, metadata, patch, patch_head, reply_of
from waiting import wait_for

Start = Callable[..., ServerProcess]
RELAXED = ("--durability", "relaxed")


def stored(server: ServerProcess, path: str) -> int:
    """Bytes of an unfinished upload that are in its file, committed or not."""
    return (server.folder / ".forebay/uploads" / path.rpartition("/")[2]).stat().st_size


def begun(server: ServerProcess, path: str, offset: int, data: bytes, total: int) -> RawClient:
    """A client that announced `total` bytes and has sent `data`, which has arrived."""
    client = RawClient(server)
    client.send(patch_head(path, offset, f"Content-Length: {total}") + data)
    wait_for(lambda: stored(server, path) >= offset + len(data))
    return client


@pytest.mark.parametrize("workers", ["1", "2"])
def test_head_ends_a_running_patch_and_tells_an_offset_that_fits(
    start_server: Start, workers: str
) -> None:
    """Items 22 and 36: in whichever process either of them is."""
    server = start_server(*RELAXED, "--workers", workers)
    data = content(900_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f"))
    offset = 0
    for _ in range(6):
        piece = data[offset : offset + 100_000]
        with begun(server, path, offset, piece, len(data) - offset) as stale:
            found = head(server, path)
            assert (found.status, found.offset) == (200, offset + len(piece))
            stale.send(b"x" * 50_000)  # what the old one still has to say is not heard
            assert reply_of(stale).status == 503
        offset = found.offset
    assert patch(server, path, offset, data[offset:]).status == 204
    assert (server.folder / "f").read_bytes() == data


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_newer_patch_takes_over(start_server: Start, workers: str) -> None:
    """Item 36: one writer at a time, and every byte that was acknowledged stays."""
    server = start_server(*RELAXED, "--workers", workers)
    data = content(600_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f"))
    offset = 0
    stale = []
    for _ in range(5):
        piece = data[offset : offset + 100_000]
        stale.append(begun(server, path, offset, piece, len(data) - offset))
        assert patch(server, path, offset, b"wrong place").status in (409, 413)
        offset += len(piece)
    assert patch(server, path, offset, data[offset:]).status == 204
    for client in stale:
        client.send(b"y" * 1000)
        assert reply_of(client).status == 503
        client.close()
    assert (server.folder / "f").read_bytes() == data


@pytest.mark.parametrize("end", ["close", "reset", "half"])
def test_the_beginning_of_a_body_that_breaks_off_is_kept(reuse_server: Start, end: str) -> None:
    """Items 28 and 31."""
    server = reuse_server()
    data = content(3_000_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename=end))
    client = RawClient(server)
    client.send(patch_head(path, 0, f"Content-Length: {len(data)}") + data[:2_000_000])
    wait_for(lambda: stored(server, path) == 2_000_000)
    if end == "half":
        client.half_close()
        client.socket.recv(65536)
        client.close()
    else:
        getattr(client, end)()
    offset = head(server, path).offset
    assert offset == 2_000_000
    assert patch(server, path, offset, data[offset:]).status == 204
    assert (server.folder / end).read_bytes() == data
    (server.folder / end).unlink()


def test_a_reset_while_nobody_reads_leaves_a_prefix(server: ServerProcess) -> None:
    """Item 28: the client goes at any moment, and comes back."""
    data = content(6_000_000)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f"))
    offset, sizes = 0, [1, 70_000, 1_100_000, 65_536, 3_000_000]
    for size in sizes:
        client = RawClient(server)
        client.send(
            patch_head(path, offset, f"Content-Length: {len(data) - offset}")
            + data[offset : offset + size]
        )
        client.reset()
        found = head(server, path).offset
        assert offset <= found <= offset + size
        offset = found
    assert patch(server, path, offset, data[offset:]).status == 204
    assert (server.folder / "f").read_bytes() == data


def test_a_chunked_body_that_lies_keeps_what_came_before(server: ServerProcess) -> None:
    """Items 28 and 30."""
    path = create(server, 9)
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Transfer-Encoding: chunked") + b"3\r\nabcX")
        assert reply_of(client).status == 400
    assert head(server, path).offset == 3
    with RawClient(server) as client:
        client.send(patch_head(path, 3, "Transfer-Encoding: chunked"))
        client.send(chunked([b"d"]).removesuffix(b"0\r\n\r\n"))
        wait_for(lambda: stored(server, path) == 4)
    assert head(server, path).offset == 4


def test_a_client_that_falls_silent_is_let_go(start_server: Start) -> None:
    """Item 29: each read renews the patience."""
    server = start_server(*RELAXED, "--body-timeout", "1s")
    path = create(server, 9)
    with begun(server, path, 0, b"abc", 9) as client:
        assert reply_of(client).status == 408
    assert head(server, path).offset == 3


def test_a_server_that_stops_keeps_what_came(start_server: Start) -> None:
    """Item 37."""
    server = start_server(*RELAXED, "--drain-timeout", "0")
    path = create(server, 9, Upload_Metadata=metadata(filename="f"))
    with begun(server, path, 0, b"abc", 9) as client:
        server.process.terminate()
        assert reply_of(client).status == 503
    assert server.process.wait(30) == 0
    server = start_server(*RELAXED)
    assert head(server, path).offset == 3
    assert patch(server, path, 3, b"defghi").status == 204
    assert (server.folder / "f").read_bytes() == b"abcdefghi"


def test_a_killed_server_has_kept_what_it_acknowledged(start_server: Start) -> None:
    """Item 28 and invariant 1: `kill -9` in the middle of a PATCH, and on with it."""
    data = content(20_000_000)
    server = start_server(*RELAXED)
    path = create(server, len(data), Upload_Metadata=metadata(filename="f"))
    assert patch(server, path, 0, data[:1_000_000]).offset == 1_000_000
    offset = 1_000_000
    for size in (5_000_000, 9_000_000):
        client = begun(server, path, offset, data[offset : offset + size], len(data) - offset)
        server.kill()
        client.close()
        server = start_server(*RELAXED)
        found = head(server, path).offset
        assert offset <= found <= offset + size
        offset = found
    assert patch(server, path, offset, data[offset:]).status == 204
    assert (server.folder / "f").read_bytes() == data


def test_head_of_an_upload_whose_last_answer_was_lost_says_it_is_there(
    start_server: Start,
) -> None:
    """Item 13 and invariant 11: all bytes came, the answer did not."""
    server = start_server(*RELAXED)
    path = create(server, 6, Upload_Metadata=metadata(filename="f"))
    with RawClient(server) as client:
        client.send(patch_head(path, 0, "Content-Length: 6") + b"abcdef")
        client.reset()
    wait_for(lambda: "f" in server.published() or head(server, path).offset < 6)
    found = head(server, path)
    if found.offset < 6:
        assert patch(server, path, found.offset, b"abcdef"[found.offset :]).status == 204
    assert (server.folder / "f").read_bytes() == b"abcdef"
    assert patch(server, path, 6, b"").offset == 6
    assert list(server.published()) == ["f"]
