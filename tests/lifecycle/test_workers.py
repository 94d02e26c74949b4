"""Several processes on one folder and one port."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from e2e.server import ServerProcess
from lifecycle.uploading import HeldUpload, alive, eventually, ready, refused
from raw_http import RawClient

Start = Callable[..., ServerProcess]
BODY = bytes(range(256)) * 10_000


@pytest.fixture
def three(start_server: Start) -> Iterator[ServerProcess]:
    server = ready(start_server("--durability", "relaxed", "--workers", "3"))
    eventually("three workers", lambda: len(server.processes()) == 4)
    yield server


def test_all_workers_store_in_one_folder(three: ServerProcess) -> None:
    def upload(number: int) -> tuple[int, str]:
        body = hashlib.shake_128(b"%d" % number).digest(number * 40_000)
        status, _, _ = three.request("PUT", f"/files/{number}.bin", body)
        return status, hashlib.sha256(body).hexdigest()

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        done = list(pool.map(upload, range(60)))
    assert {status for status, _ in done} == {201}
    for number, (_, digest) in enumerate(done):
        stored = (three.folder / f"{number}.bin").read_bytes()
        assert hashlib.sha256(stored).hexdigest() == digest
    assert len(three.published()) == 60
    assert three.stop() == 0


def test_one_name_sent_to_all_workers_at_once_is_given_out_once(three: ServerProcess) -> None:
    def upload(number: int) -> tuple[int, str]:
        status, fields, _ = three.request("POST", "/files/?name=a.bin", b"%d" % number)
        return status, fields["location"]

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        done = list(pool.map(upload, range(30)))
    assert {status for status, _ in done} == {201}
    assert len({place for _, place in done}) == 30
    found = {(three.folder / name).read_bytes() for name in three.published()}
    assert found == {b"%d" % number for number in range(30)}


def test_a_killed_worker_is_replaced_and_the_others_go_on(three: ServerProcess) -> None:
    before = set(three.processes()[1:])
    # A connection's worker is not known, so uploads are held until the victim has none or some.
    uploads = [HeldUpload(three, f"{n}.bin", BODY, 1000) for n in range(9)]
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    three.wait_for_log(f"server process {victim} ended with -9; starting another")
    eventually("a new worker", lambda: len(set(three.processes()[1:]) - {victim}) == 3)
    statuses = []
    for upload in uploads:
        try:
            statuses.append(upload.finish()[0])
        except (OSError, EOFError):
            statuses.append(None)
    assert set(statuses) <= {201, None}
    assert statuses.count(201) >= 1 or len(set(statuses)) == 1
    assert three.published() == {
        f"{n}.bin": len(BODY) for n, status in enumerate(statuses) if status == 201
    }
    assert three.leftovers() == []
    assert three.request("PUT", "/files/after.bin", b"abc")[0] == 201
    children = three.processes()[1:]
    assert three.stop() == 0
    assert not any(alive(pid) for pid in children)


def test_a_worker_that_was_killed_does_not_count_as_busy_for_ever(start_server: Start) -> None:
    options = ["--durability", "relaxed", "--workers", "2", "--max-uploads", "2"]
    server = ready(start_server(*options))
    eventually("two workers", lambda: len(server.processes()) == 3)
    held = [HeldUpload(server, f"{n}.bin", BODY, 1000) for n in range(2)]
    for victim in server.processes()[1:]:
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(f"server process {victim} ended")
    assert [upload.answer_or_end() for upload in held] == [None, None]
    eventually(
        "room for uploads", lambda: server.request("PUT", "/files/after.bin", b"a")[0] == 201
    )


def test_the_limit_of_uploads_is_one_for_all_workers(start_server: Start) -> None:
    options = ["--durability", "relaxed", "--workers", "3", "--max-uploads", "4"]
    server = ready(start_server(*options))
    held = [HeldUpload(server, f"{n}.bin", BODY, 1000) for n in range(4)]
    for _ in range(12):  # whichever worker gets it
        status, fields, answer = server.request("PUT", "/files/more.bin", b"abc")
        assert status == 503
        assert b"FB_TOO_MANY_UPLOADS" in answer
        assert int(fields["retry-after"]) > 0
    assert [upload.finish()[0] for upload in held] == [201] * 4
    assert server.request("PUT", "/files/more.bin", b"abc")[0] == 201


def test_workers_do_not_outlive_their_parent(three: ServerProcess) -> None:
    """Else they would keep the port from the next server, with nobody to end them."""
    children = three.processes()[1:]
    upload = HeldUpload(three, "a.bin", BODY, len(BODY) - 1)
    os.kill(three.pid, signal.SIGKILL)
    eventually("nobody listens", lambda: refused(three))
    assert upload.finish()[0] == 201
    eventually("the workers ended", lambda: not any(alive(pid) for pid in children))
    assert (three.folder / "a.bin").read_bytes() == BODY


def test_a_worker_that_replaces_another_has_the_settings_in_force(
    start_server: Start, tmp_path
) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text('max-size = "1MiB"\n')
    options = ["--durability", "relaxed", "--workers", "2", "--config", str(file)]
    server = ready(start_server(*options))
    file.write_text('max-size = "1KiB"\n')
    server.process.send_signal(signal.SIGHUP)
    eventually("both read again", lambda: server.log.count("settings read again") >= 2)
    file.write_text('max-size = "nonsense"\n')
    for victim in server.processes()[1:]:
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(f"server process {victim} ended")
    eventually("two workers", lambda: len(server.processes()) == 3)
    ready(server)
    for _ in range(6):
        with RawClient(server) as client:
            client.send(
                b"PUT /files/a.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n"
            )
            assert client.response()[0] == 413
