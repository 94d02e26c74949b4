"""Downloads by the programs that people use."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.programs import program, run
from e2e.server import ServerProcess
from raw_http import content

Start = Callable[..., ServerProcess]

MiB = 1 << 20
BODY = content(20 * MiB)


@pytest.fixture
def server(reuse_server: Start) -> ServerProcess:
    found = reuse_server()
    (found.folder / "big.bin").write_bytes(BODY)
    return found


def logged(server: ServerProcess, status: int) -> int:
    """Lines of the access log for GETs of the file that were answered like that."""
    return sum("GET /files/big.bin" in ln and f" {status}" in ln for ln in server.log.split("\n"))


def test_curl_goes_on_where_a_download_broke_off(server: ServerProcess, tmp_path: Path):
    target = tmp_path / "big.bin"
    target.write_bytes(BODY[:7_000_001])
    url = f"{server.url}/files/big.bin"
    run("curl", "-sSf", "-C", "-", "-o", target, url, folder=tmp_path)
    assert target.read_bytes() == BODY
    # It asks for the rest of a file that it has, is told 416, and leaves the file as it is.
    run("curl", "-sS", "-C", "-", "-o", target, url, folder=tmp_path)
    assert target.read_bytes() == BODY


def test_curl_gets_ranges_single_suffix_and_several(server: ServerProcess, tmp_path: Path):
    url = f"{server.url}/files/big.bin"
    for wanted, expected in (("0-99", BODY[:100]), ("-100", BODY[-100:]), ("20971519-", BODY[-1:])):
        run("curl", "-sSf", "-r", wanted, "-o", "part", url, folder=tmp_path)
        assert (tmp_path / "part").read_bytes() == expected
    run("curl", "-sSf", "-r", "5-9,9000000-9999999", "-o", "parts", url, folder=tmp_path)
    found = (tmp_path / "parts").read_bytes()
    assert BODY[5:10] in found
    assert BODY[9_000_000:10_000_000] in found
    assert len(found) < 1_000_500


def test_curl_takes_the_name_and_asks_only_for_what_is_new(server: ServerProcess, tmp_path: Path):
    url = f"{server.url}/files/big.bin"
    run("curl", "-sSf", "-OJ", url, folder=tmp_path)
    assert (tmp_path / "big.bin").read_bytes() == BODY
    save = ("--etag-save", "tag", "--etag-compare", "tag", "-w", "%{http_code}", "-o", "again")
    assert run("curl", "-sS", *save, url, folder=tmp_path).stdout == "200"
    assert run("curl", "-sS", *save, url, folder=tmp_path).stdout == "304"
    shown = run("curl", "-sS", "-z", "big.bin", "-R", "-w", "%{http_code}", url, folder=tmp_path)
    assert shown.stdout.endswith("304")


def test_wget_goes_on_where_a_download_broke_off(server: ServerProcess, tmp_path: Path):
    target = tmp_path / "big.bin"
    target.write_bytes(BODY[:123_457])
    shown = run("wget", "--no-verbose", "-S", "-c", f"{server.url}/files/big.bin", folder=tmp_path)
    assert "206 Partial Content" in shown.stderr
    assert target.read_bytes() == BODY
    again = subprocess.run(
        [program("wget"), "-S", "-c", f"{server.url}/files/big.bin"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "416" in again.stderr
    assert target.read_bytes() == BODY
    # -N keeps what has not changed.
    shown = run("wget", "-S", "-N", f"{server.url}/files/big.bin", folder=tmp_path)
    assert "304 Not Modified" in shown.stderr


def test_aria2_downloads_by_eight_connections(server: ServerProcess, tmp_path: Path):
    before = logged(server, 206)
    digest = hashlib.sha256(BODY).hexdigest()
    options = ("-x8", "-s8", "-k1M", "--file-allocation=none", "--check-integrity=true")
    url = f"{server.url}/files/big.bin"
    run("aria2c", *options, f"--checksum=sha-256={digest}", url, folder=tmp_path)
    assert (tmp_path / "big.bin").read_bytes() == BODY
    assert logged(server, 206) - before >= 4


def wave(seconds: int) -> bytes:
    """Silence as 16-bit stereo: a browser plays it, and seeks in it by ranges."""
    rate, data = 48_000, bytes(48_000 * 4 * seconds)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, rate, rate * 4, 4, 16)
    size = 4 + len(form) + 8 + len(data)
    return (
        b"RIFF"
        + struct.pack("<I4s", size, b"WAVE")
        + form
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


def test_a_browser_seeks_far_into_a_recording_without_loading_it_all(
    reuse_server: Start, tmp_path: Path
):
    playwright = pytest.importorskip("playwright.sync_api")
    server = reuse_server()
    recording = wave(600)  # 115 MB
    (server.folder / "long.wav").write_bytes(recording)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=program("chromium"),
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        try:
            page = browser.new_page()
            answers: list[tuple[int, str]] = []
            page.on(
                "response",
                lambda r: answers.append((r.status, r.headers.get("content-range", ""))),
            )
            page.goto(f"{server.url}/healthz")
            reached = page.evaluate(
                """url => new Promise((done, failed) => {
                    const media = document.createElement("video");
                    media.onerror = () => failed(new Error(media.error.message));
                    media.onloadedmetadata = () => { media.currentTime = 570; };
                    media.onseeked = () => done([media.duration, media.currentTime]);
                    media.src = url;
                })""",
                "/files/long.wav",
            )
        finally:
            browser.close()
    assert reached == [600, 570]
    ranges = [field for status, field in answers if status == 206]
    # It went near the end at once: a range begins there, and no answer came from the middle.
    starts = [int(field.removeprefix("bytes ").partition("-")[0]) for field in ranges]
    assert max(starts) > len(recording) * 0.8, answers


def test_a_browser_saves_what_it_may_not_show(reuse_server: Start, tmp_path: Path):
    playwright = pytest.importorskip("playwright.sync_api")
    server = reuse_server()
    (server.folder / "page ü.html").write_text("<script>document.title = 'ran'</script>")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"{server.url}/healthz")
            with page.expect_download() as saving:
                page.evaluate("url => { location.href = url }", "/files/page%20%C3%BC.html")
            assert saving.value.suggested_filename == "page ü.html"
            saving.value.save_as(tmp_path / "saved")
            assert (tmp_path / "saved").read_text().startswith("<script>")
            assert page.title() != "ran"
        finally:
            browser.close()
