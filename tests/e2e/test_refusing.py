"""What is refused, before a byte of it is read, so that the client can read why."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from e2e.shells import having
from raw_http import Fields, RawClient, chunked, content, head
from waiting import wait_for

Start = Callable[..., ServerProcess]

MiB = 1 << 20
EXPECT = "Expect: 100-continue"
CHUNKED = "Transfer-Encoding: chunked"


def ask(
    server: ServerProcess, method: str, target: str, *fields: str, length: int | None = 10
) -> tuple[int, Fields, str]:
    """A head that waits for 100 is sent, and no body. The first answer must be the final one."""
    if CHUNKED in fields:
        length = None
    with RawClient(server) as client:
        client.send(head(method, target, *fields, EXPECT, length=length))
        status, headers = client.head()
        assert status >= 200, f"{method} {target} {fields} was answered with {status}"
        body = client.read(int(headers["content-length"]))
        return status, headers, json.loads(body)["code"]


def nothing_stays(server: ServerProcess) -> None:
    assert server.published() == {}
    assert server.leftovers() == []


# --- before a byte is read ---------------------------------------------------------------------

REFUSED = [
    # options, method, target, fields, length, status, code
    (("--max-size", "1MiB"), "PUT", "/files/f", (), MiB + 1, 413, "FB_TOO_LARGE"),
    (("--max-size", "1MiB"), "POST", "/files/", (), 1 << 62, 413, "FB_TOO_LARGE"),
    (("--require-length",), "PUT", "/files/f", (CHUNKED,), None, 411, "FB_LENGTH_REQUIRED"),
    (("--require-length",), "POST", "/files/", (CHUNKED,), None, 411, "FB_LENGTH_REQUIRED"),
    (("--min-free", "1000000GiB"), "PUT", "/files/f", (), 10, 507, "FB_DISK_FULL"),
    (("--min-free", "1000000GiB"), "PUT", "/files/f", (CHUNKED,), None, 507, "FB_DISK_FULL"),
    ((), "PUT", "/files/f", (), 1 << 43, 507, "FB_DISK_FULL"),
    ((), "PUT", "/files/f", ("Content-Encoding: gzip",), 10, 415, "FB_UNSUPPORTED_CODING"),
    ((), "PUT", "/files/f", ("Content-Range: bytes 0-8/20",), 10, 400, "FB_INVALID_FIELD"),
    ((), "PUT", "/files/f", ("Content-Range: items 0-9/20",), 10, 400, "FB_INVALID_FIELD"),
    ((), "PUT", "/files/f", ("Content-Range: bytes 10-19/20",), 10, 409, "FB_OFFSET_MISMATCH"),
    ((), "PATCH", "/files/f", (), 10, 400, "FB_INVALID_FIELD"),
    ((), "POST", "/files/", ("Content-Range: bytes 0-9/20",), 10, 400, "FB_INVALID_FIELD"),
    ((), "PUT", "/files/f", ("Content-Digest: sha-256=:AAAA:",), 10, 400, "FB_INVALID_FIELD"),
    ((), "PUT", "/files/f", ("If-Match: junk",), 10, 400, "FB_INVALID_FIELD"),
    ((), "PUT", "/files/f", ("If-Match: *",), 10, 412, "FB_PRECONDITION_FAILED"),
    ((), "PUT", "/files/", (), 10, 405, "FB_METHOD_NOT_ALLOWED"),
    ((), "POST", "/files/f", (), 10, 405, "FB_METHOD_NOT_ALLOWED"),
    ((), "DELETE", "/files/f", (), 10, 405, "FB_METHOD_NOT_ALLOWED"),
    ((), "PUT", "/elsewhere", (), 10, 404, "FB_NOT_FOUND"),
    ((), "POST", "/healthz", (), 10, 405, "FB_METHOD_NOT_ALLOWED"),
    ((), "POST", "/files/", ("X-Filename: .bashrc",), 10, 400, "FB_INVALID_NAME"),
    (("--accept-types", "image/*"), "PUT", "/files/f", (), 10, 415, "FB_UNSUPPORTED_MEDIA_TYPE"),
    (
        ("--accept-types", "image/*"),
        "PUT",
        "/files/f",
        ("Content-Type: text/html",),
        10,
        415,
        "FB_UNSUPPORTED_MEDIA_TYPE",
    ),
]


@having("100 only when accepted")
def test_what_will_not_be_taken_is_refused_before_its_body(start_any: Start):
    for options, method, target, fields, length, status, code in REFUSED:
        server = start_any(*options)
        got, headers, found = ask(server, method, target, *fields, length=length)
        assert (got, found) == (status, code), (options, method, target, fields)
        if status == 405:
            assert headers["allow"]
        if status == 503:
            assert int(headers["retry-after"]) > 0
        nothing_stays(server)


def test_every_server_gives_the_same_status_to_what_it_refuses(start_any: Start):
    for options, method, target, fields, length, status, code in REFUSED:
        server = start_any(*options)
        with RawClient(server) as client:
            client.send(head(method, target, *fields, length=length))
            got, _, body = client.response()
            assert (got, json.loads(body)["code"]) == (status, code), (method, target, fields)
        nothing_stays(server)


@having("100 only when accepted")
def test_a_taken_name_is_refused_before_its_body(start_any: Start):
    server = start_any()
    tag = server.request("PUT", "/files/f", b"old")[1]["etag"]
    for method, target, fields, expected in (
        ("PUT", "/files/f", (), (409, "FB_NAME_TAKEN")),
        ("PUT", "/files/f", ("If-None-Match: *",), (412, "FB_PRECONDITION_FAILED")),
        ("PUT", "/files/f", ('If-Match: "other"',), (412, "FB_PRECONDITION_FAILED")),
        ("POST", "/files/?name=f", ("If-None-Match: *",), (412, "FB_PRECONDITION_FAILED")),
        ("POST", "/files/?name=f", (f"If-None-Match: {tag}",), (412, "FB_PRECONDITION_FAILED")),
        ("PUT", "/files/f/below", (), (409, "FB_NOT_A_FOLDER")),
    ):
        for length in (10, 10 * MiB):
            assert ask(server, method, target, *fields, length=length)[::2] == expected
    assert server.published() == {"f": 3}
    assert server.leftovers() == []


@having("100 only when accepted")
def test_100_is_said_once_to_what_is_accepted(start_any: Start):
    server = start_any("--accept-types", "text/*", "--max-size", "3")
    for name, fields, body in (
        ("plain", ("Content-Length: 3",), b"abc"),
        ("chunked", (CHUNKED,), chunked([b"abc"])),
    ):
        with RawClient(server) as client:
            client.send(head("PUT", f"/files/{name}", *fields, "Content-Type: text/x", EXPECT))
            assert client.head()[0] == 100
            client.send(body)
            assert client.head()[0] == 201
    assert server.published() == {"plain": 3, "chunked": 3}


def test_100_is_not_said_when_it_is_too_late_or_not_understood(reuse_server: Start):
    server = reuse_server()
    for name, message in (
        ("sent-already", head("PUT", "/files/sent-already", EXPECT, length=3) + b"abc"),
        ("no-body", head("PUT", "/files/no-body", EXPECT, length=0)),
        (
            "http-1.0",
            b"PUT /files/http-1.0 HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
        ),
    ):
        with RawClient(server) as client:
            client.send(message)
            status, _ = client.head()
            # HTTP/1.0 without Host: there is no telling which host is meant.
            assert status == (421 if name == "http-1.0" else 201), name


def test_one_upload_too_many_is_told_to_come_back(start_any: Start):
    server = start_any("--max-uploads", "1")
    with RawClient(server) as first:
        first.send(head("PUT", "/files/first", EXPECT, length=6))
        assert first.head()[0] == 100
        first.send(b"abc")
        status, headers, body = server.request("PUT", "/files/second", b"x" * 2000)
        # A server that says 100 by itself may let the second in before the first.
        assert (status, json.loads(body)["code"]) == (503, "FB_TOO_MANY_UPLOADS")
        assert int(headers["retry-after"]) > 0
        assert server.request("GET", "/files/")[0] == 200
        first.send(b"def")
        assert first.response()[0] == 201
    assert server.request("PUT", "/files/second", b"x")[0] == 201
    # Whoever is refused or breaks off gives the place back.
    with RawClient(server) as client:
        client.send(head("PUT", "/files/third", length=10) + b"abc")
        client.reset()
    wait_for(lambda: server.request("PUT", "/files/fourth", b"x")[0] == 201)
    assert server.published() == {"first": 6, "second": 1, "fourth": 1}


# --- hostile names -----------------------------------------------------------------------------

HOSTILE_PATHS = [
    "..",
    ".",
    "../x",
    "a/../x",
    "a/./x",
    "%2e%2e",
    "%2E%2E/x",
    "a/%2e%2e/%2e%2e/x",
    "%2e",
    "..%2fx",
    "a%2Fb",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "a//b",
    "a\\b",
    "..%5cx",
    "nul%00",
    "%00",
    "line%0Abreak",
    "carriage%0Dreturn",
    "bell%07",
    "del%7F",
    "c1%C2%85",
    "rtl%E2%80%AEgpj.exe",
    "%FF%FE",
    "%C0%AE%C0%AE/x",
    "%ED%A0%80",
    "bad%",
    "bad%2",
    "bad%zz",
    ".hidden",
    "a/.hidden",
    ".forebay",
    ".forebay/tmp/x",
    "%2eforebay/x",
    "%E2%80%8B.forebay/x",
    ".ssh/authorized_keys",
    "%20",
    "trailing%20",
    "%20leading",
    "n" * 256,
    "%C3%BC" * 128,
    "a/" * 64 + "x",
    "/".join(["n" * 250] * 17),
]


def test_hostile_names_are_refused_and_touch_nothing(start_any: Start, tmp_path: Path):
    server = start_any()
    around = sorted(server.folder.parent.iterdir())
    for path in HOSTILE_PATHS:
        for length in (3, 3 * MiB):
            with RawClient(server) as client:
                client.send(head("PUT", f"/files/{path}", length=length) + b"abc")
                status, _, body = client.response()
                assert status == 400, (path, status)
                assert json.loads(body)["code"] == "FB_INVALID_NAME", path
        for method in ("GET", "HEAD"):
            with RawClient(server) as client:
                client.send(head(method, f"/files/{path}"))
                assert client.head()[0] == 400, path
    nothing_stays(server)
    assert sorted(server.folder.parent.iterdir()) == around


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/files/?name=../x", ()),
        ("/files/?name=..", ()),
        ("/files/?name=%2Fetc%2Fpasswd", ()),
        ("/files/?name=a%00", ()),
        ("/files/?name=a%5Cb", ()),
        ("/files/?name=.forebay/tmp/x", ()),
        ("/files/?name=" + "n" * 256, ()),
        ("/files/", ("X-Filename: ..",)),
        ("/files/", ("X-Filename: a%00b",)),
        ("/files/", ("X-Filename: .hidden",)),
        ("/files/", ("X-Filename: %FF",)),
        ("/files/", ('Content-Disposition: attachment; filename=".."',)),
        ("/files/", ("Content-Disposition: attachment; filename*=UTF-8''%2e%2e",)),
        ("/files/", ("Content-Disposition: attachment; filename*=UTF-8''a%00b",)),
        ("/files/", ('Content-Disposition: attachment; filename=".htaccess"',)),
        ("/files/%2e%2e/", ("X-Filename: x",)),
        ("/files/.forebay/tmp/", ("X-Filename: x",)),
    ],
)
def test_hostile_names_in_fields_are_refused(
    reuse_server: Start, target: str, fields: tuple[str, ...]
):
    server = reuse_server()
    assert ask(server, "POST", target, *fields)[::2] == (400, "FB_INVALID_NAME")
    nothing_stays(server)


@pytest.mark.parametrize(
    "field",
    [
        'Content-Disposition: attachment; filename="../../etc/passwd"',
        "Content-Disposition: attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
        'Content-Disposition: attachment; filename="..\\\\..\\\\passwd"',
        "X-Filename: ../../etc/passwd",
    ],
)
def test_of_a_path_on_the_clients_disk_only_its_end_counts(reuse_server: Start, field: str):
    server = reuse_server()
    with RawClient(server) as client:
        client.send(head("POST", "/files/", field, length=1) + b"x")
        status, _, body = client.response()
    if status == 400:  # also right: a path in a field that is no path
        assert json.loads(body)["code"] == "FB_INVALID_NAME"
        assert server.published() == {}
    else:
        assert server.published() == {"passwd": 1}


def test_links_out_of_the_folder_are_not_followed(start_any: Start, tmp_path: Path):
    server = start_any()
    (tmp_path / "secret").write_bytes(b"secret")
    (server.folder / "out").symlink_to(tmp_path)
    (server.folder / "leaf").symlink_to(tmp_path / "secret")
    (server.folder / "new").symlink_to(tmp_path / "made")
    for target, expected in (("out/x", 409), ("leaf", 409), ("new", 409), ("out/a/b", 409)):
        assert server.request("PUT", f"/files/{target}", b"x")[0] == expected, target
        assert server.request("PUT", f"/files/{target}", content(2 * MiB // 32))[0] == expected
    for target in ("out/secret", "leaf", "new", "out/"):
        assert server.request("GET", f"/files/{target}")[0] in (404, 409), target
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"secret": b"secret"}
    assert (server.folder / "leaf").is_symlink()


# --- while it streams --------------------------------------------------------------------------


def test_a_chunked_body_over_the_limit_is_ended_and_leaves_nothing(start_any: Start):
    server = start_any("--max-size", "1MiB")
    exact = chunked([content(MiB // 2), content(MiB // 2)])
    with RawClient(server) as client:
        client.send(head("PUT", "/files/exact", CHUNKED) + exact)
        assert client.response()[0] == 201
    for pieces in ([content(MiB), b"!"], [content(MiB + 1)], [b"x" * 100] * 10_486):
        with RawClient(server) as client:
            body = chunked(pieces)
            client.send(head("PUT", "/files/over", CHUNKED) + body[:-5])
            status, _, answer = client.response()
            assert (status, json.loads(answer)["code"]) == (413, "FB_TOO_LARGE")
    assert server.published() == {"exact": MiB}
    assert server.leftovers() == []


def test_an_endless_chunked_body_ends_with_an_answer(reuse_server: Start):
    server = reuse_server("--max-size", "8MiB")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/over", CHUNKED) + b"%x\r\n" % (1 << 50))
        for _ in range(64):
            client.send(b"x" * MiB)
        status, headers, answer = client.response()
        assert (status, json.loads(answer)["limit"]) == (413, 8 * MiB)
        assert headers["connection"] == "close"
        assert client.is_closed()
    nothing_stays(server)


# --- the client gets to read the answer --------------------------------------------------------

BIG = 64 * MiB


@having("gentle close")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--max-size", "1MiB"), 413),
        (("--accept-types", "image/*"), 415),
        (("--min-free", "1000000GiB"), 507),
    ],
)
def test_a_client_that_sends_everything_first_reads_the_refusal(
    start_any: Start, options: tuple[str, ...], status: int
):
    server = start_any(*options)
    with RawClient(server, timeout=60) as client:
        client.send(head("PUT", "/files/big", length=BIG))
        for _ in range(BIG // MiB):
            client.send(b"x" * MiB)
        got, headers, body = client.response()
        assert (got, json.loads(body)["status"]) == (status, status)
        assert headers["connection"] == "close"
        assert client.is_closed()
    nothing_stays(server)


@having("gentle close")
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_curl_reads_the_refusal_of_a_large_file(start_any: Start, tmp_path: Path, length: str):
    server = start_any("--max-size", "1MiB")
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(BIG)
    for sending, target in (
        (["-T", str(source)], "/files/big"),
        (["--data-binary", f"@{source}"], "/files/?name=big"),
    ):
        chunks = ["-H", CHUNKED, "-H", "Content-Length:"] if length == "unknown" else []
        command = ["curl", "-sS", "-H", "Expect:", *chunks, *sending, "-w", "\n%{http_code}"]
        done = subprocess.run([*command, server.url + target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        assert (status, json.loads(body)["code"]) == ("413", "FB_TOO_LARGE")
    nothing_stays(server)


def test_curl_that_waits_for_100_sends_nothing_of_what_is_refused(
    reuse_server: Start, tmp_path: Path
):
    server = reuse_server("--max-size", "1MiB")
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(BIG)
    command = ["curl", "-sS", "-H", EXPECT, "--expect100-timeout", "60", "-T", str(source)]
    report = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}"]
    done = subprocess.run(
        [*command, *report, f"{server.url}/files/big"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "413 0"


def test_after_a_small_refused_body_the_connection_goes_on(reuse_server: Start):
    server = reuse_server("--max-size", "100")
    with RawClient(server) as client:
        for size in (101, 5000, 60_000):
            client.send(head("PUT", "/files/f", length=size) + b"x" * size)
            assert client.response()[0] == 413
        client.send(head("PUT", "/files/f", length=3) + b"abc")
        assert client.response()[0] == 201


def test_a_refused_client_that_never_stops_is_cut_off(reuse_server: Start):
    server = reuse_server("--max-size", "1MiB", "--linger-timeout", "1s")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", length=1 << 50))
        assert client.response()[0] == 413
        with pytest.raises(OSError):
            while True:
                client.send(b"x" * MiB)
    nothing_stays(server)


def test_without_a_linger_timeout_nothing_of_a_refused_body_is_read(reuse_server: Start):
    server = reuse_server("--max-size", "1MiB", "--linger-timeout", "0")
    with RawClient(server) as client:
        client.send(head("PUT", "/files/f", length=1 << 50))
        assert client.response()[0] == 413
        assert client.at_end()
        with pytest.raises(OSError):
            while True:
                client.send(b"x" * MiB)
    nothing_stays(server)


# --- pages of other origins (invariant 15) -----------------------------------------------------


def outcome(
    server: ServerProcess, method: str, host: str, *fields: str, target: str = "/files/f"
) -> tuple[int, Fields]:
    with RawClient(server) as client:
        length = 1 if method in ("PUT", "POST") else None
        client.send(head(method, target, *fields, host=host, length=length))
        if length:
            client.send(b"x")
        status, headers = client.head()
        return status, headers


def test_a_name_resolved_to_loopback_is_not_answered(start_any: Start):
    server = start_any()
    (server.folder / "f").write_bytes(b"x")
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example"):
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            target = "/files/f" if method != "POST" else "/files/"
            assert outcome(server, method, host, target=target)[0] == 421, (host, method)
        assert ask_host(server, host) == 421
    (server.folder / "f").unlink()
    nothing_stays(server)
    for number, host in enumerate(
        ("localhost", f"127.0.0.1:{server.port}", "LOCALHOST", "[::1]:80", "a.localhost")
    ):
        assert outcome(server, "PUT", host, target=f"/files/{number}")[0] == 201, host


def ask_host(server: ServerProcess, host: str) -> int:
    with RawClient(server) as client:
        client.send(head("GET", "/files/", host=host))
        return client.head()[0]


def test_pages_of_other_origins_store_nothing(start_any: Start):
    server = start_any()
    own = f"localhost:{server.port}"
    form = "Content-Type: multipart/form-data; boundary=b"
    for fields in (
        ("Origin: https://evil.example",),
        ("Origin: https://evil.example", form),
        ("Origin: https://evil.example", "Content-Type: text/plain"),
        ("Origin: null",),
        (f"Origin: http://localhost:{server.port + 1}",),
        (f"Origin: http://{own}.evil.example",),
        (f"Origin: http://{own}", "Origin: https://evil.example"),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
    ):
        for method, target in (("POST", "/files/?name=f"), ("PUT", "/files/f"), ("DELETE", "/f")):
            target = "/files/f" if method == "DELETE" else target
            got = outcome(server, method, own, *fields, target=target)
            assert got[0] == 403, (method, fields)
            assert "access-control-allow-origin" not in got[1]
    nothing_stays(server)
    for number, fields in enumerate(
        (
            (f"Origin: http://{own}", "Sec-Fetch-Site: same-origin"),
            ("Sec-Fetch-Site: none",),
            ("Sec-Fetch-Site: same-origin",),
            (),
        )
    ):
        assert outcome(server, "PUT", own, *fields, target=f"/files/{number}")[0] == 201, fields


@having("100 only when accepted")
def test_pages_of_other_origins_are_refused_before_their_body(start_any: Start):
    server = start_any()
    for fields in (("Origin: https://evil.example",), ("Sec-Fetch-Site: cross-site",)):
        assert ask(server, "POST", "/files/", *fields)[::2] == (403, "FB_ORIGIN_REFUSED")


PREFLIGHT = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-filename")


def test_a_preflight_is_answered_without_credentials_and_allows_whom_it_should(start_any: Start):
    page = "https://app.example"
    closed = start_any()
    status, headers = outcome(closed, "OPTIONS", "localhost", f"Origin: {page}", *PREFLIGHT)
    assert status == 204
    assert not [name for name in headers.names if name.startswith("access-control")]
    server = start_any("--allow-origin", page, "--allow-delete")
    status, headers = outcome(server, "OPTIONS", "localhost", f"Origin: {page}", *PREFLIGHT)
    assert (status, headers["access-control-allow-origin"]) == (204, page)
    assert {"PUT", "DELETE"} <= set(headers["access-control-allow-methods"].split(", "))
    assert headers["access-control-allow-headers"] == "x-filename"
    other = outcome(server, "OPTIONS", "localhost", "Origin: https://evil.example", *PREFLIGHT)
    assert "access-control-allow-origin" not in other[1]
    for expected in (201, 409):
        status, headers = outcome(server, "PUT", "localhost", f"Origin: {page}")
        assert (status, headers["access-control-allow-origin"]) == (expected, page)
        assert "Location" in headers["access-control-expose-headers"]
    assert outcome(server, "PUT", "localhost", "Origin: https://evil.example")[0] == 403
    assert outcome(server, "GET", "localhost", f"Origin: {page}")[1]["vary"] == "Origin"


def test_listed_hosts_are_answered_and_no_others(start_any: Start):
    server = start_any("--allow-host", "files.example", "--allow-host", "*.sub.example")
    for number, (host, expected) in enumerate(
        (
            ("files.example", 201),
            ("FILES.example:8080", 201),
            ("a.sub.example", 201),
            ("localhost", 201),
            ("sub.example", 421),
            ("other.example", 421),
            ("files.example.evil", 421),
        )
    ):
        assert outcome(server, "PUT", host, target=f"/files/{number}")[0] == expected, host


# --- other things that do not end well ---------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_body_that_breaks_off_leaves_nothing(start_any: Start, how: str):
    server = start_any()
    before = server.descriptors()
    for framing in ("Content-Length: 3000000", CHUNKED):
        for sent in (b"", b"x" * 1000, b"2dc6c0\r\n" + b"x" * 2 * MiB):
            client = RawClient(server)
            client.send(head("PUT", "/files/broken", framing) + sent)
            if how == "half-close":
                client.half_close()
                try:
                    status, _, _ = client.response()
                    assert status == 400
                except (EOFError, ConnectionError):
                    pass  # not every server answers
                client.close()
            elif how == "reset":
                client.reset()
            else:
                client.close()
    wait_for(lambda: server.descriptors() <= before)
    nothing_stays(server)
