"""Forms with a Content-Encoding: refused unless asked for, else decoded before they are parsed."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest

from e2e.programs import program
from e2e.server import ServerProcess
from e2e.test_forms import FORM, file, form, post, refused, text
from raw_http import RawClient, chunked, content, head

Start = Callable[..., ServerProcess]
MiB = 1 << 20
GZIP = "Content-Encoding: gzip"
ON = "--decode-request"
LINES = b"".join(b"line %d of some text that can be made smaller\n" % n for n in range(40_000))

zstd: Any = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)
ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, mtime=0),
    "zstd": zstd.compress,
    "br": functools.partial(brotli.compress, quality=5),
}


def sha(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("coding", ENCODE)
def test_an_encoded_form_is_stored_decoded(start_any: Start, coding: str):
    server = start_any(ON)
    body = ENCODE[coding](form(text("t", "x"), file("a.txt", LINES), file("b.txt", b"small")))
    status, _, answer = post(server, body, f"Content-Encoding: {coding}")
    assert status == 201
    assert [one["size"] for one in json.loads(answer)["files"]] == [len(LINES), 5]
    assert (server.folder / "a.txt").read_bytes() == LINES
    assert (server.folder / "b.txt").read_bytes() == b"small"
    assert server.leftovers() == []


def test_a_form_that_curl_made_can_be_sent_encoded(reuse_server: Start, tmp_path: Path):
    """curl -F does not encode, so its own body is caught, encoded and sent by curl again."""
    server = reuse_server(ON)
    source = tmp_path / "lines.txt"
    source.write_bytes(LINES)
    plain, boundary = _made_by_curl(source)
    (tmp_path / "body.gz").write_bytes(gzip.compress(plain))
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    body, url = f"@{tmp_path / 'body.gz'}", f"{server.url}/files/"
    done = subprocess.run(
        [program("curl"), "-sS", "--data-binary", body, "-H", GZIP, "-H", kind, url],
        capture_output=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout)["size"] == len(LINES)
    assert (server.folder / "lines.txt").read_bytes() == LINES


def _made_by_curl(source: Path) -> tuple[bytes, str]:
    """The body that `curl -F` sends for a file, and its boundary."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        arguments = [program("curl"), "-sS", "-H", "Expect:", "-F", f"file=@{source}", url]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as curl:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                fields = {}
                while (line := reader.readline()) != b"\r\n":
                    name, _, value = line.decode().partition(":")
                    fields[name.lower()] = value.strip()
                body = reader.read(int(fields["content-length"]))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert curl.wait(30) == 0
    return body, fields["content-type"].partition("boundary=")[2]


def test_without_the_setting_an_encoded_form_is_refused(start_any: Start):
    body = gzip.compress(form(file("a", b"data")))
    assert refused(start_any(), body, GZIP) == (415, "FB_UNSUPPORTED_CODING")


def test_a_chunked_encoded_form_is_stored(start_any: Start):
    server = start_any(ON)
    body = gzip.compress(form(file("a", LINES)))
    pieces = [body[start : start + 999] for start in range(0, len(body), 999)]
    assert post(server, pieces, GZIP)[0] == 201
    assert (server.folder / "a").read_bytes() == LINES


@pytest.mark.parametrize("policy", ["all", "each"])
def test_an_encoded_form_that_is_cut_or_broken_stores_nothing(start_any: Start, policy: str):
    server = start_any(ON, "--form-policy", policy)
    body = gzip.compress(form(file("a", content(100_000)), file("b", b"whole")))
    for broken in (body[:-1], body[:-9], body[: len(body) // 2], body + b"junk", b"junk", b""):
        assert refused(server, broken, GZIP) == (400, "FB_UNDECODABLE_BODY")
    cut = gzip.compress(form(file("a", b"data"))[:-10])
    assert refused(server, cut, GZIP)[0] == 400


def test_an_encoded_form_that_breaks_off_leaves_nothing(start_any: Start):
    server = start_any(ON)
    body = gzip.compress(form(file("a", content(300_000))))
    with RawClient(server) as client:
        client.send(head("POST", "/files/", FORM, GZIP, length=len(body)) + body[:-100])
    with RawClient(server) as client:
        client.send(head("POST", "/files/", FORM, GZIP, "Transfer-Encoding: chunked"))
        client.send(chunked([body[:-100]])[:-5])
    assert post(server, body, GZIP)[0] == 201
    assert server.published() == {"a": 300_000}
    assert server.leftovers() == []


def test_digests_of_an_encoded_form_are_of_what_came(start_any: Start):
    server = start_any(ON)
    plain = form(file("a", LINES))
    body = gzip.compress(plain)
    for field in ("Content-Digest", "Repr-Digest"):
        wrong = refused(server, body, GZIP, f"{field}: {sha(plain)}")
        assert wrong == (400, "FB_DIGEST_MISMATCH")
    assert post(server, body, GZIP, f"Content-Digest: {sha(body)}")[0] == 201


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda zeros: form(file("a", zeros)), id="file"),
        pytest.param(lambda zeros: form(file("a", b"x"), text("t", zeros.decode())), id="field"),
        pytest.param(lambda zeros: zeros + b"\r\n" + form(file("a", b"x")), id="preamble"),
        pytest.param(lambda zeros: form(file("a", b"x")) + zeros, id="epilogue"),
        pytest.param(lambda zeros: form(b"X-Long: " + zeros + b"\r\n\r\nx"), id="head"),
    ],
)
def test_a_bomb_in_a_form_stops_at_the_ratio(start_any: Start, place: Callable[[bytes], bytes]):
    server = start_any(ON, "--form-large-fields", "disk")
    before = server.rss("VmHWM")
    status, code = refused(server, gzip.compress(place(b"0" * (64 * MiB))), GZIP)
    assert status in (400, 413)
    assert code in ("FB_TOO_LARGE", "FB_MALFORMED_BODY")
    assert server.rss("VmHWM") - before < 48 * MiB


def test_limits_of_forms_are_about_decoded_bytes(start_any: Start):
    server = start_any(ON, "--form-max-size", "100kB", "--max-size", "60kB")
    for plain in (
        form(file("a", bytes(60_001))),  # --max-size
        form(file("a", bytes(50_000)), file("b", bytes(50_000))),  # --form-max-size
    ):
        body = gzip.compress(plain)
        assert len(body) < 1000
        assert refused(server, body, GZIP) == (413, "FB_TOO_LARGE")
    assert post(server, gzip.compress(form(file("a", bytes(60_000)))), GZIP)[0] == 201
