"""Forms made by real clients: a browser without script, its fetch, Node's, and requests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from durability.missing import need, no_program
from e2e.server import ServerProcess
from raw_http import content

Start = Callable[..., ServerProcess]
MiB = 1 << 20

PAGE = """
<form method="post" action="/files/in/" enctype="multipart/form-data" accept-charset="utf-8">
<input name="title" value="Grüße"><textarea name="notes">a\nb</textarea>
<input type="file" name="file" multiple><input type="file" name="unused">
<button>Send</button></form>
"""
NAMES = ("plain.bin", 'quo"te % ü \u65e5.txt', "empty")
SIZES = (3 * MiB + 17, 1000, 0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, size in zip(NAMES, SIZES, strict=True):
        (tmp_path / name).write_bytes(content(size))
    return [tmp_path / name for name in NAMES]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """In a profile of its own."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def stored(server: ServerProcess, folder: str = "in") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (server.folder / folder).iterdir()}


EXPECTED = {name: content(size) for name, size in zip(NAMES, SIZES, strict=True)}


def test_a_browser_sends_a_form_without_script(reuse_server: Start, page: Any, files: list[Path]):
    server = reuse_server()
    page.goto(f"{server.url}/healthz")
    page.set_content(PAGE)
    page.set_input_files('input[name="file"]', files)
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 201
    assert stored(server) == EXPECTED
    assert page.title() == "Stored"
    assert [link.inner_text() for link in page.query_selector_all("li a")] == [
        f"in/{name}" for name in NAMES
    ]
    links = [link.get_attribute("href") for link in page.query_selector_all("li a")]
    for link, name in zip(links, NAMES, strict=True):
        assert server.request("GET", link)[2] == EXPECTED[name]


def test_a_browser_is_told_why_nothing_was_stored(reuse_server: Start, page: Any):
    server = reuse_server()
    page.goto(f"{server.url}/healthz")
    page.set_content(PAGE)
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 400
    assert "holds no file" in page.inner_text("body")
    assert server.published() == {}


@pytest.mark.parametrize("enctype", ["", 'enctype="text/plain"', 'enctype="application/json"'])
def test_a_browser_that_sends_only_the_names_of_files_is_told_so(
    reuse_server: Start, page: Any, files: list[Path], enctype: str
):
    """A form without enctype: what came would be stored as if it was the file."""
    server = reuse_server()
    page.goto(f"{server.url}/healthz")
    page.set_content(PAGE.replace('enctype="multipart/form-data"', enctype))
    page.set_input_files('input[name="file"]', files)
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 415
    assert 'enctype="multipart/form-data"' in page.inner_text("body")
    assert server.published() == {}


def test_fetch_in_a_browser_sends_a_form(reuse_server: Start, page: Any, files: list[Path]):
    server = reuse_server()
    page.goto(f"{server.url}/healthz")
    page.set_content(PAGE)
    page.set_input_files('input[name="file"]', files)
    answer = page.evaluate(
        """async () => {
            const form = new FormData(document.querySelector("form"));
            form.append("blob", new Blob(["x".repeat(100000)]));
            const answer = await fetch("/files/in/", {method: "POST", body: form});
            return [answer.status, await answer.json()];
        }"""
    )
    assert answer[0] == 201
    assert [entry["name"] for entry in answer[1]["files"]] == [
        *(f"in/{name}" for name in NAMES),
        "in/blob",
    ]
    assert stored(server) == {**EXPECTED, "blob": b"x" * 100_000}


def test_a_page_of_another_server_cannot_send_a_form(reuse_server: Start, page: Any, files: Any):
    server, other = reuse_server(), reuse_server("--max-uploads", "77")
    page.goto(f"{other.url}/healthz")
    page.set_content(PAGE.replace("/files/in/", f"{server.url}/files/in/"))
    page.set_input_files('input[name="file"]', files)
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 403
    assert server.published() == {}


NODE = """
import { readFile } from "node:fs/promises";
const [url, ...paths] = process.argv.slice(1);
const form = new FormData();
form.append("title", "Grüße");
for (const path of paths) {
    form.append("file", new Blob([await readFile(path)]), path.split("/").pop());
}
const answer = await fetch(url, {method: "POST", body: form});
console.log(answer.status);
"""


def test_fetch_in_node_sends_a_form(reuse_server: Start, files: list[Path]):
    need(no_program("node"))
    server = reuse_server()
    done = subprocess.run(
        ["node", "--input-type=module", "-e", NODE, "--", f"{server.url}/files/in/", *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "201"
    assert stored(server) == EXPECTED


def test_programs_send_files_by_the_types_of_forms(reuse_server: Start):
    """As curl does with --data-binary."""
    server = reuse_server()
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        for accept in ("*/*", "application/json, text/html"):
            headers = {"Content-Type": kind, "Accept": accept}
            url = f"{server.url}/files/"
            assert requests.post(url, b"data", headers=headers).status_code == 201
    page = {"Content-Type": "text/plain", "Accept": "text/html"}
    assert requests.post(f"{server.url}/files/", b"data", headers=page).status_code == 201


def test_requests_sends_a_form(reuse_server: Start, files: list[Path]):
    server = reuse_server()
    parts = [("file", (path.name, path.read_bytes())) for path in files]
    answer = requests.post(
        f"{server.url}/files/in/", data={"title": "Grüße"}, files=parts, timeout=60
    )
    assert answer.status_code == 201
    assert stored(server) == EXPECTED


FOLDER = """
<form method="post" action="/files/in/" enctype="multipart/form-data">
<input type="file" name="files" webkitdirectory><button>Send</button></form>
"""


def test_a_folder_from_a_browser_is_stored_without_what_its_user_never_saw(
    reuse_server: Start, page: Any, tmp_path: Path
):
    server = reuse_server()
    for name in ("trip/note.txt", "trip/one/note.txt", "trip/.DS_Store", "trip/Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    page.goto(f"{server.url}/healthz")
    page.set_content(FOLDER)
    page.set_input_files('input[name="files"]', tmp_path / "trip")
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 207
    assert page.title() == "Some files were not stored"
    assert "trip/.DS_Store: not stored" in page.inner_text("ul")
    found = stored(server)
    assert set(found) == {"note.txt", "note (1).txt", "Thumbs.db"}
    assert set(found.values()) == {b"trip/note.txt", b"trip/one/note.txt", b"trip/Thumbs.db"}


SHIFT_JIS = """
<form method="post" action="/files/in/" enctype="multipart/form-data" accept-charset="shift_jis">
<input type="hidden" name="_charset_"><input name="題" value="表">
<input type="file" name="表" multiple><button>Send</button></form>
"""


def test_a_browser_on_a_page_in_another_charset_has_its_names_kept(
    reuse_server: Start, page: Any, tmp_path: Path
):
    server = reuse_server()
    names = {"表示.txt", "日本.txt", "plain.txt"}
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    page.goto(f"{server.url}/healthz")
    page.set_content(SHIFT_JIS)
    page.set_input_files('input[type="file"]', [tmp_path / name for name in names])
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 201
    assert stored(server) == {name: name.encode() for name in names}
