"""Answers of the kernel that are made up by strace, on the real server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from durability.checker import Checker
from durability.content import content, digest
from durability.history import History
from durability.missing import need, no_strace
from durability.tracing import Call, Tracer
from e2e.server import ServerProcess

Start = Callable[..., ServerProcess]
MiB = 1 << 20


@pytest.fixture(autouse=True)
def _strace() -> None:
    need(no_strace())


@pytest.fixture
def strict(start_server: Start) -> ServerProcess:
    """One thread does all work, so that the Nth call of a thread is the Nth of all."""
    return ready(start_server("--durability", "strict", "--threads", "1"))


def ready(server: ServerProcess) -> ServerProcess:
    assert server.request("GET", "/healthz")[0] == 200
    return server


def code_of(answer: bytes) -> str:
    return json.loads(answer)["code"]


def assert_goes_on(server: ServerProcess) -> None:
    """It takes a file, and nothing is left of any other."""
    status, _, answer = server.request("PUT", "/files/after.bin", content("after", MiB))
    assert status == 201, answer
    assert (server.folder / "after.bin").read_bytes() == content("after", MiB)
    assert server.leftovers() == []


# --- the disk says no -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 3 * MiB])
def test_a_failed_sync_of_the_data_is_told_and_leaves_nothing(
    strict: ServerProcess, tmp_path: Path, size: int
) -> None:
    with Tracer(strict, tmp_path, "fsync,fdatasync:error=EIO"):
        status, _, answer = strict.request("PUT", "/files/a.bin", b"x" * size)
    assert (status, code_of(answer)) == (500, "FB_SYNC_FAILED")
    assert strict.published() == {}
    assert_goes_on(strict)
    assert "FB_SYNC_FAILED" in strict.log


def test_a_failed_sync_is_not_tried_again(strict: ServerProcess, tmp_path: Path) -> None:
    inject = "fsync,fdatasync:error=EIO:when=1"
    with Tracer(strict, tmp_path, inject, trace="fsync,fdatasync,linkat") as tracer:
        status, _, _ = strict.request("PUT", "/files/a.bin", b"x" * MiB)
        calls = tracer.stop()
    assert status == 500
    assert [call.name for call in calls if ".forebay/" in call.text][1:] == []
    assert not any(call.name == "linkat" for call in calls)
    assert strict.published() == {}


def test_a_failed_sync_of_the_folder_takes_the_name_back(
    strict: ServerProcess, tmp_path: Path
) -> None:
    with Tracer(strict, tmp_path, "fsync:error=EIO:when=2"):
        status, _, answer = strict.request("PUT", "/files/a.bin", b"x" * MiB)
    assert (status, code_of(answer)) == (500, "FB_SYNC_FAILED")
    assert strict.published() == {}
    assert_goes_on(strict)


def test_a_failed_sync_of_the_folder_does_not_cost_the_file_that_was_to_be_replaced(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server("--durability", "strict", "--threads", "1", "--on-conflict", "replace")
    assert server.request("PUT", "/files/a.bin", b"old")[0] == 201
    with Tracer(server, tmp_path, "fsync:error=EIO:when=2"):
        status, _, _ = server.request("PUT", "/files/a.bin", b"new")
    assert status == 500
    # Which of the two survives a power loss nobody can tell any more; a whole one must be there.
    assert (server.folder / "a.bin").read_bytes() in (b"old", b"new")
    assert_goes_on(server)


@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_disk_that_is_full_at_the_nth_write_is_507(
    strict: ServerProcess, tmp_path: Path, nth: int, chunked: bool
) -> None:
    body = content("a", 12 * MiB)
    with Tracer(strict, tmp_path, f"pwrite64:error=ENOSPC:when={nth}"):
        if chunked:
            status, answer = send_chunked(strict, "/files/a.bin", body)
        else:
            status, _, answer = strict.request("PUT", "/files/a.bin", body)
    assert (status, code_of(answer)) == (507, "FB_DISK_FULL")
    assert strict.published() == {}
    assert_goes_on(strict)


def send_chunked(server: ServerProcess, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        pieces = (body[at : at + MiB] for at in range(0, len(body), MiB))
        connection.request("PUT", path, pieces, encode_chunked=True)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("inject", "status", "code"),
    [
        ("pwrite64:error=EIO:when=2", 500, "FB_STORAGE_FAILED"),
        ("pwrite64:error=EDQUOT:when=2", 507, "FB_QUOTA_EXCEEDED"),
        ("fallocate:error=ENOSPC:when=1", 507, "FB_DISK_FULL"),
        ("linkat:error=ENOSPC:when=1", 507, "FB_DISK_FULL"),
        ("linkat:error=EACCES:when=1", 500, "FB_STORAGE_DENIED"),
        ("linkat:error=EIO:when=1", 500, "FB_STORAGE_FAILED"),
    ],
)
def test_each_refusal_of_the_disk_has_its_own_code(
    strict: ServerProcess, tmp_path: Path, inject: str, status: int, code: str
) -> None:
    with Tracer(strict, tmp_path, inject):
        found, _, answer = strict.request("PUT", "/files/a.bin", content("a", 3 * MiB))
    assert (found, code_of(answer)) == (status, code)
    assert strict.published() == {}
    assert_goes_on(strict)


def test_a_filesystem_that_cannot_reserve_is_written_all_the_same(
    strict: ServerProcess, tmp_path: Path
) -> None:
    body = content("a", 3 * MiB)
    with Tracer(strict, tmp_path, "fallocate:error=EOPNOTSUPP"):
        assert strict.request("PUT", "/files/a.bin", body)[0] == 201
    assert (strict.folder / "a.bin").read_bytes() == body


def test_an_interrupted_write_is_gone_on_with(strict: ServerProcess, tmp_path: Path) -> None:
    body = content("a", 5 * MiB)
    with Tracer(strict, tmp_path, "pwrite64:error=EINTR:when=2+2"):
        assert strict.request("PUT", "/files/a.bin", body)[0] == 201
    assert (strict.folder / "a.bin").read_bytes() == body


# --- the order of a strict upload ----------------------------------------------------------------


def first(calls: list[Call], name: str, *texts: str) -> Call:
    for call in calls:
        if call.name == name and all(text in call.text for text in texts):
            return call
    raise AssertionError(f"no {name} with {texts} among {[call.text for call in calls]}")


SENDS = "write,writev,sendto,sendmsg"
PUBLISHING = f"pwrite64,fsync,fdatasync,linkat,mkdirat,renameat,renameat2,rename,{SENDS}"


def answered(calls: list[Call]) -> Call:
    return next(call for call in calls if call.name in SENDS and "HTTP/1.1 201" in call.text)


def test_data_is_synced_before_it_gets_a_name_and_the_name_before_the_answer(
    strict: ServerProcess, tmp_path: Path
) -> None:
    with Tracer(strict, tmp_path, trace=PUBLISHING) as tracer:
        assert strict.request("PUT", "/files/a.bin", content("a", 3 * MiB))[0] == 201
        calls = tracer.stop()
    folder = strict.folder
    writes = [call for call in calls if call.name == "pwrite64"]
    data = first(calls, "fsync", f"{folder}/.forebay/")
    link = first(calls, "linkat", '"a.bin"')
    name = first(calls, "fsync", f"{folder}>")
    assert writes
    assert writes[-1].ended < data.began
    assert data.ended < link.began
    assert link.ended < name.began
    assert name.ended < answered(calls).began


def test_new_folders_are_synced_into_their_parents_before_the_answer(
    strict: ServerProcess, tmp_path: Path
) -> None:
    with Tracer(strict, tmp_path, trace=PUBLISHING) as tracer:
        assert strict.request("PUT", "/files/one/two/a.bin", b"abc")[0] == 201
        calls = tracer.stop()
    folder = strict.folder
    for parent, part in ((folder, "one"), (folder / "one", "two")):
        made = first(calls, "mkdirat", f'"{part}"')
        synced = next(
            call
            for call in calls
            if call.name == "fsync" and f"{parent}>" in call.text and call.began > made.ended
        )
        assert synced.ended < answered(calls).began
    link = first(calls, "linkat", '"a.bin"')
    name = first(calls, "fsync", f"{folder}/one/two>")
    assert link.ended < name.began
    assert name.ended < answered(calls).began


def test_relaxed_never_waits_for_a_sync(start_server: Start, tmp_path: Path) -> None:
    server = ready(start_server("--durability", "relaxed"))
    with Tracer(server, tmp_path, trace=PUBLISHING) as tracer:
        assert server.request("PUT", "/files/one/a.bin", content("a", 3 * MiB))[0] == 201
        calls = tracer.stop()
    assert not {"fsync", "fdatasync"} & {call.name for call in calls}


# --- killed at a given call ----------------------------------------------------------------------

KILLS = [
    *(f"pwrite64:signal=KILL:when={n}" for n in (1, 2, 3, 6)),
    *(f"linkat:signal=KILL:when={n}" for n in (1, 2, 3)),
    *(f"fsync:signal=KILL:when={n}" for n in (1, 2, 3, 4)),
    "fallocate:signal=KILL:when=2",
]
REPLACING_KILLS = [
    *(f"linkat:signal=KILL:when={n}" for n in (1, 2)),
    *(f"/rename.*:signal=KILL:when={n}" for n in (1, 2)),
    *(f"fsync:signal=KILL:when={n}" for n in (2, 4)),
]


def upload_until_killed(server: ServerProcess, history: History, targets: list[str]) -> None:
    for number, target in enumerate(targets):
        seed, size = f"k{number}", (2 * MiB + 17, 0, 3 * MiB, 70_000)[number % 4]
        attempt = history.begin(target, "PUT", seed, size, digest(seed, size), chunked=False)
        try:
            status, _, answer = server.request("PUT", f"/files/{target}", content(seed, size))
        except (OSError, http.client.HTTPException):
            return
        history.end(attempt, status, json.loads(answer)["name"])
    raise AssertionError("the server was not killed")


def survive(
    start: Start, tmp_path: Path, inject: str, targets: list[str], *, replacing: bool
) -> None:
    options = ["--durability", "strict", "--threads", "1"]
    options += ["--on-conflict", "replace" if replacing else "auto"]
    server = ready(start(*options))
    history = History()
    checker = Checker(server.folder, history, replacing=replacing)
    with Tracer(server, tmp_path, inject) as tracer:
        upload_until_killed(server, history, targets)
        tracer.wait()
    assert server.process.wait(30) == -9
    assert checker.check() == []
    restarted = ready(start(*options))
    assert restarted.leftovers() == []
    assert checker.check() == []
    assert_goes_on(restarted)
    assert restarted.stop() == 0


@pytest.mark.parametrize("inject", KILLS)
def test_killed_at_a_call_everything_acknowledged_is_whole(
    start_server: Start, tmp_path: Path, inject: str
) -> None:
    targets = [f"{n}.bin" for n in range(8)]
    survive(start_server, tmp_path, inject, targets, replacing=False)


@pytest.mark.parametrize("inject", REPLACING_KILLS)
def test_killed_while_replacing_the_name_holds_a_whole_file(
    start_server: Start, tmp_path: Path, inject: str
) -> None:
    survive(start_server, tmp_path, inject, ["a.bin"] * 8, replacing=True)
