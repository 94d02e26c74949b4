"""`--compress-at-rest zstd`: less on the disk, and nothing that a client could tell it by."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.fetching import get, parts_of
from e2e.programs import program, run
from e2e.server import ServerProcess
from forebay.stores.compressed.mark import ATTRIBUTE
from forebay.stores.compressed.seekable import zstd
from ietf.client import Upload
from raw_http import RawClient, chunked, head
from tus import client as tus_client

Start = Callable[..., ServerProcess]

MiB = 1 << 20
ZSTD = ("--compress-at-rest", "zstd")


def text(size: int, seed: int = 0) -> bytes:
    """Lines as a log has them; no two files are alike."""
    line = b"".join(b"%d/%d: the quick brown fox\n" % (seed, n) for n in range(size // 20 + 1))
    return line[:size]


TEXT = text(5 * MiB + 123)


def is_packed(server: ServerProcess, name: str) -> bool:
    return ATTRIBUTE in os.listxattr(server.folder / name)


@pytest.fixture
def server(reuse_server: Start) -> ServerProcess:
    return reuse_server(*ZSTD, "--on-conflict", "replace", "--allow-delete", "--decode-request")


# --- every way in ------------------------------------------------------------------------------


def put(server: ServerProcess, name: str, data: bytes) -> None:
    answer = json.loads(server.request("PUT", f"/files/{name}", data)[2])
    assert (answer["name"], answer["size"]) == (name, len(data))


def put_chunked(server: ServerProcess, name: str, data: bytes) -> None:
    with RawClient(server) as client:
        client.send(head("PUT", f"/files/{name}", "Transfer-Encoding: chunked"))
        client.send(chunked([data[:100_000], data[100_000:]]))
        assert client.response()[0] == 201


def post(server: ServerProcess, name: str, data: bytes) -> None:
    assert server.request("POST", f"/files/?name={name}", data)[0] == 201


def form(server: ServerProcess, name: str, data: bytes) -> None:
    lines = [
        "--B",
        f'Content-Disposition: form-data; name="file"; filename="{name}"',
        "Content-Type: text/plain",
        "",
        "",
    ]
    body = "\r\n".join(lines).encode() + data + b"\r\n--B--\r\n"
    fields = {"Content-Type": "multipart/form-data; boundary=B"}
    assert server.request("POST", "/files/", body, fields)[0] in (200, 201)


def partial(server: ServerProcess, name: str, data: bytes) -> None:
    half = len(data) // 2
    for start, stop in ((0, half), (half, len(data))):
        field = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        answer = server.request("PUT", f"/files/{name}", data[start:stop], field)
        assert answer[0] in (200, 201, 202, 204, 308), answer


def encoded(server: ServerProcess, name: str, data: bytes) -> None:
    fields = {"Content-Encoding": "gzip"}
    assert server.request("PUT", f"/files/{name}", gzip.compress(data), fields)[0] == 201


def tus(server: ServerProcess, name: str, data: bytes) -> None:
    path = tus_client.create(server, len(data), Upload_Metadata=tus_client.metadata(filename=name))
    half = len(data) // 2
    assert tus_client.patch(server, path, 0, data[:half]).status == 204
    assert tus_client.patch(server, path, half, data[half:]).offset == len(data)
    assert tus_client.head(server, path).offset == len(data)
    assert json.loads(server.request("GET", path)[2])["length"] == len(data)


def tus_concatenation(server: ServerProcess, name: str, data: bytes) -> None:
    cut = len(data) // 3
    parts = [
        tus_client.upload(server, p, Upload_Concat="partial") for p in (data[:cut], data[cut:])
    ]
    final = tus_client.ask(
        server,
        "POST",
        Upload_Concat="final;" + " ".join(parts),
        Upload_Metadata=tus_client.metadata(filename=name),
    )
    assert final.status == 201
    deadline = time.monotonic() + 30
    while not (server.folder / name).exists():
        assert time.monotonic() < deadline
        tus_client.head(server, final.location)
        time.sleep(0.05)
    for part in parts:
        tus_client.ask(server, "DELETE", part)


def ietf(server: ServerProcess, name: str, data: bytes) -> None:
    upload = Upload.begin(server, name, body=data[: len(data) // 2])
    assert upload.finish(data).status in (200, 201, 204)


WAYS = [put, put_chunked, post, tus, tus_concatenation, ietf, form, partial, encoded]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_dialect_stores_the_same_and_gives_the_content_back(
    server: ServerProcess, way: Callable[[ServerProcess, str, bytes], None]
):
    way(server, "log.txt", TEXT)
    assert is_packed(server, "log.txt")
    stored = (server.folder / "log.txt").stat().st_size
    assert stored < len(TEXT) / 3
    assert get(server, "/files/log.txt")[2] == TEXT
    (entry,) = json.loads(server.request("GET", "/files/")[2])["entries"]
    assert (entry["name"], entry["size"]) == ("log.txt", len(TEXT))
    assert server.leftovers() == []
    assert server.request("DELETE", "/files/log.txt")[0] == 204
    assert server.published() == {}


def test_small_files_and_noise_are_stored_as_they_are(server: ServerProcess):
    noise = random.Random(3).randbytes(3 * MiB)
    for name, data, packed in (
        ("small.txt", text(1000), False),
        ("some.txt", text(100_000), True),
        ("noise.txt", noise, False),
        ("log.bin", TEXT, False),
        ("log.json", TEXT, True),
    ):
        put(server, name, data)
        assert is_packed(server, name) is packed, name
        assert get(server, f"/files/{name}")[2] == data
        assert get(server, f"/files/{name}", Accept_Encoding="identity")[2] == data


def test_digests_are_of_the_content(server: ServerProcess):
    digest = base64.b64encode(hashlib.sha256(TEXT).digest()).decode()
    fields = {"Repr-Digest": f"sha-256=:{digest}:", "Want-Repr-Digest": "sha-256=1"}
    status, _, body = server.request("PUT", "/files/a.txt", TEXT, fields)
    assert (status, json.loads(body)["digest"]) == (201, {"sha-256": digest})
    assert is_packed(server, "a.txt")
    wrong = {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}
    assert server.request("PUT", "/files/b.txt", TEXT, wrong)[0] == 400
    assert server.published().keys() == {"a.txt"}


# --- and out -----------------------------------------------------------------------------------


def test_it_goes_as_it_is_to_clients_that_take_it_so(start_any: Start):
    server = start_any(*ZSTD)
    tag = server.request("PUT", "/files/a.txt", TEXT)[1]["etag"]
    plain = get(server, "/files/a.txt")
    assert (plain[0], plain[1]["etag"], plain[2]) == (200, tag, TEXT)
    assert plain[1]["content-length"] == str(len(TEXT))
    assert plain[1]["accept-ranges"] == "bytes"
    assert "content-encoding" not in plain[1]
    coded = get(server, "/files/a.txt", Accept_Encoding="gzip, deflate, br, zstd")
    assert (coded[0], coded[1]["content-encoding"]) == (200, "zstd")
    kind = "text/plain; charset=utf-8"
    assert (coded[1]["content-type"], coded[1]["accept-ranges"]) == (kind, "none")
    assert coded[1]["etag"] not in (tag, f"W/{tag}")
    assert len(coded[2]) == int(coded[1]["content-length"]) < len(TEXT) / 3
    assert zstd().decompress(coded[2]) == TEXT
    for answer in (plain, coded):
        assert "accept-encoding" in answer[1]["vary"].lower()
    for fields, expected in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": tag, "Accept-Encoding": "zstd"}, 200),
        ({"If-None-Match": coded[1]["etag"], "Accept-Encoding": "zstd"}, 304),
        ({"If-None-Match": coded[1]["etag"]}, 200),
        ({"Accept-Encoding": "zstd;q=0"}, 200),
        ({"If-Match": tag, "Accept-Encoding": "zstd"}, 200),
        ({"If-Match": coded[1]["etag"], "Accept-Encoding": "zstd"}, 200),
        ({"If-Match": coded[1]["etag"]}, 412),
        ({"If-Match": '"other"', "Accept-Encoding": "zstd"}, 412),
    ):
        for method in ("GET", "HEAD"):
            status, headers, _ = server.request(method, "/files/a.txt", None, fields)
            assert status == expected, fields
            if status != 412:
                assert "accept-encoding" in headers["vary"].lower()
    alone = server.request("HEAD", "/files/a.txt", None, {"Accept-Encoding": "zstd"})
    same = ("content-length", "content-encoding", "etag", "content-type")
    assert [alone[1][name] for name in same] == [coded[1][name] for name in same]
    # Other files do not vary.
    server.request("PUT", "/files/a.bin", TEXT)
    assert "accept-encoding" not in get(server, "/files/a.bin")[1].get("vary", "").lower()


def test_either_tag_of_a_file_allows_for_its_replacement_and_removal(server: ServerProcess):
    """A page in a browser gets the coded one, whatever it asked for."""
    for accept in ("identity", "zstd"):
        put(server, "a.txt", TEXT)
        tag = get(server, "/files/a.txt", Accept_Encoding=accept)[1]["etag"]
        assert server.request("PUT", "/files/a.txt", text(9000), {"If-Match": tag})[0] == 200
        assert server.request("PUT", "/files/a.txt", text(9000), {"If-Match": tag})[0] == 412
        assert server.request("DELETE", "/files/a.txt", None, {"If-Match": tag})[0] == 412
        tag = get(server, "/files/a.txt", Accept_Encoding=accept)[1]["etag"]
        assert server.request("PUT", "/files/a.txt", b"x", {"If-None-Match": tag})[0] == 412
        assert server.request("DELETE", "/files/a.txt", None, {"If-Match": tag})[0] == 204


def test_ranges_are_of_the_content_whatever_coding_is_taken(start_any: Start):
    server = start_any(*ZSTD)
    tag = server.request("PUT", "/files/a.txt", TEXT)[1]["etag"]
    size = len(TEXT)
    for fields in ({}, {"Accept_Encoding": "zstd"}, {"If_Range": tag, "Accept_Encoding": "zstd"}):
        status, headers, body = get(server, "/files/a.txt", Range="bytes=2097150-2097160", **fields)
        assert (status, body) == (206, TEXT[2097150:2097161])
        assert headers["content-range"] == f"bytes 2097150-2097160/{size}"
        assert headers["etag"] == tag
        assert "content-encoding" not in headers
    coded = get(server, "/files/a.txt", Accept_Encoding="zstd")[1]["etag"]
    whole = get(server, "/files/a.txt", Range="bytes=0-9", If_Range=coded, Accept_Encoding="zstd")
    assert (whole[0], whole[2]) == (200, TEXT)
    assert get(server, "/files/a.txt", Range=f"bytes={size}-")[1]["content-range"] == (
        f"bytes */{size}"
    )
    assert get(server, "/files/a.txt", Range="bytes=-5")[2] == TEXT[-5:]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    wanted=st.lists(
        st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 3 * MiB)), min_size=1, max_size=6
    )
)
def test_any_ranges_are_slices_of_the_content(reuse_server: Start, wanted: list[tuple[int, int]]):
    server = reuse_server(*ZSTD)
    put(server, "a.txt", TEXT)
    field = "bytes=" + ",".join(f"{start}-{start + size - 1}" for start, size in wanted)
    status, headers, body = get(server, "/files/a.txt", Range=field)
    assert status == 206
    single = [("", headers["content-range"], body)] if "content-range" in headers else None
    covered: list[tuple[int, int]] = []
    for _, found, piece in single or parts_of(headers, body):
        bounds = found.removeprefix("bytes ").partition("/")[0].split("-")
        start, stop = int(bounds[0]), int(bounds[1]) + 1
        assert piece == TEXT[start:stop]
        covered.append((start, stop))
    for start, size in wanted:
        stop = min(len(TEXT), start + size)
        assert any(a <= start and stop <= b for a, b in covered)


def test_real_clients_notice_nothing(server: ServerProcess, tmp_path: Path):
    put(server, "log.txt", TEXT)
    url = f"{server.url}/files/log.txt"
    (tmp_path / "log.txt").write_bytes(TEXT[:3_000_000])
    run("curl", "-sSf", "-C", "-", "-o", "log.txt", url, folder=tmp_path)
    assert (tmp_path / "log.txt").read_bytes() == TEXT
    run("curl", "-sSf", "--compressed", "-o", "again.txt", url, folder=tmp_path)
    assert (tmp_path / "again.txt").read_bytes() == TEXT
    run("aria2c", "-x8", "-s8", "-k1M", "-o", "by-aria.txt", url, folder=tmp_path)
    assert (tmp_path / "by-aria.txt").read_bytes() == TEXT
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "log.txt").write_bytes(TEXT[:11])
    run("wget", "-q", "-c", url, folder=tmp_path / "w")
    assert (tmp_path / "w" / "log.txt").read_bytes() == TEXT


def test_a_browser_decodes_all_of_it(server: ServerProcess):
    playwright = pytest.importorskip("playwright.sync_api")
    put(server, "log.txt", TEXT)  # of three frames
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            codings: list[str | None] = []
            page.on("response", lambda r: codings.append(r.headers.get("content-encoding")))
            page.goto(f"{server.url}/healthz")
            found = page.evaluate(
                """async url => {
                    const data = await (await fetch(url)).arrayBuffer();
                    const digest = await crypto.subtle.digest("SHA-256", data);
                    return Array.from(new Uint8Array(digest));
                }""",
                "/files/log.txt",
            )
        finally:
            browser.close()
    assert bytes(found) == hashlib.sha256(TEXT).digest()
    assert "zstd" in codings


# --- what tells a compressed file --------------------------------------------------------------


def test_an_upload_that_looks_compressed_comes_back_as_it_was(server: ServerProcess):
    put(server, "a.txt", TEXT)
    stolen = (server.folder / "a.txt").read_bytes()
    put(server, "b.bin", stolen)
    assert get(server, "/files/b.bin")[2] == stolen
    assert get(server, "/files/b.bin", Accept_Encoding="zstd")[2] == stolen
    fields = {"Content-Type": "application/zstd", "User.Forebay.Zstd": f"1 {len(TEXT)} 1 "}
    assert server.request("PUT", "/files/c.zst", stolen, fields)[0] == 201
    assert get(server, "/files/c.zst")[2] == stolen


def test_it_survives_restart_sweep_and_the_end_of_the_setting(
    start_server: Start, store_folder: Path
):
    options = ("--durability", "relaxed")
    server = start_server(*options, *ZSTD)
    put(server, "a.txt", TEXT)
    tag = get(server, "/files/a.txt")[1]["etag"]
    assert server.stop() == 0
    swept = subprocess.run(
        [sys.executable, "-m", "forebay", "sweep", str(store_folder)], capture_output=True
    )
    assert swept.returncode == 0
    server = start_server(*options)
    status, headers, body = get(server, "/files/a.txt")
    assert (status, headers["etag"], body) == (200, tag, TEXT)
    assert get(server, "/files/a.txt", Accept_Encoding="zstd")[1]["content-encoding"] == "zstd"
    put(server, "b.txt", TEXT)
    assert not is_packed(server, "b.txt")


def test_a_damaged_file_is_told_and_never_given_out(server: ServerProcess):
    put(server, "a.txt", TEXT)
    path = server.folder / "a.txt"
    whole = path.read_bytes()
    with path.open("r+b") as file:  # the last frame
        file.seek(len(whole) - 20_000)
        file.write(bytes(100))
    assert get(server, "/files/a.txt", Range="bytes=0-99")[2] == TEXT[:100]
    with RawClient(server) as client:
        client.send(head("GET", "/files/a.txt"))
        client.head()
        got = bytes(client.buffer)
        try:
            while piece := client.socket.recv(MiB):
                got += piece
        except ConnectionError:
            pass
        assert len(got) < len(TEXT)
        assert TEXT.startswith(got)
    with path.open("r+b") as file:  # the table
        file.seek(len(whole) - 5)
        file.write(bytes(5))
    status, _, body = get(server, "/files/a.txt")
    assert (status, json.loads(body)["code"]) == (500, "FB_STORAGE_FAILED")
    put(server, "a.txt", TEXT)  # it can be replaced
    assert get(server, "/files/a.txt")[2] == TEXT


def test_one_that_is_replaced_or_deleted_meanwhile_is_sent_whole_as_it_was(server: ServerProcess):
    old = text(24 * MiB)
    for method, data in (("PUT", text(20 * MiB, 7)), ("DELETE", None)):
        put(server, "a.txt", old)
        with RawClient(server) as client:
            client.send(head("GET", "/files/a.txt"))
            assert client.head()[0] == 200
            assert server.request(method, "/files/a.txt", data)[0] in (200, 204)
            if data:
                assert get(server, "/files/a.txt")[2] == data
            assert client.read(len(old)) == old


# --- nobody is held up, and nothing grows ------------------------------------------------------


def test_others_are_served_while_a_file_is_compressed(start_server: Start, store_folder: Path):
    """On one worker thread: the compressing gives it up again and again."""
    server = start_server("--durability", "relaxed", "--threads", "1", *ZSTD)
    (server.folder / "small.bin").write_bytes(b"small")
    data = text(96 * MiB)
    before = server.rss("VmHWM")
    answers: list[int] = []

    def upload() -> None:
        with RawClient(server) as client:
            client.send(head("PUT", "/files/big.txt", length=len(data)))
            client.send(data)
            arrived.set()
            answers.append(client.response()[0])

    arrived = threading.Event()
    sender = threading.Thread(target=upload)
    sender.start()
    assert arrived.wait(60)
    served = 0
    while not answers:
        assert get(server, "/files/small.bin")[2] == b"small"
        served += not answers
    sender.join()
    assert answers == [201]
    assert served >= 4
    assert is_packed(server, "big.txt")
    assert server.rss("VmHWM") - before < 48 * MiB
    digest = hashlib.sha256(get(server, "/files/big.txt")[2]).digest()
    assert digest == hashlib.sha256(data).digest()


def test_many_slow_readers_cost_no_memory(reuse_server: Start):
    server = reuse_server(*ZSTD)
    put(server, "a.txt", text(30 * MiB))
    get(server, "/files/a.txt")
    before = server.rss()
    clients = [RawClient(server) for _ in range(100)]
    try:
        for client in clients:
            client.send(head("GET", "/files/a.txt"))
        for client in clients:
            assert client.head()[0] == 200
        assert server.rss() - before < 100 * MiB  # 100 frames alone would be 200
    finally:
        for client in clients:
            client.reset()
    assert get(server, "/healthz")[0] == 200


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_whole_files_or_none(start_server: Start, store_folder: Path):
    seed = os.environ.get("FOREBAY_TEST_SEED") or os.urandom(4).hex()
    print(f"FOREBAY_TEST_SEED={seed}")
    rng = random.Random(seed)
    sent = {f"r{r}-{n}.txt": text(rng.randrange(1, 24 * MiB), r * 10 + n)
            for r in range(6) for n in range(4)}  # fmt: skip
    acknowledged: set[str] = set()
    options = ("--durability", "relaxed", "--on-conflict", "refuse", *ZSTD)
    server = start_server(*options)

    def send(server: ServerProcess, name: str, number: int) -> None:
        try:
            WAYS[(0, 1, 3, 5)[number]](server, name, sent[name])
            acknowledged.add(name)
        except (OSError, EOFError, AssertionError, ValueError):
            pass  # it was killed

    for turn in range(6):
        names = [name for name in sent if name.startswith(f"r{turn}-")]
        senders = [threading.Thread(target=send, args=(server, name, n)) for n, name in
                   enumerate(names)]  # fmt: skip
        for sender in senders:
            sender.start()
        time.sleep(rng.uniform(0.05, 0.7))
        server.kill()
        for sender in senders:
            sender.join()
        server = start_server(*options)
        for name in server.published():
            assert get(server, f"/files/{name}")[2] == sent[name], (name, seed)
        assert acknowledged <= server.published().keys(), seed
        assert os.listdir(store_folder / ".forebay" / "tmp") == [], seed
    assert server.stop() == 0


# --- what an operator is told ------------------------------------------------------------------


def test_a_word_that_is_no_choice_is_refused_with_the_flag(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "forebay", "serve", str(tmp_path), "--compress-at-rest", "gzip"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "--compress-at-rest" in done.stderr
    assert "none, zstd" in done.stderr
