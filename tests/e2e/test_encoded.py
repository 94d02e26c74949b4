"""Bodies with a Content-Encoding: refused unless asked for, else decoded on the way to the disk."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest

from e2e.server import ServerProcess
from raw_http import Fields, RawClient, chunked, content, head, named
from stores.tools import need

Start = Callable[..., ServerProcess]
MiB = 1 << 20
TEXT = b"".join(b"line %d of some text that can be made smaller\n" % n for n in range(40_000))
ON = "--decode-request"

zstd: Any = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)
ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, mtime=0),
    "x-gzip": functools.partial(gzip.compress, mtime=0),
    "zstd": zstd.compress,
    "br": functools.partial(brotli.compress, quality=5),
}


def nothing_stays(server: ServerProcess) -> None:
    assert server.published() == {}
    assert server.leftovers() == []


def send(
    server: ServerProcess, body: bytes, coding: str, method: str = "PUT", **fields: str
) -> tuple[int, Fields, Any]:
    more = named(fields)
    target = "/files/f" if method == "PUT" else "/files/?name=f"
    headers = {"Content-Encoding": coding, **more}
    status, found, answer = server.request(method, target, body, headers)
    return status, found, json.loads(answer)


@pytest.mark.parametrize("coding", ENCODE)
def test_a_body_is_decoded(start_any: Start, coding: str) -> None:
    server = start_any(ON)
    for method, data in (("PUT", TEXT), ("POST", b"small"), ("PUT", b"")):
        body = ENCODE[coding](data)
        status, fields, answer = send(server, body, coding, method)
        assert (status, fields["location"]) == (201, "/files/f")
        assert (answer["size"], answer["received"]) == (len(data), len(body))
        assert (server.folder / "f").read_bytes() == data
        (server.folder / "f").unlink()
    assert server.leftovers() == []


def test_a_chunked_body_is_decoded(start_any: Start) -> None:
    server = start_any(ON)
    body = gzip.compress(TEXT)
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    with RawClient(server) as client:
        fields = ("Content-Encoding: gzip", "Transfer-Encoding: chunked")
        client.send(head("PUT", "/files/f", *fields) + chunked(pieces))
        assert client.response()[0] == 201
    assert (server.folder / "f").read_bytes() == TEXT


def test_without_the_setting_it_is_refused(start_any: Start) -> None:
    server = start_any()
    for coding in (*ENCODE, "deflate", "compress"):
        status, fields, answer = send(server, b"data", coding)
        assert (status, answer["code"]) == (415, "FB_UNSUPPORTED_CODING")
        assert fields["accept-encoding"] == "identity"
        assert "--decode-request" in answer["detail"]
    assert send(server, b"data", "identity")[0] == 201


def test_what_is_not_known_or_twice_encoded_is_refused(start_any: Start) -> None:
    server = start_any(ON)
    twice = gzip.compress(gzip.compress(TEXT))
    for coding, body in (
        ("gzip, gzip", twice),
        ("gzip, br", twice),
        ("deflate", zlib.compress(TEXT)),
        ("compress", b"x"),
        ("junk", b"x"),
    ):
        status, fields, answer = send(server, body, coding)
        assert (status, answer["code"]) == (415, "FB_UNSUPPORTED_CODING")
        assert fields["accept-encoding"] == "gzip, zstd, br"
    with RawClient(server) as client:
        fields = ("Content-Encoding: gzip",) * 2
        client.send(head("PUT", "/files/f", *fields, length=len(twice)) + twice)
        assert client.response()[0] == 415
    nothing_stays(server)
    assert send(server, gzip.compress(b"x"), "identity, gzip")[0] == 201


@pytest.mark.parametrize("coding", ENCODE)
def test_what_cannot_be_decoded_is_refused(start_any: Start, coding: str) -> None:
    server = start_any(ON)
    body = ENCODE[coding](TEXT)
    for broken in (body[:-1], body[: len(body) // 2], body + b"\0junk", b"junk" * 100, b""):
        status, _, answer = send(server, broken, coding)
        assert (status, answer["code"]) == (400, "FB_UNDECODABLE_BODY")
        nothing_stays(server)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_file(start_any: Start, coding: str) -> None:
    server = start_any(ON)
    body = ENCODE[coding](TEXT) + ENCODE[coding](b"more")
    assert send(server, body, coding)[2]["size"] == len(TEXT) + 4
    assert (server.folder / "f").read_bytes() == TEXT + b"more"


def test_a_body_that_is_cut_leaves_nothing(start_any: Start) -> None:
    server = start_any(ON)
    body = gzip.compress(content(500_000))
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", "Content-Encoding: gzip", length=len(body)))
        client.send(body[:-5])
    assert send(server, body, "gzip")[0] == 201
    assert server.published() == {"f": 500_000}
    assert server.leftovers() == []


def test_digests_are_of_what_came(start_any: Start) -> None:
    def sha(data: bytes) -> str:
        return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"

    server = start_any(ON)
    body = gzip.compress(TEXT)
    for field in ("Content_Digest", "Repr_Digest"):
        status, _, answer = send(server, body, "gzip", **{field: sha(TEXT)})
        assert (status, answer["code"]) == (400, "FB_DIGEST_MISMATCH")
        nothing_stays(server)
    more = {"Content_Digest": sha(body), "Repr_Digest": sha(body), "Want_Repr_Digest": "sha-256=1"}
    status, fields, answer = send(server, body, "gzip", **more)
    assert status == 201
    # It would be of other bytes than those of the file that the answer is about.
    assert "repr-digest" not in fields
    assert "digest" not in answer
    assert (server.folder / "f").read_bytes() == TEXT


def test_the_largest_size_is_of_the_decoded_bytes(start_any: Start) -> None:
    server = start_any(ON, "--max-size", "1MB")
    status, _, answer = send(server, gzip.compress(bytes(1_000_001)), "gzip")
    assert (status, answer["code"], answer["limit"]) == (413, "FB_TOO_LARGE", 1_000_000)
    nothing_stays(server)
    assert send(server, gzip.compress(bytes(1_000_000)), "gzip")[0] == 201


def test_no_resumable_upload_is_ever_decoded(start_any: Start) -> None:
    server = start_any(ON)
    body = gzip.compress(TEXT)
    tus = {"Tus-Resumable": "1.0.0", "Content-Encoding": "gzip"}
    stream = {"Content-Type": "application/offset+octet-stream"}
    for method, target, fields in (
        ("POST", "/uploads/", {**tus, **stream, "Upload-Length": str(len(body))}),
        ("PUT", "/files/f", {"Upload-Complete": "?1", "Content-Encoding": "gzip"}),
        ("POST", "/uploads/", {"Upload-Complete": "?1", "Content-Encoding": "gzip"}),
        (
            "PUT",
            "/files/f",
            {"Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}", "Content-Encoding": "gzip"},
        ),
    ):
        status, found, _ = server.request(method, target, body, fields)
        assert (status, found["accept-encoding"]) == (415, "identity"), fields
    nothing_stays(server)


# --- real tools ------------------------------------------------------------------------------

TOOLS = {"gzip": ["gzip", "-c"], "zstd": ["zstd", "-qc"], "br": ["brotli", "-c"]}


@pytest.mark.parametrize("coding", TOOLS)
def test_a_pipe_from_the_tool_through_curl(
    reuse_server: Start, store_folder: Path, coding: str
) -> None:
    tool = TOOLS[coding]
    need(tool[0], "curl")
    server = reuse_server(ON)
    source = store_folder / "source"
    source.write_bytes(TEXT * 5)
    with subprocess.Popen([*tool, str(source)], stdout=subprocess.PIPE) as encoder:
        command = ["curl", "-sS", "--fail", "-T", "-", "-H", f"Content-Encoding: {coding}"]
        made = subprocess.run(
            [*command, f"{server.url}/files/out"],
            stdin=encoder.stdout,
            check=True,
            capture_output=True,
        )
    assert json.loads(made.stdout)["size"] == source.stat().st_size
    assert (server.folder / "out").read_bytes() == source.read_bytes()


# --- bombs -----------------------------------------------------------------------------------


@functools.cache
def bomb() -> bytes:
    """gzip data of 64 MiB of zeros, a thousandth of it long; a member, of which many make more."""
    return gzip.compress(bytes(64 * MiB), 9)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--max-decode-ratio", "100"), "--max-decode-ratio"),
        (("--max-decode-ratio", "0", "--max-size", "64MiB"), "67108864"),
    ],
)
def test_a_bomb_goes_off_in_flat_memory(
    start_server: Start, options: tuple[str, ...], told: str
) -> None:
    server = start_server("--durability", "relaxed", ON, *options)
    assert send(server, gzip.compress(TEXT), "gzip")[0] == 201
    (server.folder / "f").unlink()
    before = server.rss("VmHWM")
    body = bomb() * 16
    assert len(body) < 2 * MiB
    status, _, answer = send(server, body, "gzip")
    assert (status, answer["code"]) == (413, "FB_TOO_LARGE")
    assert told in answer["detail"]
    nothing_stays(server)
    assert server.rss("VmHWM") - before < 8 * MiB


@pytest.mark.slow
def test_ten_gibibytes_in_ten_mebibytes_stop_at_the_cap(start_server: Start) -> None:
    server = start_server("--durability", "relaxed", ON, "--max-size", "1GiB")
    idle = server.rss("VmHWM")
    body = bomb() * 160
    assert 9 * MiB < len(body) < 12 * MiB
    for ratio in ("100", "0"):
        if ratio == "0":
            server.stop()
            options = ("--max-decode-ratio", "0", "--max-size", "1GiB")
            server = start_server("--durability", "relaxed", ON, *options)
            idle = server.rss("VmHWM")
        assert send(server, body, "gzip")[0] == 413
        nothing_stays(server)
        assert server.rss("VmHWM") - idle < 16 * MiB


def test_many_at_once_have_room_or_are_told_to_wait(start_server: Start) -> None:
    server = start_server("--durability", "relaxed", ON, "--memory-budget", "20MiB")
    body = brotli.compress(TEXT, quality=5)
    clients = []
    try:
        for number in range(3):
            client = RawClient(server)
            fields = ("Content-Encoding: br", "Expect: 100-continue")
            client.send(head("PUT", f"/files/{number}", *fields, length=len(body)))
            clients.append((client, client.head()))
        assert [reply[0] for _, reply in clients] == [100, 503, 503]
        assert int(clients[1][1][1]["retry-after"]) >= 1
        clients[0][0].send(body)
        assert clients[0][0].response()[0] == 201
    finally:
        for client, _ in clients:
            client.close()
    assert send(server, body, "br")[0] == 201
