"""What is given back: ranges, conditions, and the fields around them (RFC 9110)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.fetching import get, parts_of
from e2e.server import ServerProcess
from raw_http import RawClient, content, head

Start = Callable[..., ServerProcess]

KiB, MiB = 1 << 10, 1 << 20


# --- ranges ------------------------------------------------------------------------------------


def test_several_ranges_come_as_parts_of_one_answer(start_any: Start):
    server = start_any()
    data = content(3 * MiB)
    server.request("PUT", "/files/f.txt", data)
    wanted = ((0, 0), (500_000, 1_700_000), (9_000, 9_999), (3 * MiB - 1, 3 * MiB - 1))
    field = "bytes=" + ", ".join(f"{a}-{b}" for a, b in wanted)
    status, headers, body = get(server, "/files/f.txt", Range=field)
    assert (status, headers["accept-ranges"]) == (206, "bytes")
    assert headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert parts_of(headers, body) == [
        ("text/plain", f"bytes {a}-{b}/{len(data)}", data[a : b + 1]) for a, b in wanted
    ]
    other = get(server, "/files/f.txt", Range=field)[1]["content-type"]
    assert other != headers["content-type"]  # nobody can know the boundary beforehand
    # The connection is fit for the next request.
    with RawClient(server) as client:
        for _ in range(2):
            client.send(head("GET", "/files/f.txt", f"Range: {field}"))
            assert client.response()[2].count(b"Content-Range") == 4


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # RFC 9110, section 14.1.2, for a file of 10000 bytes
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        ("bytes=500-600,601-999", [(500, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        # answered whole: another unit, no ranges, and what contradicts itself
        ("pages=1-2", None),
        ("bytes=", None),
        ("bytes=1-0", None),
        ("bytes=0-1,x", None),
        # nothing of it is there
        ("bytes=10000-", 416),
        ("bytes=-0", 416),
        ("bytes=10000-10001,20000-", 416),
        ("bytes=99999999999999999999999999-", 416),
        # attacks: never more than the file, and a bounded number of parts
        ("bytes=" + ",".join(["0-"] * 60), [(0, 10000)]),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(60, 0, -1)), [(1, 61)]),
        ("bytes=" + ",".join(f"{n * 50}-{n * 50}" for n in range(60, 0, -1)), [(50, 3001)]),
        ("bytes=" + ",".join(f"{n}-9999" for n in range(60)), [(0, 10000)]),
        ("bytes=" + ",".join(["0-0"] * 65), None),
        ("bytes=" + "," * 9000 + "0-0", None),
    ],
)
def test_range_fields_are_answered(reuse_server: Start, field: str, expected: object):
    server = reuse_server()
    data = content(10_000)
    server.request("PUT", "/files/f.bin", data)
    status, headers, body = get(server, "/files/f.bin", Range=field)
    if expected == 416:
        assert (status, headers["content-range"]) == (416, "bytes */10000")
        assert "etag" not in headers
    elif expected is None:
        assert (status, body, "content-range" in headers) == (200, data, False)
    else:
        assert isinstance(expected, list)
        assert status == 206
        if len(expected) == 1:
            (start, stop) = expected[0]
            assert headers["content-range"] == f"bytes {start}-{stop - 1}/10000"
            assert body == data[start:stop]
        else:
            assert [part[2] for part in parts_of(headers, body)] == [data[a:b] for a, b in expected]


def test_a_great_many_parts_are_sent_in_flat_memory(reuse_server: Start):
    """64 descending ranges far apart are as much as anybody gets at once."""
    server = reuse_server()
    data = content(64 * MiB)
    server.request("PUT", "/files/f", data)
    before = server.rss("VmHWM")
    wanted = [(n * MiB, n * MiB + 900_000) for n in range(63, -1, -1)]
    field = "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in wanted)
    status, headers, body = get(server, "/files/f", Range=field)
    assert status == 206
    assert [part[2] for part in parts_of(headers, body)] == [data[a:b] for a, b in wanted]
    assert server.rss("VmHWM") - before < 16 * MiB


def test_an_empty_file_has_no_ranges(reuse_server: Start):
    server = reuse_server()
    server.request("PUT", "/files/f", b"")
    assert get(server, "/files/f")[::2] == (200, b"")
    assert get(server, "/files/f", Range="bytes=-5")[::2] == (200, b"")
    status, headers, _ = get(server, "/files/f", Range="bytes=0-")
    assert (status, headers["content-range"]) == (416, "bytes */0")


def test_a_range_twice_or_on_head_is_ignored(start_any: Start):
    server = start_any()
    server.request("PUT", "/files/f", b"0123456789")
    status, headers, body = server.request("HEAD", "/files/f", None, {"Range": "bytes=0-0"})
    assert (status, headers["content-length"], body) == (200, "10", b"")
    with RawClient(server) as client:
        client.send(head("GET", "/files/f", "Range: bytes=0-0", "Range: bytes=2-2"))
        assert client.response()[::2] == (200, b"0123456789")


_SPEC = st.one_of(
    st.builds(lambda a, n: f"{a}-{a + n}", st.integers(0, 52_000), st.integers(0, 9_000)),
    st.builds(lambda a: f"{a}-", st.integers(0, 52_000)),
    st.builds(lambda n: f"-{n}", st.integers(0, 52_000)),
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(specs=st.lists(_SPEC, min_size=1, max_size=12))
def test_any_ranges_are_slices_of_the_file(reuse_server: Start, specs: list[str]):
    server = reuse_server()
    size, data = 50_000, content(50_000)
    (server.folder / "f").write_bytes(data)
    wanted: set[int] = set()
    for first, last in (spec.split("-") for spec in specs):
        if first:
            wanted.update(range(int(first), min(size, int(last) + 1 if last else size)))
        else:
            wanted.update(range(max(0, size - int(last)), size))
    status, headers, body = get(server, "/files/f", Range="bytes=" + ",".join(specs))
    if not wanted:
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
        return
    assert status == 206
    if "content-range" in headers:
        found = [("", headers["content-range"], body)]
    else:
        found = parts_of(headers, body)
    covered: set[int] = set()
    for _, field, piece in found:
        start, last = map(int, re.fullmatch(rf"bytes (\d+)-(\d+)/{size}", field).groups())  # type: ignore[union-attr]
        assert piece == data[start : last + 1]
        covered.update(range(start, last + 1))
    assert wanted <= covered


# --- conditions --------------------------------------------------------------------------------

OLD = "Mon, 01 Jan 2001 00:00:00 GMT"


def test_conditions_are_judged_in_the_order_of_the_rfc(start_any: Start):
    """Section 13.2.2: If-Match or If-Unmodified-Since, then If-None-Match or
    If-Modified-Since, then If-Range."""
    server = start_any()
    data = content(1000)
    tag = server.request("PUT", "/files/f", data)[1]["etag"]
    os.utime(server.folder / "f", (1_700_000_000, 1_700_000_000))
    status, headers, _ = server.request("HEAD", "/files/f")
    tag, same = headers["etag"], headers["last-modified"]
    later = formatdate(1_700_000_001, usegmt=True)
    weak, part = f"W/{tag}", {"Range": "bytes=0-9"}
    for fields, expected in (
        ({"If-Match": tag, "If-Unmodified-Since": OLD}, 200),  # step 2 only without step 1
        ({"If-Match": '"x"', "If-None-Match": tag}, 412),  # step 1 before step 3
        ({"If-Match": weak}, 412),  # compared strongly
        ({"If-Match": "*"}, 200),
        ({"If-Unmodified-Since": OLD, "If-None-Match": tag}, 412),
        ({"If-Unmodified-Since": same}, 200),
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"If-Match": tag, "If-None-Match": tag}, 304),
        ({"If-None-Match": weak}, 304),  # compared weakly
        ({"If-None-Match": '"x"', "If-Modified-Since": later}, 200),  # step 4 only without 3
        ({"If-Modified-Since": later}, 304),
        ({"If-Modified-Since": OLD}, 200),
        ({"If-None-Match": tag, **part}, 304),  # step 3 before step 5
        ({"If-Match": '"x"', **part}, 412),
        ({"If-Range": tag, **part}, 206),
        ({"If-Range": weak, **part}, 200),
        ({"If-Range": same, **part}, 206),
        ({"If-Range": later, **part}, 200),
        ({"If-Range": OLD, **part}, 200),
        ({"If-Range": "junk", **part}, 200),
        ({"If-Range": tag, "Range": "bytes=5000-"}, 416),
        ({"If-Range": '"x"', "Range": "bytes=5000-"}, 200),
        ({"If-Range": tag}, 200),
    ):
        for method in ("GET", "HEAD"):
            status, headers, body = server.request(method, "/files/f", None, fields)
            ranged = expected in (206, 416) and method == "HEAD"  # a Range is for GET alone
            assert status == (200 if ranged else expected), (method, fields)
            if status == 304:
                assert (headers["etag"], headers["cache-control"], body) == (tag, "no-cache", b"")
    assert get(server, "/files/f", If_Match="nonsense")[0] == 400


def test_a_date_of_this_very_second_is_too_weak_for_a_range(reuse_server: Start):
    """Section 8.8.2.2: the file may change once more within the second."""
    server = reuse_server()
    server.request("PUT", "/files/f", b"0123456789")
    soon = time.time() + 5  # the clock cannot get past it before the answer
    os.utime(server.folder / "f", (soon, soon))
    modified = server.request("HEAD", "/files/f")[1]["last-modified"]
    assert get(server, "/files/f", Range="bytes=0-0", If_Range=modified)[0] == 200


def test_the_tag_changes_with_every_content_however_quickly(reuse_server: Start):
    """Same name, same length, a hundred times within a few ticks of the kernel's clock."""
    server = reuse_server("--on-conflict", "replace")
    seen = set()
    for n in range(100):
        body = b"%05d" % n
        tag = server.request("PUT", "/files/f", body)[1]["etag"]
        status, headers, found = get(server, "/files/f", If_Match=tag)
        assert (status, found, headers["etag"]) == (200, body, tag)
        seen.add(tag)
    assert len(seen) == 100


# --- the fields around the content -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "disposition"),
    [
        ("a.png", "image/png", 'inline; filename="a.png"'),
        ("a.txt", "text/plain; charset=utf-8", 'inline; filename="a.txt"'),
        ("a.pdf", "application/pdf", 'inline; filename="a.pdf"'),
        ("a.html", "text/html", 'attachment; filename="a.html"'),
        ("a.svg", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("a.zip", "application/zip", 'attachment; filename="a.zip"'),
        (
            'naïve "x" 100%.bin',
            "application/octet-stream",
            'attachment; filename="na_ve _x_ 100_.bin"; '
            "filename*=UTF-8''na%C3%AFve%20%22x%22%20100%25.bin",
        ),
        (
            "d/日本;=.txt",
            "text/plain; charset=utf-8",
            "inline; filename=\"__;=.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%3B%3D.txt",
        ),
    ],
)
def test_a_file_is_named_typed_and_never_guessed_at(
    reuse_server: Start, name: str, kind: str, disposition: str
):
    server = reuse_server()
    target = "/files/" + quote(name)
    assert server.request("PUT", target, b"<script>alert(1)</script>")[0] == 201
    for method in ("GET", "HEAD"):
        headers = server.request(method, target)[1]
        assert (headers["content-type"], headers["content-disposition"]) == (kind, disposition)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"


CUT = b"x" * ((64 << 10) - 1) + "é".encode()
"""A character that lies across the end of what is looked at."""
TEXTS: list[tuple[bytes, bool]] = [
    (b"", True),
    (b"plain ASCII", True),
    ("größe, 日本語, 🌊".encode(), True),
    (b"\xef\xbb\xbfwith a mark", True),
    (b"\x1b[31mred\x1b[0m", True),
    (CUT, True),
    (CUT + b" and more", True),
    (CUT[:-1], False),  # it is never completed
    ("größe".encode("latin-1"), False),
    ("日本語".encode("shift_jis"), False),
    ("日本語".encode("iso2022_jp"), False),
    ("größe".encode("utf-16"), False),
    ("ascii".encode("utf-16-le"), False),
    (b"\xff" + b"x" * 100_000, False),
    (b"x" * 100_000 + b"\xff", True),  # beyond what is looked at
]


@pytest.mark.parametrize("options", [(), ("--compress-at-rest", "zstd")], ids=str)
def test_text_in_utf_8_is_told_as_that_and_other_text_as_nothing(
    reuse_server: Start, options: tuple[str, ...]
):
    server = reuse_server(*options)
    for number, (data, is_utf8) in enumerate(TEXTS):
        for ending, kind in (("txt", "text/plain"), ("md", "text/markdown"), ("csv", "text/csv")):
            path = f"/files/{number}.{ending}"
            assert server.request("PUT", path, data)[0] == 201
            expected = f"{kind}; charset=utf-8" if is_utf8 else kind
            asked: list[tuple[str, dict[str, str]]] = [
                ("GET", {}),
                ("HEAD", {}),
                ("GET", {"Accept-Encoding": "zstd"}),
                ("GET", {"Range": "bytes=-1"} if data else {}),
            ]
            for method, fields in asked:
                status, headers, _ = server.request(method, path, None, fields)
                assert (status in (200, 206), headers["content-type"]) == (True, expected), data[:9]
    for name, kind in (("a.html", "text/html"), ("a.json", "application/json")):
        server.request("PUT", f"/files/{name}", b"x")
        assert server.request("GET", f"/files/{name}")[1]["content-type"] == kind


def test_what_is_shown_is_a_setting_that_no_pattern_opens_to_scripts(reuse_server: Start):
    server = reuse_server("--inline-types", "text/*,application/zip")
    for name, shown in (("a.csv", True), ("a.zip", True), ("a.png", False), ("a.html", False)):
        server.request("PUT", f"/files/{name}", b"x")
        kind = server.request("HEAD", f"/files/{name}")[1]["content-disposition"]
        assert kind.startswith("inline" if shown else "attachment"), name


# --- a file that changes meanwhile ---------------------------------------------------------------


def test_a_file_deleted_or_replaced_meanwhile_is_sent_whole_as_it_was(reuse_server: Start):
    server = reuse_server("--on-conflict", "replace", "--allow-delete")
    old = content(24 * MiB)
    field = "Range: bytes=0-9999999, 11000000-23999999"
    for change in (("PUT", b"new"), ("DELETE", None)):
        server.request("PUT", "/files/f.bin", old)
        with RawClient(server) as client, RawClient(server) as several:
            client.send(head("GET", "/files/f.bin"))
            several.send(head("GET", "/files/f.bin", field))
            assert client.head()[0] == 200
            status, headers = several.head()
            assert status == 206
            assert server.request(change[0], "/files/f.bin", change[1])[0] in (200, 204)
            assert client.read(len(old)) == old
            body = several.read(int(headers["content-length"]))
            assert [part[2] for part in parts_of(headers, body)] == [
                old[:10_000_000],
                old[11_000_000:24_000_000],
            ]


def test_a_file_cut_short_meanwhile_never_looks_whole(start_any: Start):
    """By another program: Forebay itself never changes a published file."""
    server = start_any()
    server.request("PUT", "/files/f", content(24 * MiB))
    with RawClient(server) as client:
        client.send(head("GET", "/files/f"))
        _, headers = client.head()
        os.truncate(server.folder / "f", MiB)
        got = len(client.buffer)
        try:
            while piece := client.socket.recv(MiB):
                got += len(piece)
        except ConnectionError:
            pass
        assert got < int(headers["content-length"])
    assert get(server, "/healthz")[0] == 200
