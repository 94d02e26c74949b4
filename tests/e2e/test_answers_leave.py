"""Each answer, whoever makes it, has CORS once for a page that may read it (invariant 18)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from forebay.protocol.origin import EXPOSED
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]
PAGE = "https://app.example"
OTHER = "https://other.example"
TUS = "Tus-Resumable: 1.0.0"
LONG = "X-Long: " + "x" * 70_000
UPLOAD = "/uploads/" + "A" * 24
PREFLIGHT = ("Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: x-a")


def fields_of(server: ServerProcess, data: bytes) -> tuple[int, list[tuple[str, str]]]:
    """Status and fields of the answer to what is sent, as they came."""
    with RawClient(server) as client:
        client.send(data)
        status, fields = client.head()
        while status < 200:
            status, fields = client.head()
        return status, fields.pairs


def cors_of(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(field for field in fields if field[0].startswith("access-control-"))


def vary_of(fields: list[tuple[str, str]]) -> list[str]:
    [value] = [value for name, value in fields if name == "vary"]
    return value.split(", ")


READABLE = [
    ("access-control-allow-credentials", "true"),
    ("access-control-allow-origin", PAGE),
    ("access-control-expose-headers", EXPOSED),
]

REQUESTS = [
    ("GET", "/", (), 200),
    ("GET", "/healthz", (), 200),
    ("GET", "/readyz", (), 200),
    ("POST", "/healthz", (), 405),
    ("GET", "/nothing", (), 404),
    ("OPTIONS", "*", (), 204),
    ("OPTIONS", "/files/", (), 204),
    ("OPTIONS", "/uploads/", (), 200),
    ("OPTIONS", "/uploads/%2e%2e/x.y", (), 200),
    ("GET", "/files/", ("Accept: */*",), 200),
    ("GET", "/files/", ("Accept: text/html",), 200),
    ("GET", "/files/there.bin", (), 200),
    ("HEAD", "/files/there.bin", (), 200),
    ("GET", "/files/there.bin", ("Range: bytes=0-1",), 206),
    ("GET", "/files/there.bin", ("Range: bytes=0-1,900-901",), 206),
    ("GET", "/files/there.bin", ("If-None-Match: *",), 304),
    ("GET", "/files/there.bin", ("Range: bytes=5000-",), 416),
    ("GET", "/files/there.bin", ('If-Match: "x"',), 412),
    ("GET", "/files/folder", (), 307),
    ("GET", "/files/none", (), 404),
    ("GET", "/files/%00", (), 400),
    ("GET", "/files/?limit=x", (), 400),
    ("PUT", "/files/there.bin", (), 409),
    ("PUT", "/files/x", ("Content-Encoding: x",), 415),
    ("DELETE", "/files/there.bin", (), 405),
    ("POST", "/files/", ("Content-Type: multipart/form-data",), 400),
    ("POST", "/uploads/", (), 400),
    ("POST", "/uploads/", (TUS, "Upload-Length: 9"), 201),
    ("POST", "/uploads/", (TUS, "Upload-Length: 9999999"), 413),
    ("POST", "/uploads/", ("Tus-Resumable: 0.1",), 412),
    ("HEAD", UPLOAD, (TUS,), 404),
    ("HEAD", UPLOAD, (), 404),
    ("PATCH", "/uploads/x", (TUS,), 404),
    ("DELETE", "/uploads/" + "i" * 300, (TUS,), 404),
    ("GET", "/uploads/a/b%2F..", (), 404),
    ("PUT", "/files/i", ("Upload-Complete: ?x", "Upload-Draft-Interop-Version: 8"), None),
    ("PUT", "/files/i", ("Upload-Complete: ?1", "Upload-Draft-Interop-Version: 99"), None),
    ("PUT", "/files/x", ("Content-Range: bytes 5-9/10",), None),
]


@pytest.mark.parametrize(("method", "target", "more", "status"), REQUESTS)
def test_a_page_that_may_can_read_each_answer_and_others_none(
    reuse_server: Start, method: str, target: str, more: tuple[str, ...], status: int | None
) -> None:
    server = reuse_server("--allow-origin", PAGE, "--max-size", "1MB")
    (server.folder / "folder").mkdir()
    (server.folder / "there.bin").write_bytes(b"x" * 1000)
    for origin, expected in ((PAGE, READABLE), (OTHER, []), ("null", [])):
        lines = (f"Origin: {origin}", *more)
        got, fields = fields_of(server, head(method, target, *lines, length=0))
        assert cors_of(fields) == expected, (origin, got, fields)
        assert "Origin" in vary_of(fields)
        if origin == PAGE and status is not None:
            assert got == status, fields
    _, fields = fields_of(server, head(method, target, *more, length=0))
    assert cors_of(fields) == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NOT-A-REQUEST\r\nHost: localhost\r\nOrigin: %s\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nOrigin: %s\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nbad line\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nOrigin: %s\r\n\r\n", 400),
        (
            b"PUT /files/a HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nContent-Length: x\r\n\r\n",
            400,
        ),
        (
            b"PUT /files/a HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n"
            b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (
            b"PUT /files/a HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n" + LONG.encode() + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + LONG.encode() + b"\r\nOrigin: %s\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + LONG.encode() * 4 + b"\r\nOrigin: %s\r\nX: y", 431),
    ],
)
def test_a_page_can_read_what_is_answered_before_there_is_a_request(
    reuse_server: Start, data: bytes, status: int
) -> None:
    server = reuse_server("--allow-origin", PAGE, "--max-size", "1MB")
    for origin, expected in ((PAGE, READABLE), (OTHER, [])):
        got, fields = fields_of(server, data.replace(b"%s", origin.encode()))
        assert cors_of(fields) == expected, fields
        if origin == PAGE:
            assert got == status


def test_a_head_that_is_late_is_answered_to_the_page_that_began_it(start_server: Start) -> None:
    options = ("--allow-origin", PAGE, "--head-timeout", "0.5s")
    server = start_server("--durability", "relaxed", *options)
    begun = f"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nX:".encode()
    got, fields = fields_of(server, begun)
    assert (got, cors_of(fields)) == (408, READABLE)
    too_long = b"GET / HTTP/1.1\r\n" + LONG.encode()  # and its Origin never comes
    got, fields = fields_of(server, too_long)
    assert (got, cors_of(fields)) == (431, [])


def test_a_head_without_end_is_read_for_its_origin_up_to_a_bound(reuse_server: Start) -> None:
    server = reuse_server("--allow-origin", PAGE, "--max-size", "1MB")
    endless = b"GET / HTTP/1.1\r\nX-Long: " + b"x" * (2 << 20)
    got, fields = fields_of(server, endless)
    assert (got, cors_of(fields)) == (431, [])


def test_a_head_that_is_too_long_is_refused_at_once_where_no_page_may(server: ServerProcess):
    got, fields = fields_of(server, b"GET / HTTP/1.1\r\n" + LONG.encode())
    assert (got, cors_of(fields)) == (431, [])


def test_a_page_that_may_can_read_that_the_host_is_wrong(reuse_server: Start) -> None:
    """Its preflight passes: whoever rebinds a name is of the same origin and sends none."""
    server = reuse_server("--allow-origin", PAGE, "--max-size", "1MB")
    asked = (f"Origin: {PAGE}", *PREFLIGHT)
    for target in ("/files/x", "/uploads/x"):
        got, fields = fields_of(server, head("OPTIONS", target, *asked, host="evil.example"))
        assert got in (200, 204) and ("access-control-allow-origin", PAGE) in fields
        got, fields = fields_of(
            server, head("PATCH", target, f"Origin: {PAGE}", length=0, host="evil.example")
        )
        assert (got, cors_of(fields)) == (421, READABLE)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nothing",
        "/files/",
        "/files/name",
        "/files/.forebay/x",
        "/files/a%00b",
        "/files/a%2F..%2F",
        "/files/" + "n" * 2000,
        "/uploads",
        "/uploads/",
        UPLOAD,
        "/uploads/" + "i" * 2000,
        "/uploads/%zz%00",
        "/uploads/a/b/../..",
        "/uploads/id+with~what=others;have@",
    ],
)
@pytest.mark.parametrize("shell", ["forebay", "uvicorn"])
def test_a_preflight_passes_on_every_path(reuse_server: Start, shell: str, target: str) -> None:
    server = reuse_server("--allow-origin", PAGE, "--max-size", "1MB", shell=shell)
    lines = (f"Origin: {PAGE}", *PREFLIGHT, "Access-Control-Request-Private-Network: true")
    got, fields = fields_of(server, head("OPTIONS", target, *lines))
    assert got in (200, 204)
    [methods] = [value for name, value in fields if name == "access-control-allow-methods"]
    assert "PATCH" in methods.split(", ")
    assert [field for field in cors_of(fields) if field[0] != "access-control-allow-methods"] == [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "7200"),
    ]
    asked = ("Method", "Headers", "Private-Network")
    assert sorted(vary_of(fields)) == sorted(
        ["Origin", *(f"Access-Control-Request-{name}" for name in asked)]
    )
    lines = (f"Origin: {OTHER}", *PREFLIGHT)
    assert cors_of(fields_of(server, head("OPTIONS", target, *lines))[1]) == []


def test_any_origin_is_told_as_any_and_without_credentials(reuse_server: Start) -> None:
    server = reuse_server("--allow-origin", "*")
    expected = [READABLE[2], ("access-control-allow-origin", "*")]
    for lines in ((f"Origin: {PAGE}",), ("Origin: null",), ()):
        for target in ("/files/none", "/healthz"):
            assert cors_of(fields_of(server, head("GET", target, *lines))[1]) == sorted(expected)
