"""What a web page of another origin can do and read, in a real browser (invariant 18)."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from browsers.conftest import SERVERS, TOKEN, Start, Way
from browsers.pages import Pages
from e2e.server import ServerProcess
from raw_http import RawClient, head

MADE = 2_500_000
"""Bytes: more than a server holds in memory."""
TUS = {"Tus-Resumable": "1.0.0"}
UNSEEN = {"connection", "server", "vary", "x-content-type-options", "keep-alive"}
"""Fields that no script may read, and none needs."""


@functools.cache
def made(size: int) -> bytes:
    """What `bytes(size)` is in the page."""
    return bytes((i * 31 + (i >> 8) * 7) & 255 for i in range(size))


def ask(page: Any, server: ServerProcess, way: Way, method: str, path: str, **more: Any) -> Any:
    """One fetch by the page; `headers` beside those of the way."""
    init = {**way.init, "method": method, **more}
    init["headers"] = {**way.headers, **more.get("headers", {})}
    return page.evaluate("([url, init]) => ask(url, init)", [f"{server.url}{path}", init])


def code_of(answer: Any) -> str:
    assert "hidden" not in answer, answer
    return str(json.loads(answer["body"])["code"])


def on_the_wire(
    server: ServerProcess, pages: Pages, method: str, path: str, *more: str
) -> dict[str, str]:
    """The fields of the same answer as a program gets it that may read all of them."""
    with RawClient(server) as client:
        own = (f"Origin: {pages.url}", f"Authorization: {TOKEN}", "Accept: */*")
        client.send(head(method, path, *own, *more, length=0))
        return client.head()[1]


# --- what a page sends ---------------------------------------------------------------------------


def test_a_page_puts_a_file_and_gets_it_back(server: ServerProcess, way: Way, page: Any) -> None:
    wanted = {"X-Filename": "ignored", "Want-Repr-Digest": "sha-256=9"}
    stored = ask(page, server, way, "PUT", "/files/a.bin", size=MADE, headers=wanted)
    assert stored["status"] == 201, stored
    fields = dict(stored["fields"])
    assert fields["location"] == "/files/a.bin"
    assert {"etag", "date", "content-length"} <= set(fields)
    assert (server.folder / "a.bin").read_bytes() == made(MADE)
    got = ask(page, server, way, "GET", "/files/a.bin", headers={"Range": "bytes=5-9"})
    assert got["status"] == 206
    assert dict(got["fields"])["content-range"] == f"bytes 5-9/{MADE}"
    several = ask(
        page, server, way, "GET", "/files/a.bin", headers={"Range": "bytes=1-2,900000-900001"}
    )
    assert (
        several["status"] == 206 and "content-range: bytes 900000-900001" in several["body"].lower()
    )
    after = {"Range": f"bytes={MADE}-"}  # uncached: Chromium makes a Content-Range of its own
    past = ask(page, server, way, "GET", "/files/a.bin", headers=after, cache="no-store")
    assert past["status"] == 416 and dict(past["fields"])["content-range"] == f"bytes */{MADE}"


@pytest.mark.parametrize("path", ["/files/", "/files/in/"])
def test_a_page_sends_a_form_by_fetch(
    server: ServerProcess, way: Way, page: Any, path: str
) -> None:
    answer = ask(page, server, way, "POST", path, form=MADE, name="größe.bin")
    assert answer["status"] == 201, answer
    name = json.loads(answer["body"])["name"]
    assert (server.folder / name).read_bytes() == made(MADE)
    assert dict(answer["fields"])["location"].endswith("gr%C3%B6%C3%9Fe.bin")


@pytest.mark.parametrize("server", SERVERS[:1], indirect=True)
def test_a_page_sends_a_form_without_script(server: ServerProcess, page: Any) -> None:
    page.eval_on_selector("form", "(form, url) => { form.action = url }", f"{server.url}/files/")
    file = {"name": "f.bin", "mimeType": "application/x-thing", "buffer": made(1000)}
    page.set_input_files("input[type=file]", [file])
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 201
    assert (server.folder / "f.bin").read_bytes() == made(1000)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": 700_000},
        {"chunkSize": 900_000, "parallelUploads": 2},
        {"chunkSize": 700_000, "uploadDataDuringCreation": True},
        {"chunkSize": 700_000, "overridePatchMethod": True},
    ],
    ids=str,
)
def test_tus_js_client_uploads_from_a_page(
    server: ServerProcess, way: Way, page: Any, options: dict[str, Any]
) -> None:
    asked = {
        "endpoint": f"{server.url}/uploads/",
        "headers": way.headers,
        "metadata": {"filename": "t.bin"},
        **options,
    }
    told = page.evaluate(
        "([options, size, credentials]) => sendByTus(options, size, credentials)",
        [asked, MADE, way.credentials],
    )
    assert told.get("url", "").startswith(f"{server.url}/uploads/"), told
    assert (server.folder / "t.bin").read_bytes() == made(MADE)


STALE = [
    "/uploads/AAAAAAAAAAAAAAAAAAAAAAAA",  # of ours, and gone
    "/uploads/24e533e02ec3bc40c387f1a0e460e216+2~xyz.abc-DEF_1",  # tusd with S3
    "/uploads/" + "x" * 300,
    "/uploads/a%20b%2Fc",
    "/uploads/a/b/c",
    "/uploads/2026/11/27/file.bin",
    "/uploads/..%2f..%2fetc",
    "/files/24e533e02ec3bc40c387f1a0e460e216",  # tusd's own path
]


@pytest.mark.parametrize("path", STALE)
def test_tus_js_client_begins_anew_where_its_upload_was_on_another_server(
    server: ServerProcess, way: Way, page: Any, path: str
) -> None:
    asked = {
        "endpoint": f"{server.url}/uploads/",
        "uploadUrl": f"{server.url}{path}",
        "headers": way.headers,
        "metadata": {"filename": "t.bin"},
    }
    told = page.evaluate(
        "([options, size, credentials]) => sendByTus(options, size, credentials)",
        [asked, 1000, way.credentials],
    )
    assert "url" in told, told
    assert told["answers"][0][:2] == ["HEAD", 404]
    assert (server.folder / "t.bin").read_bytes() == made(1000)


@pytest.mark.parametrize("plugin", ["Tus", "XHRUpload"])
def test_uppy_uploads_from_a_page(server: ServerProcess, way: Way, page: Any, plugin: str) -> None:
    path = "/uploads/" if plugin == "Tus" else "/files/"
    asked = {
        "endpoint": f"{server.url}{path}",
        "headers": way.headers,
        "withCredentials": way.credentials,
    }
    told = page.evaluate(
        "([plugin, options, size]) => sendByUppy(plugin, options, size)", [plugin, asked, MADE]
    )
    assert told["failed"] == [] and len(told["stored"]) == 1, told
    assert (server.folder / f"{plugin}.bin").read_bytes() == made(MADE)


# --- what a page reads ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/files/a.bin", {}),
        ("HEAD", "/files/a.bin", {}),
        ("GET", "/files/a.bin", {"Range": "bytes=0-1"}),
        ("GET", "/files/", {}),
        ("GET", "/files/none", {}),
        ("PUT", "/files/a.bin", {}),
        ("DELETE", "/files/a.bin", {}),
        ("OPTIONS", "/uploads/", {}),
        ("POST", "/uploads/", {**TUS, "Upload-Length": "5", "Upload-Metadata": "filename YQ=="}),
        ("POST", "/uploads/", {**TUS, "Upload-Length": "5", "Upload-Concat": "partial"}),
        ("POST", "/uploads/", {"Upload-Complete": "?0", "Upload-Draft-Interop-Version": "8"}),
        ("POST", "/uploads/", {"Tus-Resumable": "9.0.0"}),
        ("PUT", "/files/b.bin", {"Content-Encoding": "x-unknown"}),
    ],
)
def test_a_page_reads_every_field_that_a_program_reads(
    server: ServerProcess,
    pages: Pages,
    way: Way,
    page: Any,
    method: str,
    path: str,
    fields: dict[str, str],
) -> None:
    (server.folder / "a.bin").write_bytes(made(1000))
    answer = ask(page, server, way, method, path, headers=fields)
    assert "hidden" not in answer, answer
    read = {name for name, _ in answer["fields"]}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    sent = on_the_wire(server, pages, method, path, *lines)
    needed = {name for name in sent.names if not name.startswith("access-control-")} - UNSEEN
    assert needed <= read, needed - read


REFUSALS = [
    ("PUT", "/files/taken.bin", {"size": 10}, 409, "FB_NAME_TAKEN"),
    ("PUT", "/files/taken.bin/below", {"size": 10}, 409, "FB_NOT_A_FOLDER"),
    ("POST", "/uploads/", {"headers": {**TUS, "Upload-Length": "9000000"}}, 413, "FB_TOO_LARGE"),
    ("GET", "/files/none.bin", {}, 404, "FB_NOT_FOUND"),
    ("DELETE", "/files/taken.bin", {}, 405, "FB_METHOD_NOT_ALLOWED"),
    ("PUT", "/files/", {"size": 10}, 405, "FB_METHOD_NOT_ALLOWED"),
    ("PUT", "/files/.forebay/x", {"size": 10}, 400, "FB_INVALID_NAME"),
    ("PUT", "/files/a%00b", {"size": 10}, 400, "FB_INVALID_NAME"),
    ("PUT", "/files/a/../b", {"size": 10}, None, None),  # the browser makes /files/b of it
    ("PUT", "/files/a%2Fb", {"size": 10}, 400, "FB_INVALID_NAME"),
    ("PUT", f"/files/{'n' * 300}", {"size": 10}, 400, "FB_INVALID_NAME"),
    ("PATCH", "/uploads/x", {"headers": TUS}, 404, "FB_NOT_FOUND"),
    ("PATCH", "/uploads/%2e%2e%2fx", {"headers": TUS}, 404, "FB_NOT_FOUND"),
    ("DELETE", f"/uploads/{'i' * 200}", {"headers": TUS}, 404, "FB_NOT_FOUND"),
    ("GET", "/uploads/a.b/c", {}, 404, "FB_NOT_FOUND"),
    ("POST", "/uploads/", {"headers": {**TUS, "Upload-Length": "x"}}, 400, "FB_INVALID_FIELD"),
    ("POST", "/uploads/", {"headers": {"Tus-Resumable": "9.0"}}, 412, "FB_PRECONDITION_FAILED"),
    ("PUT", "/files/c", {"size": 9, "headers": {"Content-Encoding": "x"}}, 415, None),
]


@pytest.mark.parametrize(("method", "path", "init", "status", "code"), REFUSALS)
def test_a_page_reads_why_it_is_refused(
    server: ServerProcess,
    way: Way,
    page: Any,
    method: str,
    path: str,
    init: dict[str, Any],
    status: int | None,
    code: str | None,
) -> None:
    (server.folder / "taken.bin").write_bytes(b"here")
    answer = ask(page, server, way, method, path, **init)
    assert "hidden" not in answer, answer
    if status is not None:
        assert answer["status"] == status, answer
    if code is not None:
        assert code_of(answer) == code
    if status == 405:
        assert dict(answer["fields"])["allow"]
    assert (server.folder / "taken.bin").read_bytes() == b"here"


@pytest.mark.parametrize("server", SERVERS[:2], indirect=True)
def test_a_page_reads_that_its_file_is_too_large(
    server: ServerProcess, way: Way, page: Any
) -> None:
    """Not on uvicorn, which may reset a connection that it does not read from."""
    answer = ask(page, server, way, "PUT", "/files/large.bin", size=9_000_000)
    assert (answer.get("status"), code_of(answer)) == (413, "FB_TOO_LARGE")
    form = ask(page, server, way, "POST", "/files/", form=9_000_000)
    assert (form.get("status"), code_of(form)) == (413, "FB_TOO_LARGE")
    assert server.published() == {}


@pytest.mark.parametrize("server", SERVERS[:2], indirect=True)
@pytest.mark.parametrize("size", [70_000, 200_000])
def test_a_page_reads_that_its_head_is_too_long(
    server: ServerProcess, way: Way, page: Any, size: int
) -> None:
    """Browsers send Origin after a page's own fields, which are what is too long here."""
    answer = ask(page, server, way, "PUT", "/files/a", size=10, headers={"X-Long": "x" * size})
    assert (answer.get("status"), code_of(answer)) == (431, "FB_HEAD_TOO_LARGE")
    assert server.published() == {}


@pytest.mark.parametrize("server", SERVERS[:1], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("POST", "/healthz", 405),
        ("PUT", "/readyz", 405),
        ("GET", "/nothing", 404),
        ("DELETE", "/nothing/at/all", 404),
        ("GET", "/files", 200),
    ],
)
def test_a_page_reads_the_answers_of_every_other_path(
    server: ServerProcess, way: Way, page: Any, method: str, path: str, status: int
) -> None:
    answer = ask(page, server, way, method, path)
    assert answer.get("status") == status, answer


@pytest.mark.parametrize("server", SERVERS[1:], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/files/a.bin", {}),
        ("GET", "/files/", {}),
        ("POST", "/uploads/", {**TUS, "Upload-Length": "5"}),
    ],
)
def test_a_page_reads_that_it_has_to_sign_in_or_met_a_fault(
    server: ServerProcess, page: Any, method: str, path: str, headers: dict[str, str]
) -> None:
    url = f"{server.url}{path}"
    init = {"method": method, "headers": headers, "credentials": "omit"}
    stranger = page.evaluate("([url, init]) => ask(url, init)", [url, init])
    assert (stranger.get("status"), code_of(stranger)) == (401, "FB_NOT_AUTHENTICATED")
    assert dict(stranger["fields"])["www-authenticate"] == "Bearer"
    page.evaluate("() => { document.cookie = 'who=trouble' }")
    init["credentials"] = "include"
    fault = page.evaluate("([url, init]) => ask(url, init)", [url, init])
    assert (fault.get("status"), code_of(fault)) == (500, "FB_INTERNAL")
    assert server.wait_for_log("a fault of the application")
    assert server.published() == {}


# --- which page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_a_page_of_another_origin_reads_and_stores_nothing(
    start: Start, kind: str, way: Way, page: Any
) -> None:
    server = start(kind, "https://app.example")
    for method, path, init in (
        ("PUT", "/files/a.bin", {"size": 10}),
        ("POST", "/files/", {"form": 10}),
        ("POST", "/files/?name=b", {"size": 10}),
        ("GET", "/files/", {}),
        ("POST", "/uploads/", {"headers": {**TUS, "Upload-Length": "5"}}),
        ("PUT", "/files/a", {"headers": {"X-Long": "x" * 70_000}}),
    ):
        assert "hidden" in ask(page, server, way, method, path, **init), (method, path)
    assert server.published() == {}


@pytest.mark.parametrize("kind", SERVERS)
def test_where_any_page_may_there_are_no_credentials(start: Start, kind: str, page: Any) -> None:
    server = start(kind, "*")
    assert ask(page, server, Way(False), "PUT", "/files/a.bin", size=10)["status"] == 201
    assert ask(page, server, Way(False), "PUT", "/files/a.bin", size=10)["status"] == 409
    assert "hidden" in ask(page, server, Way(True), "PUT", "/files/b.bin", size=10)
    assert "hidden" in ask(page, server, Way(True), "GET", "/files/a.bin")
    assert set(server.published()) == {"a.bin"}
