"""Folders as JSON and as a page: paging, hostile names, and nobody held up."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin

import pytest

from e2e.programs import program, run
from e2e.server import ServerProcess
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]

MiB = 1 << 20
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}

HOSTILE = [
    "<svg onload=alert(1)>",
    "\"'><img src=x onerror=alert(1)>.png",
    "javascript:alert(1)",
    "a&amp;b &lt;c.txt",
    "100% sure?#fragment.txt",
    "https:&x.com",
    "ü 日本語 🎉.txt",
    "{{7*7}}.html",
    "=cmd|calc.csv",
]


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self._open = dict(attrs)["href"] or ""
            self.links.append((self._open, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.links[-1] = (self._open, self.links[-1][1] + data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        ("*/*", "", "application/json"),
        ("", "", "text/html; charset=utf-8"),  # no Accept at all, as rclone
        ("application/json", "", "application/json"),
        (BROWSER["Accept"], "", "text/html; charset=utf-8"),
        ("text/html;q=0.2, application/json;q=0.1", "", "text/html; charset=utf-8"),
        ("*/*", "?format=html", "text/html; charset=utf-8"),
        (BROWSER["Accept"], "?limit=5&format=json", "application/json"),
        ("", "?format=json", "application/json"),
    ],
)
def test_a_page_is_for_browsers_and_readers_of_links_and_json_for_the_rest(
    start_any: Start, accept: str, query: str, kind: str
):
    server = start_any()
    server.request("PUT", "/files/d/x.bin", bytes(1_500_000))
    fields = {"Accept": accept}
    status, headers, body = server.request("GET", f"/files/d/{query}", None, fields)
    assert (status, headers["content-type"]) == (200, kind)
    assert "accept" in headers["vary"].lower()
    assert headers["cache-control"] == "no-store"
    alone = server.request("HEAD", f"/files/d/{query}", None, fields)
    assert (alone[0], alone[1]["content-length"], alone[2]) == (200, str(len(body)), b"")


def test_another_form_of_a_listing_is_refused(start_any: Start):
    status, _, body = start_any().request("GET", "/files/?format=xml")
    assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_REQUEST")


def test_the_links_between_pages_keep_the_form_that_was_asked_for(start_any: Start):
    server = start_any()
    for name in "abc":
        server.request("PUT", f"/files/{name}", b"x")
    _, _, body = server.request("GET", "/files/?limit=1&format=html")
    assert ("/files/?after=a&format=html", "Next page") in Page(body.decode()).links
    _, _, body = server.request("GET", "/files/?after=a&format=html")
    assert ("/files/?format=html", "First page") in Page(body.decode()).links


def test_rclone_lists_and_copies_a_tree(start_server: Start, tmp_path: Path):
    """Its http remote sends no Accept and reads the links of a page."""
    server = start_server("--durability", "relaxed")
    tree = {"a.bin": b"a" * 1000, "d/b %26 ü.txt": b"b", "d/e/c": b""}
    for name, data in tree.items():
        assert server.request("PUT", "/files/" + quote(name), data)[0] == 201
    remote = ["--config", os.devnull, f"--http-url={server.url}/files/", ":http:"]
    listed = run("rclone", "lsf", "-R", "--files-only", *remote, folder=tmp_path)
    assert sorted(listed.stdout.splitlines()) == sorted(tree)
    run("rclone", "copy", *remote, tmp_path / "copy", folder=tmp_path)
    assert {name: (tmp_path / "copy" / name).read_bytes() for name in tree} == tree


def test_a_browser_gets_a_page(start_any: Start):
    server = start_any()
    server.request("PUT", "/files/d/x.bin", bytes(1_500_000))
    page = Page(server.request("GET", "/files/d/", None, BROWSER)[2].decode())
    assert ("/files/d/x.bin", "x.bin") in page.links
    assert ("/files/", "Files") in page.links
    text = server.request("GET", "/files/d/", None, BROWSER)[2].decode()
    assert "1.5 MB" in text
    (form,) = page.of("form")
    assert form == {"method": "post", "action": "/files/d/", "enctype": "multipart/form-data"}
    (field,) = page.of("input")
    assert (field["type"], field["name"]) == ("file", "file")
    assert server.request("GET", "/files/none/", None, BROWSER)[0] == 404


def test_a_folder_without_its_slash_leads_to_its_listing(start_any: Start):
    server = start_any()
    server.request("PUT", "/files/a%20%26/b/f", b"x")
    for method in ("GET", "HEAD"):
        status, headers, body = server.request(method, "/files/a%20%26/b?limit=5")
        assert (status, headers["location"], body) == (307, "/files/a%20%26/b/?limit=5", b"")
    assert server.request("GET", headers["location"])[0] == 200
    assert server.request("GET", "/files/none")[0] == 404


def test_no_name_gets_out_of_its_place_in_the_page(reuse_server: Start):
    server = reuse_server()
    for name in HOSTILE:
        (server.folder / name).write_text(name)
        (server.folder / f"folder {name}").mkdir()
    status, headers, body = server.request("GET", "/files/", None, BROWSER)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    page = Page(body.decode())
    allowed = {
        "html", "head", "meta", "title", "style", "body", "h1", "form", "label", "input", "button",
        "table", "thead", "tbody", "tr", "th", "td", "a", "bdi", "time", "nav",
    }  # fmt: skip
    assert {tag for tag, _ in page.tags} <= allowed
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    shown = {text: href for href, text in page.links}
    for name in HOSTILE:
        href = urljoin(server.url + "/files/", shown[name])
        assert href.startswith(server.url + "/files/")
        assert unquote(href.removeprefix(server.url)) == f"/files/{name}"
        assert server.request("GET", shown[name])[2] == name.encode()
        inner = server.request("GET", shown[f"folder {name}/"], None, BROWSER)
        assert inner[0] == 200
        assert {tag for tag, _ in Page(inner[2].decode()).tags} <= allowed


def test_a_browser_walks_through_pages_by_their_links(reuse_server: Start):
    server = reuse_server()
    folder = server.folder / "a & b"
    folder.mkdir()
    for n in range(2500):
        (folder / f"{n:04d} +%.txt").touch()
    target, seen, pages = "/files/a%20%26%20b/", [], 0
    while target:
        page = Page(server.request("GET", target, None, BROWSER)[2].decode())
        seen += [text for href, text in page.links if text.endswith(".txt")]
        pages += 1
        target = next((href for href, text in page.links if text == "Next page"), "")
        assert ("First page" in [text for _, text in page.links]) is (pages > 1)
    assert pages == 3
    assert seen == [f"{n:04d} +%.txt" for n in range(2500)]


def test_times_beyond_the_calendar_are_listed(reuse_server: Start):
    server = reuse_server()
    (server.folder / "f").touch()
    for when in (-(2**40), 2**40, -1, 0):
        try:
            os.utime(server.folder / "f", (when, when))
        except OverflowError:
            continue
        for fields in ({}, BROWSER):
            assert server.request("GET", "/files/", None, fields)[0] == 200
        assert server.request("GET", "/files/f")[0] == 200


def test_a_page_in_a_real_browser_shows_names_and_runs_none(reuse_server: Start):
    playwright = pytest.importorskip("playwright.sync_api")
    server = reuse_server()
    for name in HOSTILE:
        (server.folder / name).touch()
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.goto(f"{server.url}/files/")
            assert page.locator("tbody a").all_inner_texts() == sorted(HOSTILE)
            assert page.locator("input[type=file]").is_visible()
            assert page.evaluate("getComputedStyle(document.querySelector('form')).borderTopWidth")
            assert said == []  # no script ran, and the style was not refused
        finally:
            browser.close()


def test_files_are_sent_from_the_page_of_a_folder(reuse_server: Start, tmp_path: Path):
    playwright = pytest.importorskip("playwright.sync_api")
    server = reuse_server()
    (server.folder / "a & b").mkdir()
    sent = {"one ü.txt": b"1" * 100, "two.bin": bytes(3 * MiB)}
    for name, data in sent.items():
        (tmp_path / name).write_bytes(data)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"{server.url}/files/a%20%26%20b/")
            page.set_input_files("input[type=file]", [tmp_path / name for name in sent])
            with page.expect_navigation() as going:
                page.click("button")
            assert going.value.status in (200, 201)
        finally:
            browser.close()
    assert server.published() == {f"a & b/{name}": len(data) for name, data in sent.items()}


def page_through(server: ServerProcess, target: str) -> list[str]:
    names, after = [], ""
    while after is not None:
        answer = server.request("GET", f"{target}?limit=1000&after={quote(after)}")
        assert answer[0] == 200
        page = json.loads(answer[2])
        names += [entry["name"] for entry in page["entries"]]
        after = page["next"]
    return names


@pytest.mark.slow
def test_a_hundred_thousand_files_are_listed_while_others_are_served(
    reuse_server: Start, tmp_path: Path
):
    server = reuse_server()
    folder = server.folder / "many"
    folder.mkdir()
    expected = [f"file number {n:06d}.txt" for n in range(100_000)]
    fd = os.open(folder, os.O_RDONLY)
    for name in expected:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    (server.folder / "small").write_bytes(b"small")
    server.request("GET", "/files/many/?limit=10")
    before = server.rss("VmHWM")
    found: list[list[str]] = []
    pagers = [
        threading.Thread(target=lambda: found.append(page_through(server, "/files/many/")))
        for _ in range(2)
    ]
    for pager in pagers:
        pager.start()
    answered, slowest = 0, 0.0
    while any(pager.is_alive() for pager in pagers):
        begun = time.monotonic()
        assert server.request("GET", "/files/small")[2] == b"small"
        assert server.request("PUT", f"/files/beside/{answered}", b"x")[0] == 201
        slowest = max(slowest, time.monotonic() - begun)
        answered += 1
    assert found == [expected, expected]
    # Others were answered all the time: not only between two listings, nor after them.
    assert answered > 100, slowest
    assert server.rss("VmHWM") - before < 64 * MiB


def test_listings_that_nobody_reads_take_a_bounded_memory(
    start_server: Start,
) -> None:
    server = start_server("--durability", "relaxed")
    folder = server.folder / "many"
    folder.mkdir()
    name = "n" * 100
    for number in range(10_000):
        (folder / f"{name}{number:05}").touch()
    target = "/files/many/?limit=10000"
    for _ in range(2):
        assert len(json.loads(server.request("GET", target)[2])["entries"]) == 10_000
    before = server.rss()
    clients = []
    try:
        for number in range(40):
            client = RawClient(server)
            clients.append(client)
            more = ("Accept: text/html",) if number % 2 else ()
            client.send(head("GET", target, *more))
        for client in clients:
            assert client.head()[0] == 200
        assert server.request("GET", "/files/many/?limit=1")[0] == 200
        assert server.rss() - before <= 40 * MiB
    finally:
        for client in clients:
            client.close()


def test_a_listing_in_pieces_is_the_same_as_page_by_page(
    start_server: Start,
) -> None:
    server = start_server("--durability", "relaxed")
    folder = server.folder / "many"
    folder.mkdir()
    names = [f"{number:04}" + "é" * 60 for number in range(1500)]
    for name in names:
        (folder / name).touch()
    for limit, last in ((256, 255), (257, 256), (1499, 1498), (1500, None), (10_000, None)):
        status, fields, body = server.request("GET", f"/files/many/?limit={limit}")
        assert status == 200
        listing = json.loads(body)
        assert [entry["name"] for entry in listing["entries"]] == names[:limit]
        assert listing["next"] == (None if last is None else names[last])
        assert ("content-length" in fields) == (len(body) < 32 << 10)
        with RawClient(server) as client:
            client.send(head("HEAD", f"/files/many/?limit={limit}"))
            assert client.head()[0] == 200
            client.send(head("GET", "/healthz"))
            assert client.response()[0] == 200
