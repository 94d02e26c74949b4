"""Raw uploads that are taken, and what is given back: under which name, whole, and told how."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, chunked, content, head, split

Start = Callable[..., ServerProcess]

KiB, MiB = 1 << 10, 1 << 20


def b64(algorithm: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


def stored(server: ServerProcess, name: str) -> bytes:
    return (server.folder / name).read_bytes()


def chunks_of(data: bytes, size: int):
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.fixture
def server(reuse_server: Start) -> ServerProcess:
    return reuse_server()


# --- whole bodies ------------------------------------------------------------------------------


def test_put_and_post_with_a_length_or_chunked_keep_every_byte(start_any: Start):
    server = start_any()
    sizes = [0, 1, 2, 1023, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, MiB - 1, MiB, MiB + 1, 3 * MiB]
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    for size in sizes:
        data = content(size)
        for method, target in (("PUT", "/files/put-{}"), ("POST", "/files/?name=post-{}")):
            for kind in ("length", "chunked"):
                name = f"{size}-{kind}"
                body = chunks_of(data, 77_777) if kind == "chunked" else data
                connection.request(
                    method, target.format(name), body, encode_chunked=kind == "chunked"
                )
                response = connection.getresponse()
                answer = json.loads(response.read())
                stem = method.lower()
                assert (response.status, answer["name"]) == (201, f"{stem}-{name}")
                assert answer["size"] == size
                assert stored(server, f"{stem}-{name}") == data
    connection.close()
    assert server.leftovers() == []


def test_sixteen_mebibytes_and_a_byte_either_side_keep_every_byte(start_any: Start):
    server = start_any()
    for size in (16 * MiB - 1, 16 * MiB, 16 * MiB + 1, 33 * MiB):
        data = content(size)
        assert server.request("PUT", f"/files/{size}", data)[0] == 201
        assert stored(server, str(size)) == data


@pytest.mark.parametrize(
    "sizes",
    [(1,) * 40, (3, 1, 64 * KiB, 1, 5), (MiB, 1, MiB - 1), (65_535, 2, 65_537), (200_003,) * 9],
    ids=str,
)
def test_a_body_split_anywhere_keeps_every_byte(server: ServerProcess, sizes: tuple[int, ...]):
    data = content(2 * MiB + 17)
    coded = chunked(split(data, (1, 15, 16, 255, 4096, 65_535, MiB)))
    with RawClient(server) as client:
        client.socket.setsockopt(6, 1, 1)  # TCP_NODELAY: each piece is a segment of its own
        for name, fields, body in (
            ("plain", (f"Content-Length: {len(data)}",), data),
            ("chunked", ("Transfer-Encoding: chunked",), coded),
        ):
            message = head("PUT", f"/files/{name}", *fields) + body
            for piece in split(message, sizes):
                client.send(piece)
            status, _, _ = client.response()
            assert status == 201
            assert stored(server, name) == data


def test_a_chunked_body_split_within_its_framing_keeps_every_byte(server: ServerProcess):
    data = content(300)
    message = head("PUT", "/files/NAME", "Transfer-Encoding: chunked") + (
        b"1;ext=x\r\n" + data[:1] + b'\r\n00012b ; a="b"\r\n' + data[1:] + b"\r\n"
        b"0\r\nX-Trailer: seen\r\n\r\n"
    )
    start = message.index(b"\r\n\r\n") - 2
    with RawClient(server) as client:
        client.socket.setsockopt(6, 1, 1)
        for cut in [*range(start, start + 40), *range(len(message) - 30, len(message))]:
            name = f"n{cut:03d}".encode()
            named = message.replace(b"NAME", name)
            client.send(named[:cut])
            client.send(named[cut:])
            assert client.response()[0] == 201
            assert stored(server, name.decode()) == data


def test_trailers_never_change_what_the_head_said(server: ServerProcess):
    with RawClient(server) as client:
        client.send(
            head("PUT", "/files/kept", "Transfer-Encoding: chunked")
            + b"2\r\nhi\r\n0\r\nContent-Disposition: attachment; filename=other\r\n"
            + b'Content-Length: 99\r\nIf-Match: "x"\r\nX-Filename: other\r\n\r\n'
        )
        assert client.response()[0] == 201
    assert server.published() == {"kept": 2}


def test_curl_sends_a_file_and_a_stream_of_unknown_length(start_any: Start, tmp_path: Path):
    server = start_any()
    source = tmp_path / "big.iso"
    source.write_bytes(content(5 * MiB))
    command = ["curl", "-sS", "--fail", "-T"]
    subprocess.run([*command, str(source), f"{server.url}/files/"], check=True, capture_output=True)
    with source.open("rb") as stdin:
        subprocess.run(
            [*command, "-", f"{server.url}/files/piped"],
            check=True,
            capture_output=True,
            stdin=stdin,
        )
    subprocess.run(
        [
            *command[:3],
            "--data-binary",
            f"@{source}",
            "-H",
            "X-Filename: p",
            f"{server.url}/files/",
        ],
        check=True,
        capture_output=True,
    )
    for name in ("big.iso", "piped", "p"):
        assert stored(server, name) == source.read_bytes()


def test_a_request_without_a_body_stores_an_empty_file(start_any: Start):
    server = start_any()
    with RawClient(server) as client:
        client.send(head("PUT", "/files/empty"))
        assert client.response()[0] == 201
    assert server.published() == {"empty": 0}


# --- the answer --------------------------------------------------------------------------------


def test_the_answer_tells_where_the_file_is_and_what_it_became(start_any: Start):
    server = start_any()
    fields = {"Content-Type": "text/plain; charset=utf-8", "Want-Repr-Digest": "sha-256=10"}
    status, headers, body = server.request("PUT", "/files/a/b/c%20d.txt", b"hello", fields)
    answer = json.loads(body)
    assert status == 201
    assert headers["location"] == answer["url"] == "/files/a/b/c%20d.txt"
    assert answer.pop("duration") >= 0
    assert answer.pop("etag") == headers["etag"]
    assert answer == {
        "name": "a/b/c d.txt",
        "size": 5,
        "type": "text/plain; charset=utf-8",
        "url": "/files/a/b/c%20d.txt",
        "renamed": False,
        "digest": {"sha-256": b64("sha256", b"hello")},
    }
    assert "repr-digest" not in headers  # it would be of this JSON (RFC 9530, section 3.2)
    assert server.request("GET", headers["location"])[2] == b"hello"
    plain = json.loads(server.request("PUT", "/files/plain", b"x")[2])
    assert "digest" not in plain
    assert plain["type"] is None


@pytest.mark.parametrize("name", ["a.txt", "späße 💾.bin", "a+b&c=d;e,f'g.txt", "100% (1).tar.gz"])
def test_a_name_in_the_url_is_kept_as_it_is(server: ServerProcess, name: str):
    status, headers, body = server.request("PUT", "/files/" + quote(name, safe=""), b"x")
    assert (status, json.loads(body)["name"]) == (201, name)
    assert server.published() == {name: 1}
    assert server.request("GET", headers["location"])[0] == 200


DISPOSITION = "Content-Disposition"


@pytest.mark.parametrize(
    ("fields", "query", "name"),
    [
        ({DISPOSITION: 'attachment; filename="plain.txt"'}, "", "plain.txt"),
        ({DISPOSITION: "attachment; filename=token.txt"}, "", "token.txt"),
        (
            {DISPOSITION: "attachment; filename=\"x.txt\"; filename*=UTF-8''na%C3%AFve.txt"},
            "",
            "naïve.txt",
        ),
        (
            {DISPOSITION: "attachment; filename*=UTF-8''first.txt; filename=\"x.txt\""},
            "",
            "first.txt",
        ),
        ({DISPOSITION: 'attachment; filename="C:\\\\dir\\\\leaf.txt"'}, "", "leaf.txt"),
        ({DISPOSITION: "attachment", "X-Filename": "x.txt"}, "", "x.txt"),
        ({"X-Filename": "na%C3%AFve%20name.txt"}, "", "naïve name.txt"),
        ({"X-Filename": "x.txt"}, "?name=q.txt", "x.txt"),
        ({DISPOSITION: 'inline; filename="d.txt"', "X-Filename": "x"}, "?name=q", "d.txt"),
        ({}, "?name=na%C3%AFve+name.txt", "naïve name.txt"),
        ({}, "?name=deep/er/q.txt", "deep/er/q.txt"),
    ],
)
def test_a_post_takes_its_name_from_the_best_source(
    reuse_server: Start, fields: dict[str, str], query: str, name: str
):
    server = reuse_server()
    status, _, body = server.request("POST", f"/files/{query}", b"x", fields)
    assert (status, json.loads(body)["name"]) == (201, name)
    assert server.published() == {name: 1}


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ((f'{DISPOSITION}: attachment; filename="a"; filename="b"',), ""),
        ((f"{DISPOSITION}: attachment; filename=a", f"{DISPOSITION}: attachment; filename=b"), ""),
        ((f'{DISPOSITION}: filename="a.txt"',), ""),
        ((f'{DISPOSITION}: attachment, filename="a.txt"',), ""),
        ((f'{DISPOSITION}: attachment filename="a.txt"',), ""),
        (("X-Filename: a", "X-Filename: b"), ""),
        ((), "?name=a&name=b"),
        ((), "?name=%FF.txt"),
    ],
)
def test_a_name_that_cannot_be_told_is_refused_and_no_other_is_made(
    reuse_server: Start, fields: tuple[str, ...], query: str
):
    server = reuse_server()
    with RawClient(server) as client:
        client.send(head("POST", f"/files/{query}", *fields, length=1) + b"x")
        status, _, body = client.response()
    assert (status, json.loads(body)["code"]) == (400, "FB_INVALID_FIELD")
    assert server.published() == {}


def test_a_post_without_a_name_gets_one_of_its_own(start_any: Start):
    server = start_any()
    names = {json.loads(server.request("POST", "/files/", b"x")[2])["name"] for _ in range(20)}
    assert len(names) == 20
    assert set(server.published()) == names


def test_a_post_to_a_folder_stores_in_that_folder(start_any: Start):
    server = start_any()
    _, headers, _ = server.request("POST", "/files/in/there/", b"x", {"X-Filename": "f"})
    assert headers["location"] == "/files/in/there/f"
    assert server.published() == {"in/there/f": 1}


# --- names that are taken ----------------------------------------------------------------------

CONFLICTS = [
    ("auto", "PUT", 409, {"x.tar.gz": b"old"}),
    ("auto", "POST", 201, {"x.tar.gz": b"old", "x (1).tar.gz": b"new"}),
    ("rename", "PUT", 201, {"x.tar.gz": b"old", "x (1).tar.gz": b"new"}),
    ("rename", "POST", 201, {"x.tar.gz": b"old", "x (1).tar.gz": b"new"}),
    ("refuse", "PUT", 409, {"x.tar.gz": b"old"}),
    ("refuse", "POST", 409, {"x.tar.gz": b"old"}),
    ("replace", "PUT", 200, {"x.tar.gz": b"new"}),
    ("replace", "POST", 200, {"x.tar.gz": b"new"}),
]


@pytest.mark.parametrize("policy", ["auto", "rename", "refuse", "replace"])
def test_a_taken_name_is_dealt_with_as_asked(reuse_server: Start, policy: str):
    server = reuse_server("--on-conflict", policy)
    for chosen, method, status, files in CONFLICTS:
        if chosen != policy:
            continue
        for folder, big in ((f"{method}-small", b""), (f"{method}-big", content(2 * MiB))):
            target = f"/files/{folder}/" + ("x.tar.gz" if method == "PUT" else "?name=x.tar.gz")
            assert server.request("PUT", f"/files/{folder}/x.tar.gz", b"old")[0] == 201
            got, headers, body = server.request(method, target, big + b"new")
            assert got == status, (policy, method)
            found = {name: size for name, size in server.published().items() if folder in name}
            assert found == {
                f"{folder}/{name}": len(data) + (len(big) if data == b"new" else 0)
                for name, data in files.items()
            }
            for name, data in files.items():
                assert stored(server, f"{folder}/{name}").endswith(data)
            if status == 201:
                assert json.loads(body)["renamed"] is True
                assert headers["location"] == f"/files/{folder}/x%20(1).tar.gz"
    assert server.leftovers() == []


@pytest.mark.parametrize("policy", ["auto", "rename", "refuse", "replace"])
def test_preconditions_go_before_the_policy(reuse_server: Start, policy: str):
    server = reuse_server("--on-conflict", policy)

    def put(fields: dict[str, str], method: str = "PUT", name: str = "f", data: bytes = b"new"):
        target = f"/files/{name}" if method == "PUT" else f"/files/?name={name}"
        return server.request(method, target, data, fields)[0]

    absent, wrong = {"If-None-Match": "*"}, {"If-Match": '"other"'}
    old = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert put(absent, data=b"old") == 201
    tag = server.request("HEAD", "/files/f")[1]["etag"]
    for method in ("PUT", "POST"):
        assert put(absent, method) == 412
        assert put(absent, method, data=content(2 * MiB)) == 412
        assert put(wrong, method) == 412
        assert put({"If-None-Match": tag}, method) == 412
        assert put({"If-Match": "*"}, method, name="nothing") == 412
        assert put({"If-Match": f"W/{tag}"}, method) == 412
        assert put(old, method) == 412
        assert put(old, method, data=content(2 * MiB)) == 412
        assert stored(server, "f") == b"old"
    for number, method in enumerate(("PUT", "POST")):
        tag = server.request("HEAD", "/files/f")[1]["etag"]
        data = b"new%d" % number
        assert put({"If-Match": f'"other", {tag}'}, method, data=data) == 200
        assert stored(server, "f") == data
        assert put({"If-Match": tag}, method) == 412, "the tag was of the file before"
    assert put({"If-Match": "*"}, data=b"any") == 200
    assert set(server.published()) == {"f"}
    # Of what is not there no date can be too late (RFC 9110, section 13.1.4).
    assert put(old, name="small") == put(old, name="big", data=content(2 * MiB)) == 201
    assert server.leftovers() == []


# --- digests -----------------------------------------------------------------------------------


def test_announced_digests_are_verified_and_unknown_ones_left_alone(start_any: Start):
    server = start_any()
    for number, data in enumerate((b"", b"small", content(3 * MiB))):
        right256, right512 = b64("sha256", data), b64("sha512", data)
        good = [
            {"Content-Digest": f"sha-256=:{right256}:"},
            {"Repr-Digest": f"sha-512=:{right512}:"},
            {"Content-Digest": f"sha-256=:{right256}:, sha-512=:{right512}:"},
            {"Repr-Digest": "md5=:AAAA:, crc32c=:AAAAAA==:"},
            {"Want-Repr-Digest": "sha-512=3, sha-256=0"},
            {"Want-Repr-Digest": "unknown=10"},
        ]
        for at, fields in enumerate(good):
            name = f"good-{number}-{at}"
            status, _, body = server.request("PUT", f"/files/{name}", data, fields)
            assert status == 201, fields
            assert stored(server, name) == data
            if "sha-512=3" in fields.get("Want-Repr-Digest", ""):
                assert json.loads(body)["digest"] == {"sha-512": right512}
    assert server.leftovers() == []


def test_a_wrong_or_malformed_digest_leaves_nothing(start_any: Start):
    server = start_any()
    for data in (b"small", content(3 * MiB)):
        right, wrong = b64("sha256", data), b64("sha256", b"other")
        bad = [
            ({"Content-Digest": f"sha-256=:{wrong}:"}, "FB_DIGEST_MISMATCH"),
            ({"Repr-Digest": f"sha-256=:{wrong}:"}, "FB_DIGEST_MISMATCH"),
            (
                {"Content-Digest": f"sha-256=:{right}:", "Repr-Digest": f"sha-256=:{wrong}:"},
                "FB_DIGEST_MISMATCH",
            ),
            ({"Content-Digest": f"sha-256={right}"}, "FB_INVALID_FIELD"),
            ({"Content-Digest": "sha-256=:AAAA:"}, "FB_INVALID_FIELD"),
            ({"Content-Digest": "sha-256=:%%%:"}, "FB_INVALID_FIELD"),
            ({"Repr-Digest": ""}, None),
        ]
        for fields, code in bad:
            for method, target in (("PUT", "/files/bad"), ("POST", "/files/?name=bad")):
                # Refused before its body is read: see test_refusing for large ones.
                sent = data if code != "FB_INVALID_FIELD" else data[:1000]
                status, _, body = server.request(method, target, sent, fields)
                if code is None:  # an empty dictionary announces nothing
                    assert status == 201
                    continue
                assert (status, json.loads(body)["code"]) == (400, code), fields
                assert server.published() == {}
        for path in server.published():
            (server.folder / path).unlink()
    assert server.leftovers() == []


def test_a_digest_mismatch_never_replaces_what_is_there(reuse_server: Start):
    server = reuse_server("--on-conflict", "replace")
    assert server.request("PUT", "/files/f", b"old")[0] == 201
    wrong = {"Content-Digest": f"sha-256=:{b64('sha256', b'other')}:"}
    for data in (b"new", content(2 * MiB)):
        assert server.request("PUT", "/files/f", data, wrong)[0] == 400
        assert stored(server, "f") == b"old"


# --- the same connection -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 64 * KiB, 300_000, MiB, 5 * MiB])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_requests_in_one_send_are_all_answered_and_exact(
    server: ServerProcess, size: int, coding: str
):
    """What was read of the next request along with a drained body is not lost."""
    bodies = [content(size, seed) for seed in range(3)] + [b"small one", b""]
    parts = []
    for number, body in enumerate(bodies):
        if coding == "length":
            parts.append(head("PUT", f"/files/{number}", length=len(body)) + body)
        else:
            fields = ("Transfer-Encoding: chunked",)
            parts.append(
                head("PUT", f"/files/{number}", *fields) + chunked(chunks_of(body, 70_001))
            )
        parts.append(head("GET", f"/files/{number}"))
    with RawClient(server) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.send, b"".join(parts))
        for body in bodies:
            status, _, answer = client.response()
            assert status == 201
            assert json.loads(answer)["size"] == len(body)
            status, _, answer = client.response()
            assert (status, answer == body) == (200, True)
        sent.result()
        client.send(head("GET", "/healthz", "Connection: close"))
        status, headers, _ = client.response()
        assert (status, headers["connection"]) == (200, "close")
        assert client.at_end()
    assert [stored(server, str(n)) == body for n, body in enumerate(bodies)] == [True] * 5


def test_a_long_pipeline_is_answered_in_its_order(server: ServerProcess):
    count = 500
    many = b"".join(
        head("PUT", f"/files/{n}", length=len(str(n))) + str(n).encode() for n in range(count)
    )
    with RawClient(server) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.send, many)
        names = [json.loads(client.response()[2])["name"] for _ in range(count)]
        sent.result()
    assert names == [str(n) for n in range(count)]
    assert all(stored(server, name) == name.encode() for name in names)


def test_one_connection_takes_uploads_and_reads_in_turn(start_any: Start):
    server = start_any()
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.connect()
    port = connection.sock.getsockname()[1]
    for number in range(30):
        data = content((number * 37_001) % 300_000, number)
        connection.request("PUT", f"/files/{number}", data)
        response = connection.getresponse()
        response.read()
        assert response.status == 201
        connection.request("GET", f"/files/{number}")
        assert connection.getresponse().read() == data
    assert connection.sock.getsockname()[1] == port
    connection.close()


def test_the_rest_of_a_small_refused_body_is_no_request(server: ServerProcess):
    server.request("PUT", "/files/taken", b"x")
    inner = head("PUT", "/files/smuggled", length=1) + b"!"
    with RawClient(server) as client:
        client.send(head("PUT", "/files/taken", length=len(inner)))
        client.send(inner + head("GET", "/healthz"))
        assert client.response()[0] == 409
        status, _, body = client.response()
        assert (status, body) == (200, b"ok\n")
    assert server.published() == {"taken": 1}


def test_http_1_0_is_answered_and_closed(server: ServerProcess):
    with RawClient(server) as client:
        client.send(b"PUT /files/old HTTP/1.0\r\nContent-Length: 3\r\nHost: localhost\r\n\r\nold")
        assert client.response()[0] == 201
        assert client.at_end()
    assert stored(server, "old") == b"old"


# --- races -------------------------------------------------------------------------------------

RACERS = 50


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_racers_for_one_name_never_lose_a_file(start_any: Start, method: str, size: int):
    server = start_any()
    bodies = [content(size, seed) for seed in range(RACERS)]
    target = "/files/n.bin" if method == "PUT" else "/files/?name=n.bin"

    def send(number: int) -> tuple[int, dict[str, object]]:
        status, _, body = server.request(method, target, bodies[number])
        return status, json.loads(body)

    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(send, range(RACERS)))
    won = {str(a["name"]): bodies[n] for n, (status, a) in enumerate(answers) if status == 201}
    lost = [status for status, _ in answers if status != 201]
    assert lost == ([409] * (RACERS - 1) if method == "PUT" else [])
    assert len(won) == RACERS - len(lost)
    assert {name: stored(server, name) for name in server.published()} == won
    assert server.leftovers() == []


def test_racers_that_replace_leave_one_whole_file_at_every_instant(reuse_server: Start):
    server = reuse_server("--on-conflict", "replace")
    bodies = [content(400_000, seed) for seed in range(20)]
    assert server.request("PUT", "/files/f", bodies[0])[0] == 201
    with ThreadPoolExecutor(20) as pool:
        sent = [pool.submit(server.request, "PUT", "/files/f", body) for body in bodies * 3]
        while not all(one.done() for one in sent):
            assert server.request("GET", "/files/f")[2] in bodies
        assert [one.result()[0] for one in sent] == [200] * len(sent)
    assert server.published() == {"f": 400_000}
    assert server.leftovers() == []


def test_racers_with_one_tag_let_one_win(reuse_server: Start):
    server = reuse_server()
    tag = server.request("PUT", "/files/f", b"old")[1]["etag"]
    with ThreadPoolExecutor(RACERS) as pool:
        sent = [
            pool.submit(server.request, "PUT", "/files/f", b"%d" % n, {"If-Match": tag})
            for n in range(RACERS)
        ]
        statuses = [one.result()[0] for one in sent]
    assert sorted(statuses) == [200] + [412] * (RACERS - 1)
    assert stored(server, "f") == b"%d" % statuses.index(200)


# --- given back --------------------------------------------------------------------------------


def test_a_file_is_read_whole_in_ranges_and_by_condition(start_any: Start):
    server = start_any()
    data = content(700_001)
    tag = server.request("PUT", "/files/f.txt", data)[1]["etag"]
    status, headers, body = server.request("GET", "/files/f.txt")
    assert (status, body == data, headers["etag"]) == (200, True, tag)
    assert headers["content-type"] == "text/plain"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    modified = headers["last-modified"]
    assert int(parsedate_to_datetime(modified).timestamp()) == int(
        (server.folder / "f.txt").stat().st_mtime
    )
    status, headers, body = server.request("HEAD", "/files/f.txt")
    assert (status, headers["content-length"], body) == (200, "700001", b"")
    for wanted, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, 700_001),
        ("bytes=-7", 699_994, 700_001),
        ("bytes=300000-600000", 300_000, 600_001),
        ("bytes=700000-9999999", 700_000, 700_001),
    ):
        status, headers, body = server.request("GET", "/files/f.txt", None, {"Range": wanted})
        assert (status, body == data[start:stop]) == (206, True), wanted
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/700001"
    status, headers, _ = server.request("GET", "/files/f.txt", None, {"Range": "bytes=700001-"})
    assert (status, headers["content-range"]) == (416, "bytes */700001")
    for fields, expected in (
        ({"Range": "lines=1-2"}, 200),
        ({"Range": "bytes=9-1"}, 200),
        ({"Range": "bytes=0-1", "If-Range": tag}, 206),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": f'"a", W/{tag}'}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 412),
    ):
        status, headers, body = server.request("GET", "/files/f.txt", None, fields)
        assert status == expected, fields
        if status == 304:
            assert (headers["etag"], body) == (tag, b"")
    assert server.request("GET", "/files/none")[0] == 404
    assert server.request("HEAD", "/files/none")[2] == b""


def test_a_file_is_sent_as_it_was_when_it_is_replaced_meanwhile(reuse_server: Start):
    server = reuse_server("--on-conflict", "replace")
    old = content(24 * MiB)
    server.request("PUT", "/files/f", old)
    with RawClient(server) as client:
        client.send(head("GET", "/files/f"))
        assert client.head()[0] == 200
        assert server.request("PUT", "/files/f", b"new")[0] == 200
        assert client.read(len(old)) == old
    assert server.request("GET", "/files/f")[2] == b"new"


def test_the_listing_tells_files_and_folders_page_by_page(start_any: Start):
    server = start_any()
    names = [f"{n:02d}.txt" for n in range(25)]
    for name in names:
        server.request("PUT", f"/files/sub%20dir/{name}", name.encode())
    (server.folder / "sub dir" / ".hidden").write_bytes(b"x")
    status, _, body = server.request("GET", "/files/")
    listing = json.loads(body)
    assert (status, [e["name"] for e in listing["entries"]]) == (200, ["sub dir"])
    assert listing["entries"][0]["folder"] is True
    after, seen, pages = "", [], 0
    while after is not None:
        target = f"/files/sub%20dir/?limit=10&after={quote(after)}"
        page = json.loads(server.request("GET", target)[2])
        seen += page["entries"]
        after, pages = page["next"], pages + 1
    assert (pages, [e["name"] for e in seen]) == (3, names)
    assert seen[3]["size"] == 6
    assert server.request("GET", seen[3]["url"])[2] == b"03.txt"
    head_only = server.request("HEAD", "/files/")
    assert (head_only[0], head_only[2]) == (200, b"")
    for target, expected in (("/files/none/", 404), ("/files/?limit=0", 400)):
        assert server.request("GET", target)[0] == expected


def test_deleting_needs_its_flag(start_any: Start, tmp_path: Path):
    server = start_any()
    server.request("PUT", "/files/f", b"x")
    status, headers, body = server.request("DELETE", "/files/f")
    assert status == 405
    assert "--allow-delete" in json.loads(body)["detail"]
    assert "DELETE" not in headers["allow"]
    assert server.published() == {"f": 1}


def test_a_finished_file_is_deleted_where_that_is_allowed(start_any: Start):
    server = start_any("--allow-delete")
    tag = server.request("PUT", "/files/d/f", b"x")[1]["etag"]
    assert "DELETE" in server.request("OPTIONS", "/files/d/f")[1]["allow"]
    assert server.request("DELETE", "/files/d/f", None, {"If-Match": '"other"'})[0] == 412
    assert server.request("DELETE", "/files/d/")[0] == 405
    assert server.request("DELETE", "/files/d")[0] == 404
    assert server.published() == {"d/f": 1}
    status, _, body = server.request("DELETE", "/files/d/f", None, {"If-Match": tag})
    assert (status, body) == (204, b"")
    assert server.request("DELETE", "/files/d/f")[0] == 404
    assert server.published() == {}


def test_health_is_told_and_methods_are_listed(start_any: Start):
    server = start_any()
    assert server.request("GET", "/healthz")[::2] == (200, b"ok\n")
    assert server.request("GET", "/readyz")[::2] == (200, b"ready\n")
    for target, allowed in (
        ("/files/", "GET, HEAD, POST, OPTIONS"),
        ("/files/f", "GET, HEAD, PUT, PATCH, OPTIONS"),
    ):
        status, headers, body = server.request("OPTIONS", target)
        assert (status, headers["allow"], body) == (204, allowed, b"")
    status, _, body = server.request("GET", "/elsewhere")
    assert (status, json.loads(body)["code"]) == (404, "FB_NOT_FOUND")


def test_readiness_is_lost_when_the_disk_is_too_full(start_any: Start):
    server = start_any("--min-free", "1000000GiB")
    status, _, body = server.request("GET", "/readyz")
    assert status == 503
    assert b"FB_DISK_FULL" in body
    assert server.request("GET", "/healthz")[0] == 200
