"""Which host a request is for, what a trusted proxy says of it, and which methods there are."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.programs import program
from e2e.server import ServerProcess
from forebay.protocol.forwarded import prefix_before
from raw_http import Answer, RawClient, head

Start = Callable[..., ServerProcess]

ROUTES = ["/", "/healthz", "/readyz", "/files/", "/files/x", "/uploads/", "/nothing", "*"]


def ask(server: ServerProcess, message: bytes) -> Answer:
    with RawClient(server) as client:
        client.send(message)
        return client.response()


def code_of(body: bytes) -> str:
    return str(json.loads(body)["code"])


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "host",
    [
        "local host",
        "localhost, localhost",
        "user@localhost",
        "localhost:65536",
        "localhost:http",
        "[::1",
        "[localhost]",
        "localhost/files",
        "http://localhost",
    ],
)
def test_a_host_that_is_none_is_400_on_every_route(reuse_server: Start, route: str, host: str):
    """RFC 9112, section 3.2."""
    method = "OPTIONS" if route == "*" else "GET"
    status, _, body = ask(reuse_server(), head(method, route, host=host))
    assert (status, code_of(body)) == (400, "FB_INVALID_REQUEST")


def test_the_host_of_an_absolute_target_counts_and_not_the_field(reuse_server: Start):
    """RFC 9112, section 3.2.2."""
    server = reuse_server()

    def put(target: str, host: str, *fields: str) -> int:
        message = head("PUT", target, *fields, length=1, host=host)
        return ask(server, message + b"x")[0]

    own = f"localhost:{server.port}"
    assert put(f"http://{own}/files/a", "evil.example") == 201
    assert put("http://evil.example/files/b", own) == 421
    assert put(f"http://user@{own}/files/c", own) == 400
    assert put("ftp://localhost/files/d", own) == 400
    assert put("http:///files/e", own) == 400
    assert put("http://[::1/files/f", own) == 400
    page = f"Origin: http://{own}"
    assert put(f"HTTP://{own}/files/g", "localhost:1", page) == 201
    assert put("http://localhost:1/files/h", own, page) == 403
    assert server.published() == {"a": 1, "g": 1}


@pytest.mark.parametrize("line", ["GET / RTSP/1.0", "SOURCE /x ICE/1.0", "DESCRIBE / RTSP/1.0"])
def test_another_protocol_is_400(reuse_server: Start, line: str):
    status, _, body = ask(reuse_server(), f"{line}\r\nHost: localhost\r\n\r\n".encode())
    assert (status, code_of(body)) == (400, "FB_INVALID_REQUEST")


@pytest.mark.parametrize("method", ["BREW", "get", "X-Y", "CONNECT", "GETT"])
@pytest.mark.parametrize("target", ["/", "/files/x", "/uploads/"])
def test_an_unknown_method_is_501(reuse_server: Start, method: str, target: str):
    """RFC 9110, section 15.6.2."""
    server = reuse_server()
    message = head(method, target, length=0)
    for cut in (len(message), 1, 3):
        with RawClient(server) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send(message[:cut])
            client.send(message[cut:])
            status, _, body = client.response()
        assert (status, code_of(body)) == (501, "FB_METHOD_UNKNOWN")


UPLOAD = "/uploads/0123456789abcdef0123456789abcdef"
FILE, FOLDER = {"GET", "HEAD", "PUT", "PATCH", "OPTIONS"}, {"GET", "HEAD", "POST", "OPTIONS"}


@pytest.mark.parametrize(
    ("options", "target", "allowed"),
    [
        ((), "/files/", FOLDER),
        ((), "/files/d/", FOLDER),
        ((), "/files/f", FILE),
        (("--allow-delete",), "/files/f", FILE | {"DELETE"}),
        (("--no-resumable",), "/files/f", FILE - {"PATCH"}),
        ((), "/uploads/", {"POST", "OPTIONS"}),
        ((), "/uploads", {"POST", "OPTIONS"}),
        ((), UPLOAD, {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"}),
        ((), "/", {"GET", "HEAD"}),
        ((), "/readyz", {"GET", "HEAD"}),
    ],
)
@pytest.mark.parametrize("protocol", [(), ("Tus-Resumable: 1.0.0",), ("Upload-Complete: ?1",)])
def test_a_method_is_405_exactly_where_allow_does_not_name_it(
    reuse_server: Start,
    options: tuple[str, ...],
    target: str,
    allowed: set[str],
    protocol: tuple[str, ...],
):
    server = reuse_server(*options)
    for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "PROPFIND", "TRACE"):
        if protocol and not target.startswith("/uploads"):
            continue
        message = head(method, target, *protocol, length=0)
        with RawClient(server) as client:
            client.send(message)
            status, fields = client.head()
        if status == 405:
            told = set(fields["allow"].split(", "))
            # tus and the IETF draft have no PUT, which Content-Range may come by
            assert told in ((allowed, allowed - {"PUT"}) if protocol else (allowed,))
            assert method not in told
        else:
            assert method in allowed, (method, status)


# --- behind a proxy ------------------------------------------------------------------------------

PREFIXED = ("X-Forwarded-Prefix: /store",)


def test_a_prefix_is_in_every_link(reuse_server: Start):
    server = reuse_server("--trusted-proxies", "127.0.0.1")

    def get(method: str, target: str, *fields: str, body: bytes = b""):
        return ask(server, head(method, target, *PREFIXED, *fields, length=len(body)) + body)

    _, fields, body = get("PUT", "/files/d/x", body=b"x")
    assert (fields["location"], json.loads(body)["url"]) == ("/store/files/d/x",) * 2
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="y"\r\n\r\ny\r\n--b--\r\n'
    kind = "Content-Type: multipart/form-data; boundary=b"
    _, fields, body = get("POST", "/files/d/", kind, body=form)
    assert (fields["location"], json.loads(body)["url"]) == ("/store/files/d/y",) * 2
    _, _, body = get("POST", "/files/d/", kind, "Accept: text/html", body=form)
    assert b'"/store/files/d/' in body
    assert b'"/files' not in body
    _, fields, body = get("GET", "/files/d")
    assert fields["location"] == "/store/files/d/"
    _, _, body = get("GET", "/files/d/", "Accept: */*")
    assert [e["url"] for e in json.loads(body)["entries"]][:2] == [
        "/store/files/d/x",
        "/store/files/d/y",
    ]
    _, _, body = get("GET", "/files/d/", "Accept: text/html")
    assert b'action="/store/files/d/"' in body
    assert b'href="/store/files/"' in body
    assert b'"/files' not in body
    for fields_of in (
        ("Tus-Resumable: 1.0.0", "Upload-Length: 9"),
        ("Upload-Draft-Interop-Version: 8", "Upload-Complete: ?0"),
    ):
        status, fields, _ = get("POST", "/uploads/", *fields_of)
        assert (status, fields["location"][:15]) == (201, "/store/uploads/")
    status, fields, _ = get("PUT", "/files/p", "Content-Range: bytes 0-0/2", body=b"p")
    assert (status, fields["content-location"][:15]) == (308, "/store/uploads/")
    upload = fields["content-location"].removeprefix("/store")
    _, fields, body = get("PUT", upload, "Content-Range: bytes 1-1/2", body=b"q")
    assert (fields["location"], json.loads(body)["url"]) == ("/store/files/p",) * 2


def test_a_prefix_that_anybody_says_is_in_no_link(reuse_server: Start):
    server = reuse_server()
    message = head("PUT", "/files/x", *PREFIXED, length=1) + b"x"
    assert ask(server, message)[1]["location"] == "/files/x"


@pytest.mark.parametrize(
    ("base", "prefix", "before"),
    [
        ("", "", ""),
        ("", "/api", "/api"),
        ("/api", "", ""),
        ("/api", "/api", ""),  # Traefik's StripPrefix, and root_path as well
        ("/api/v1", "/api", ""),
        ("/api", "/outer/api", "/outer"),
        ("/api", "/outer", "/outer"),
        ("/apiary", "/api", "/api"),
        ("/", "/api", "/api"),
    ],
)
def test_a_prefix_that_the_application_knows_is_not_repeated(base: str, prefix: str, before: str):
    assert prefix_before(base, prefix) == before


NGINX = """
daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location /store/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_request_buffering off; proxy_http_version 1.1;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Prefix /store;
      add_header Referrer-Policy no-referrer always;
      proxy_hide_header Referrer-Policy;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def behind_nginx(reuse_server: Start, tmp_path: Path) -> Iterator[tuple[ServerProcess, str]]:
    """A server, and the URL of nginx in front of it, which takes `/store` off the path."""
    server = reuse_server("--trusted-proxies", "127.0.0.1")
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port, upstream=server.port))
    proxy = subprocess.Popen([program("nginx"), "-c", str(config), "-p", str(tmp_path)])
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except ConnectionRefusedError:
                assert proxy.poll() is None
        yield server, f"http://127.0.0.1:{port}/store"
    finally:
        proxy.terminate()
        proxy.wait(30)


def test_a_browser_uploads_by_the_form_behind_a_proxy_and_follows_every_link(
    behind_nginx: tuple[ServerProcess, str], tmp_path: Path
):
    """The proxy gives another Host and a prefix, and asks for no referrer, so that the form comes
    with `Origin: null`.
    """
    from playwright.sync_api import sync_playwright

    server, url = behind_nginx
    (tmp_path / "photo.txt").write_text("hello")
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}/files/")
        page.set_input_files("input[type=file]", str(tmp_path / "photo.txt"))
        page.click("button")
        page.wait_for_load_state()
        assert server.published() == {"photo.txt": 5}, page.content()
        page.goto(f"{url}/files/")
        page.click("text=photo.txt")
        page.wait_for_load_state()
        assert page.url == f"{url}/files/photo.txt"
        assert "hello" in page.content()
        browser.close()
