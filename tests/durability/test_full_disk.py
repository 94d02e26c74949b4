"""A disk that is full, read-only or out of descriptors: told, survived, and nothing left."""

from __future__ import annotations

import contextlib
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durability.content import content
from durability.disk import Disk
from durability.missing import need, no_loop_mounts, no_strace
from durability.tracing import Tracer
from e2e.server import ServerProcess
from raw_http import RawClient

Start = Callable[..., ServerProcess]
MiB = 1 << 20
SLACK = 256 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    need(no_loop_mounts())
    made = Disk(tmp_path, 64 * MiB)
    yield made
    made.close()


@pytest.fixture(params=["relaxed", "strict"])
def start_on_disk(
    disk: Disk, start_server: Start, request: pytest.FixtureRequest
) -> Callable[..., ServerProcess]:
    """Asks for `disk` first, so that the server is gone before the disk is unmounted."""

    def start(*options: str) -> ServerProcess:
        durability = ["--durability", request.param]
        started = start_server(*durability, *options, folder=disk.place)
        assert started.request("GET", "/healthz")[0] == 200
        return started

    return start


def code_of(answer: bytes) -> str:
    return json.loads(answer)["code"]


def put(server: ServerProcess, name: str, body: bytes) -> tuple[int, bytes]:
    status, _, answer = server.request("PUT", f"/files/{name}", body)
    return status, answer


def wait_for_readiness(server: ServerProcess, wanted: int) -> bytes:
    """The answer of /readyz, which may be up to a second old, once it has that status."""
    deadline = time.monotonic() + 20
    while True:
        status, _, answer = server.request("GET", "/readyz")
        if status == wanted:
            return answer
        assert time.monotonic() < deadline, f"/readyz still says {status} {answer!r}"
        time.sleep(0.1)


# --- full ----------------------------------------------------------------------------------------


def test_what_cannot_fit_is_refused_before_a_byte_is_read(disk: Disk, start_on_disk: Start) -> None:
    server = start_on_disk("--min-free", "0")
    with RawClient(server) as client:
        client.send(
            b"PUT /files/big.bin HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % (100 * MiB)
        )
        status, _ = client.head()  # the first head of all: no 100 came before it
        assert status == 507
    status, _ = put(server, "small.bin", b"x" * MiB)
    assert status == 201
    assert server.published() == {"small.bin": MiB}
    assert server.leftovers() == []


def test_a_file_for_which_there_is_no_room_twice_is_stored_as_it_is(
    disk: Disk, start_on_disk: Start
) -> None:
    """Compressing needs room for both forms for a moment; without it nobody is refused."""
    options = ("--min-free", "0", "--compress-at-rest", "zstd", "--allow-delete")
    server = start_on_disk(*options)
    line = b"".join(b"%d: the quick brown fox\n" % n for n in range(1_800_000))
    for size, packed in ((44 * MiB, False), (20 * MiB, True)):
        assert put(server, "log.txt", line[:size])[0] == 201
        assert (server.published()["log.txt"] < size / 3) is packed
        assert server.request("GET", "/files/log.txt")[2] == line[:size]
        assert server.leftovers() == []
        assert server.request("DELETE", "/files/log.txt")[0] == 204
        disk.wait_for_free(48 * MiB)


def test_the_answer_507_says_what_to_do(disk: Disk, start_on_disk: Start) -> None:
    server = start_on_disk("--min-free", "10MiB")
    with RawClient(server) as client:
        client.send(
            b"PUT /files/big.bin HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n" % (50 * MiB)
        )
        status, _, answer = client.response()
    assert (status, code_of(answer)) == (507, "FB_DISK_FULL")
    assert b"--min-free" in answer


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_of_ten_at_once_those_that_fit_are_stored_and_the_rest_is_told(
    disk: Disk, start_on_disk: Start, chunked: bool
) -> None:
    server = start_on_disk("--min-free", "0")
    before = disk.free()
    size = 12 * MiB
    results: dict[str, tuple[int, bytes]] = {}

    def upload(name: str) -> None:
        with RawClient(server, timeout=60) as client:
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
            client.send(
                b"PUT /files/%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n"
                % (name.encode(), framing)
            )
            with contextlib.suppress(OSError):  # a refused one need not be read to its end
                send_body(client, content(name, size), chunked=chunked)
            status, _, answer = client.response()
            results[name] = (status, answer)

    threads = [threading.Thread(target=upload, args=(f"{n}.bin",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(results) == 10
    stored = {name for name, (status, _) in results.items() if status == 201}
    told = [(status, code_of(answer)) for status, answer in results.values() if status != 201]
    assert told == [(507, "FB_DISK_FULL")] * (10 - len(stored))
    assert len(stored) * size <= before
    if not chunked:
        assert stored, "with the length known, at least one fits"
    assert server.published() == dict.fromkeys(stored, size)
    for name in stored:
        assert (disk.place / name).read_bytes() == content(name, size)
    assert server.leftovers() == []
    # What the refused ones took came back, and the server goes on.
    disk.wait_for_free(before - len(stored) * size - SLACK)
    for name in stored:
        (disk.place / name).unlink()
    disk.wait_for_free(before - SLACK)
    assert put(server, "after.bin", content("after", size))[0] == 201


def send_body(client: RawClient, body: bytes, *, chunked: bool) -> None:
    if not chunked:
        client.send(body)
        return
    for start in range(0, len(body), MiB):
        piece = body[start : start + MiB]
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")


def test_a_chunked_body_that_fills_the_disk_leaves_nothing(
    disk: Disk, start_on_disk: Start
) -> None:
    server = start_on_disk("--min-free", "0")
    before = disk.free()
    with RawClient(server, timeout=60) as client:
        client.send(
            b"PUT /files/endless.bin HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            send_body(client, bytes(80 * MiB), chunked=True)
        status, _, answer = client.response()
    assert (status, code_of(answer)) == (507, "FB_DISK_FULL")
    assert server.published() == {}
    assert server.leftovers() == []
    disk.wait_for_free(before - SLACK)
    assert put(server, "after.bin", content("after", 30 * MiB))[0] == 201


def test_a_chunked_body_stops_at_min_free(disk: Disk, start_on_disk: Start) -> None:
    server = start_on_disk("--min-free", "20MiB")
    with RawClient(server, timeout=60) as client:
        client.send(
            b"PUT /files/endless.bin HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        least = disk.free()
        with contextlib.suppress(OSError):
            for _ in range(80):
                client.send(b"%x\r\n%s\r\n" % (MiB, bytes(MiB)))
                least = min(least, disk.free())
        status, _, _ = client.response()
    assert status == 507
    # A reservation is looked at after it was made, so that two cannot be promised the same room.
    assert least > 0
    assert server.published() == {}


def test_readiness_follows_the_room_that_must_stay_free(disk: Disk, start_on_disk: Start) -> None:
    server = start_on_disk("--min-free", "20MiB")
    wait_for_readiness(server, 200)
    filler = disk.place / "filler"
    filler.write_bytes(bytes(disk.free() - 15 * MiB))
    assert b"FB_DISK_FULL" in wait_for_readiness(server, 503)
    assert put(server, "a.bin", b"x")[0] == 507
    assert server.request("GET", "/healthz")[0] == 200
    filler.unlink()
    wait_for_readiness(server, 200)
    assert put(server, "a.bin", b"x")[0] == 201


def test_a_disk_of_no_inodes_is_full_as_well(disk: Disk, start_on_disk: Start) -> None:
    server = start_on_disk("--min-free", "0")
    crowd = disk.place / "crowd"
    crowd.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1_000_000):
            (crowd / str(number)).touch()
    status, answer = put(server, "a.bin", b"")
    assert (status, code_of(answer)) == (507, "FB_DISK_FULL")
    for path in list(crowd.iterdir())[:100]:
        path.unlink()
    assert put(server, "a.bin", b"")[0] == 201


# --- read-only -----------------------------------------------------------------------------------


def test_a_disk_that_turned_read_only_is_told_and_still_read(
    disk: Disk, start_on_disk: Start
) -> None:
    server = start_on_disk("--min-free", "0")
    assert put(server, "before.bin", b"abc")[0] == 201
    wait_for_readiness(server, 200)
    disk.fail()
    for body in (b"", b"abc", bytes(3 * MiB)):
        status, answer = put(server, "a.bin", body)
        assert (status, code_of(answer)) == (500, "FB_STORAGE_DENIED")
    assert b"FB_STORAGE_DENIED" in wait_for_readiness(server, 503)
    assert server.request("GET", "/files/before.bin")[2] == b"abc"
    assert server.published() == {"before.bin": 3}
    assert server.stop() == 0


def test_a_disk_that_may_be_written_again_is_written_again(
    server: ServerProcess, tmp_path: Path
) -> None:
    need(no_strace())
    wait_for_readiness(server, 200)
    with Tracer(server, tmp_path, "openat:error=EROFS"):
        status, answer = put(server, "a.bin", b"abc")
        assert (status, code_of(answer)) == (500, "FB_STORAGE_DENIED")
        wait_for_readiness(server, 503)
    wait_for_readiness(server, 200)
    assert put(server, "a.bin", b"abc")[0] == 201


# --- no descriptors ------------------------------------------------------------------------------


def settled_descriptors(server: ServerProcess) -> set[int]:
    """Those it keeps: a connection that is ending, or the first sweep, may hold one more."""

    def used() -> set[int]:
        return {int(path.name) for path in Path(f"/proc/{server.pid}/fd").iterdir()}

    before, now = used(), set[int]()
    while before != now:
        time.sleep(0.2)
        before, now = now, used()
    return now


def leave_descriptors(server: ServerProcess, spare: int) -> tuple[int, int]:
    """Lets the server open so many more; returns its limits before."""
    used = settled_descriptors(server)
    free = (number for number in range(100_000) if number not in used)
    lowest = [next(free) for _ in range(spare + 1)]
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (lowest[-1], before[1]))
    return before


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit (Linux)")
@pytest.mark.parametrize("spare", [0, 1, 2])
@pytest.mark.parametrize("size", [100, 3 * MiB])
def test_a_server_without_descriptors_says_503_and_recovers(
    server: ServerProcess, spare: int, size: int
) -> None:
    body = content("a", size)
    head = b"PUT /files/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert put(server, "warm.bin", body)[0] == 201
    with RawClient(server) as client:
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response()[0] == 200
        before = leave_descriptors(server, spare)
        client.send(head % (b"a.bin", size))
        with contextlib.suppress(OSError):
            client.send(body)
        status, fields, answer = client.response()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    if status != 201:
        assert (status, code_of(answer)) == (503, "FB_NO_DESCRIPTORS")
        assert int(fields["retry-after"]) >= 1
        assert server.published() == {"warm.bin": size}
    else:
        assert spare
    assert put(server, "after.bin", body)[0] == 201
    assert server.leftovers() == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit (Linux)")
def test_more_connections_than_descriptors_do_not_end_the_server(
    start_server: Start,
) -> None:
    server = start_server("--durability", "relaxed", wrap=["prlimit", "--nofile=48:48"])
    assert put(server, "before.bin", b"abc")[0] == 201
    crowd = [server.connect() for _ in range(100)]
    for connection in crowd:
        with contextlib.suppress(OSError):
            connection.send(b"GET /healthz HTTP/1.1\r\n")
    time.sleep(0.5)
    assert server.process.poll() is None
    for connection in crowd:
        connection.close()
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError, EOFError):
            if put(server, "after.bin", content("after", 3 * MiB))[0] == 201:
                break
        assert time.monotonic() < deadline, server.log
        time.sleep(0.2)
    assert server.published() == {"before.bin": 3, "after.bin": 3 * MiB}
    assert server.stop() == 0
