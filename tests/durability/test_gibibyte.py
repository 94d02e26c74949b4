"""A gibibyte through an upload that is cut again and again, in flat memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from durability.test_kill import make_rng
from e2e.server import ServerProcess
from raw_http import RawClient, content
from tus.client import create, head, metadata, patch_head, reply_of, upload

Start = Callable[..., ServerProcess]
MiB, GiB = 1 << 20, 1 << 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_BASE = content(MiB)


def block(number: int) -> bytes:
    """The bytes of one MiB of the file; no two are the same."""
    return number.to_bytes(8) + _BASE[8:]


def send(client: RawClient, start: int, end: int) -> None:
    while start < end:
        number, skipped = divmod(start, MiB)
        piece = block(number)[skipped : skipped + end - start]
        client.send(piece)
        start += len(piece)


def started(start: Start, *options: str) -> tuple[ServerProcess, int]:
    """A server, and the memory it needs when it has done each kind of thing once."""
    server = start(*options)
    upload(server, b"small", Upload_Metadata=metadata(filename="small"))
    return server, server.rss()


def cut(way: str, server: ServerProcess, client: RawClient) -> None:
    match way:
        case "reset":
            client.reset()
        case "close":
            client.close()
        case "kill":
            server.kill()
        case "stop":
            assert server.stop() == 0


@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_a_gibibyte_that_is_cut_and_goes_on_arrives_whole_in_flat_memory(
    start_server: Start, store_folder: Path, durability: str
) -> None:
    seed, rng = make_rng()
    options = ("--durability", durability, "--drain-timeout", "0")
    server, idle = started(start_server, *options)
    path = create(server, GiB, Upload_Metadata=metadata(filename="big"))
    ways = ["kill", "reset", "stop", "close", "kill", "stop"]
    rng.shuffle(ways)
    offset = 0
    for left in range(len(ways), 0, -1):
        until = offset + rng.randrange(2 * (GiB - offset) // (left + 1))
        with RawClient(server, timeout=300) as client:
            client.send(patch_head(path, offset, f"Content-Length: {GiB - offset}"))
            send(client, offset, until)
            assert server.rss("VmHWM") - idle <= 24 * MiB, seed
            cut(ways[left - 1], server, client)
        if server.process.poll() is not None:
            server, idle = started(start_server, *options)
        told = head(server, path).offset
        assert offset <= told <= until, (seed, ways[left - 1])
        assert "big" not in server.published()
        offset = told
    with RawClient(server, timeout=300) as client:
        client.send(patch_head(path, offset, f"Content-Length: {GiB - offset}"))
        send(client, offset, GiB)
        assert reply_of(client).offset == GiB
    assert server.rss("VmHWM") - idle <= 24 * MiB, seed
    expected = hashlib.sha256()
    for number in range(GiB // MiB):
        expected.update(block(number))
    with (store_folder / "big").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected.hexdigest(), seed
    assert server.leftovers() == []
