"""Parts across cuts, kills, races and processes; with curl as its users have it."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from partial.client import Reply, ask, begin_and_stall, part
from raw_http import RawClient, content, head
from stores.tools import need

BODY = content(3_000_000)
SIZE = len(BODY)
Start = Callable[..., ServerProcess]
SHELLS = ("forebay", "uvicorn")


def curl(*arguments: str) -> str:
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def source(store_folder: Path) -> Path:
    path = store_folder / "source"
    path.write_bytes(BODY)
    return path


@pytest.mark.parametrize("shell", SHELLS)
def test_curl_goes_on_where_it_was_cut(
    start_server: Start, store_folder: Path, source: Path, shell: str
) -> None:
    need("curl")
    server = start_server(folder=store_folder / "files", shell=shell)
    url = f"{server.url}/files/big.bin"
    command = ["curl", "-sS", "-C", "-", "--limit-rate", "2M", "-T", str(source), url]
    cut = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while part_of(server) < 200_000:
            assert cut.poll() is None, "it was to be cut in the middle"
    finally:
        cut.kill()
        cut.wait()
    # The same again begins at 0: it is told where to go on instead.
    again = curl("-C", "-", "-T", str(source), url)
    assert "FB_UPLOAD_EXISTS" in again
    assert again.endswith("\n409")
    told = curl("-i", "-X", "PUT", "-H", "Content-Range: bytes */*", url)
    found = re.search(r"(?im)^range: bytes=0-(\d+)\r?$", told)
    assert found and told.endswith("\n308")
    offset = int(found[1]) + 1
    assert 200_000 <= offset < SIZE
    assert server.published() == {}
    last = curl("-C", str(offset), "-T", str(source), url)
    assert last.endswith("\n201")
    assert (server.folder / "big.bin").read_bytes() == BODY
    assert server.leftovers() == []


def part_of(server: ServerProcess) -> int:
    """Bytes on the disk of the one upload that is under way."""
    own = server.folder / ".forebay/uploads"
    return sum(path.stat().st_size for path in own.iterdir()) if own.is_dir() else 0


def test_curl_takes_an_unfinished_upload_for_no_error_and_follows_nowhere(
    reuse_server: Start, source: Path
) -> None:
    need("curl")
    server = reuse_server()
    url = f"{server.url}/files/f"
    field = f"Content-Range: bytes 0-{SIZE - 1}/{SIZE + 10}"
    told = curl("--fail", "-L", "-H", field, "-T", str(source), url)
    assert told.endswith("\n308")
    field = f"Content-Range: bytes {SIZE}-{SIZE + 9}/{SIZE + 10}"
    assert curl("-X", "PATCH", "-H", field, "--data-binary", "0123456789", url).endswith("\n201")
    assert (server.folder / "f").read_bytes() == BODY + b"0123456789"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_an_upload_outlives_the_process(start_server: Start, durability: str, shell: str) -> None:
    options = ("--durability", durability)
    server = start_server(*options, shell=shell)
    location = part(server, "/files/f", BODY, 0, 1_000_000).fields["content-location"]
    with begin_and_stall(server, "/files/f", BODY, 1_000_000, 2_000_000):
        server.kill()
    server = start_server(*options, shell=shell)
    told = ask(server, "/files/f", SIZE)
    assert 1_000_000 <= told.received <= 2_000_000
    assert told.fields["content-location"] == location
    assert part(server, "/files/f", BODY, 0, SIZE).code == "FB_UPLOAD_EXISTS"
    last = part(server, "/files/f", BODY, told.received, SIZE)
    assert last.status == 201
    server.kill()
    server = start_server(*options, shell=shell)
    assert ask(server, "/files/f", SIZE).body == last.body
    assert (server.folder / "f").read_bytes() == BODY
    assert server.leftovers() == []


def test_what_died_before_a_byte_was_committed_is_in_nobodys_way(start_server: Start) -> None:
    server = start_server("--durability", "relaxed")
    fields = (f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}", "Expect: 100-continue")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", *fields, length=SIZE))
        assert client.head()[0] == 100  # so the upload is there
        reply = part(server, "/files/f", BODY, 0, 20)
        assert (reply.status, reply.code, reply.received) == (409, "FB_UPLOAD_EXISTS", 0)
        server.kill()
    server = start_server("--durability", "relaxed")
    told = ask(server, "/files/f")
    assert (told.status, told.received) == (308, 0)
    assert part(server, "/files/f", BODY, 0, SIZE).status == 201
    assert (server.folder / "f").read_bytes() == BODY
    assert server.leftovers() == []


def test_an_expired_upload_is_in_nobodys_way(start_server: Start) -> None:
    server = start_server("--durability", "relaxed", "--retention", "1")
    assert part(server, "/files/f", BODY, 0, 100).status == 308
    while ask(server, "/files/f").status == 308:
        pass
    assert ask(server, "/files/f").status in (404, 410)
    assert part(server, "/files/f", BODY, 0, SIZE).status == 201
    assert server.leftovers() == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_of_two_who_begin_at_once_one_wins(start_server: Start, workers: str) -> None:
    server = start_server("--durability", "relaxed", "--workers", workers)
    for number in range(8):
        name = f"/files/{number}"
        bodies = [content(200_000, seed) for seed in range(4)]
        start = threading.Barrier(len(bodies))
        replies: dict[int, Reply] = {}

        def send(seed: int, name=name, bodies=bodies, start=start, replies=replies) -> None:
            start.wait()
            replies[seed] = part(server, name, bodies[seed], 0, 100_000)

        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [winner] = [seed for seed, reply in replies.items() if reply.status == 308]
        for seed, reply in replies.items():
            if seed != winner:
                assert (reply.status, reply.code) == (409, "FB_UPLOAD_EXISTS")
        assert part(server, name, bodies[winner], 100_000, 200_000).status == 201
        assert (server.folder / str(number)).read_bytes() == bodies[winner]
    assert server.leftovers() == []


def test_any_worker_process_goes_on_with_it(start_server: Start) -> None:
    server = start_server("--durability", "relaxed", "--workers", "2")
    step = 100_000
    for start in range(0, SIZE, step):  # each on a connection of its own, to whoever takes it
        reply = part(server, "/files/f", BODY, start, start + step)
        assert reply.status == (308 if start + step < SIZE else 201)
    assert (server.folder / "f").read_bytes() == BODY
