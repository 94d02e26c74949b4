"""Forms on the real server, sent by curl and by clients that do what no browser does."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from e2e.server import ServerProcess
from e2e.shells import having
from raw_http import Answer, RawClient, chunked, content, head, split
from waiting import wait_for

Start = Callable[..., ServerProcess]
MiB = 1 << 20
B = "a-boundary"
FORM = f"Content-Type: multipart/form-data; boundary={B}"


def text(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def file(filename: str, data: bytes, kind: str = "text/plain") -> bytes:
    disposition = f'Content-Disposition: form-data; name="file"; filename="{filename}"'
    return f"{disposition}\r\nContent-Type: {kind}\r\n\r\n".encode() + data


def form(*parts: bytes, boundary: str = B) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(b"%s\r\n%s\r\n" % (line, part) for part in parts) + line + b"--\r\n"


def curl(server: ServerProcess, *arguments: str, target: str = "/files/") -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *arguments, server.url + target],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def post(
    server: ServerProcess,
    body: bytes | Iterable[bytes],
    *fields: str,
    target: str = "/files/",
    content_type: str = FORM,
) -> Answer:
    with RawClient(server) as client:
        if isinstance(body, bytes):
            client.send(head("POST", target, content_type, *fields, length=len(body)) + body)
        else:
            client.send(head("POST", target, content_type, "Transfer-Encoding: chunked", *fields))
            client.send(chunked(body))
        return client.response()


def refused(server: ServerProcess, body: bytes, *fields: str, **more: str) -> tuple[int, str]:
    status, _, answer = post(server, body, *fields, **more)
    assert server.published() == {}
    assert server.leftovers() == []
    return status, json.loads(answer)["code"]


# --- real curl -------------------------------------------------------------------------------


def test_curl_sends_one_file_and_is_answered_as_for_a_raw_upload(start_any: Start, tmp_path: Path):
    server = start_any()
    source = tmp_path / "a file – ü.bin"
    source.write_bytes(content(3 * MiB))
    status, body = curl(server, "-F", f"file=@{source}", "-F", "comment=hello")
    answer = json.loads(body)
    assert status == 201
    assert answer["files"] == [{k: v for k, v in answer.items() if k != "files"}]
    raw = json.loads(server.request("PUT", "/files/raw", b"x")[2])
    assert set(answer) == {*raw, "field", "files"}
    assert (answer["name"], answer["size"], answer["field"]) == (source.name, 3 * MiB, "file")
    assert (server.folder / source.name).read_bytes() == content(3 * MiB)
    fetched = server.request("GET", answer["url"])
    assert (fetched[0], fetched[1]["etag"]) == (200, answer["etag"])
    assert fetched[2] == content(3 * MiB)


def test_curl_sends_many_files_and_equal_names_are_renamed(start_any: Start, tmp_path: Path):
    server = start_any()
    arguments = []
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(content(100 + 40_000 * number, number))
        arguments += ["-F", f"files=@{tmp_path}/{number};filename=f-{number // 2}.bin"]
    status, body = curl(server, *arguments, target="/files/in/box/")
    entries = json.loads(body)["files"]
    assert status == 201
    names = [f"in/box/f-{n // 2}{' (1)' if n % 2 else ''}.bin" for n in range(20)]
    assert [entry["name"] for entry in entries] == names
    assert [entry["renamed"] for entry in entries] == [False, True] * 10
    for number, name in enumerate(names):
        assert (server.folder / name).read_bytes() == content(100 + 40_000 * number, number)


@having("100 only when accepted")
def test_curl_waits_for_100_and_is_refused_without_sending(start_any: Start, tmp_path: Path):
    server = start_any("--max-size", "1MiB", "--form-max-size", "2MiB")
    large = tmp_path / "large"
    large.write_bytes(b"x" * (3 * MiB))
    expect = ("-H", "Expect: 100-continue")
    status, body = curl(server, *expect, "-F", f"f=@{large}")
    assert (status, json.loads(body)["code"]) == (413, "FB_TOO_LARGE")
    assert "--form-max-size" in body
    large.write_bytes(b"x" * (MiB + 1))
    status, body = curl(server, *expect, "-F", f"f=@{large}")
    assert (status, json.loads(body)["limit"]) == (413, MiB)
    assert "--max-size" in body
    assert (server.published(), server.leftovers()) == ({}, [])
    large.write_bytes(b"x" * MiB)
    assert curl(server, *expect, "-F", f"f=@{large}")[0] == 201


def test_curl_sends_a_form_in_chunks(start_any: Start, tmp_path: Path):
    server = start_any()
    (tmp_path / "f").write_bytes(content(5 * MiB))
    chunks = ("-H", "Transfer-Encoding: chunked")
    assert curl(server, *chunks, "-F", f"f=@{tmp_path}/f")[0] == 201
    assert (server.folder / "f").read_bytes() == content(5 * MiB)


def test_curl_that_puts_a_form_is_told_where_forms_go(start_any: Start, tmp_path: Path):
    server = start_any()
    (tmp_path / "f").write_bytes(content(1000))
    for arguments in (("-X", "PUT"), ("-X", "PUT", "-H", "Content-Range: bytes 0-1/9")):
        status, body = curl(server, *arguments, "-F", f"f=@{tmp_path}/f", target="/files/a")
        assert 400 <= status < 500
    status, body = curl(server, "-X", "PUT", "-F", f"f=@{tmp_path}/f", target="/files/a")
    assert (status, json.loads(body)["code"]) == (415, "FB_UNSUPPORTED_MEDIA_TYPE")
    assert "curl -F file=@NAME" in json.loads(body)["detail"]
    assert (server.published(), server.leftovers()) == ({}, [])


NO_TYPES = (
    f"multipart/form-data, boundary={B}",  # the example of RFC 1867
    f"multipart/form-data boundary={B}",
    f"MULTIPART/FORM-DATA\t, boundary={B}",
    f'"multipart/form-data"; boundary={B}',
    f"multipart /form-data; boundary={B}",
    "multipart/form-data;" + ";" * 40_000,
    "multipart/form-data",
    f"multipart/mixed; boundary={B}",
    "multipart/related",
    f"text/plain\r\nContent-Type: multipart/form-data; boundary={B}",
    f"text/plain, multipart/form-data; boundary={B}",
    "image",
)


def test_what_begins_like_a_form_or_cannot_be_read_is_never_a_raw_file(start_any: Start):
    server = start_any()
    body = form(file("a", b"x"))
    ietf = ("Upload-Draft-Interop-Version: 6", "Upload-Complete: ?1")
    for kind in NO_TYPES:
        for method, target, *fields in (
            ("POST", "/files/"),
            ("PUT", "/files/raw"),
            ("PUT", "/files/raw", f"Content-Range: bytes 0-{len(body) - 1}/{len(body)}"),
            ("PUT", "/files/raw", *ietf),
            ("POST", "/files/", *ietf),
            ("POST", "/uploads/", *ietf),
        ):
            sent = head(method, target, f"Content-Type: {kind}", *fields, length=len(body))
            with RawClient(server) as client:
                client.send(sent + body)
                status = client.response()[0]
            assert 400 <= status < 500, (kind, method, target, fields)
    assert (server.published(), server.leftovers()) == ({}, [])


# --- what is in a form -----------------------------------------------------------------------


def test_names_are_judged_and_paths_of_the_client_are_cut_off(start_any: Start):
    server = start_any()
    for sent, stored in {
        r"C:\Users\me\report.pdf": "report.pdf",
        "folder/sub/a.txt": "a.txt",
        "../../etc/passwd": "passwd",
        "na%22me.txt": 'na"me.txt',
        "日本.txt": "日本.txt",
    }.items():
        status, fields, answer = post(server, form(file(sent, b"x")))
        assert (status, json.loads(answer)["name"]) == (201, stored)
        assert server.request("GET", fields["location"])[0] == 200
        (server.folder / stored).unlink()
    for bad in ("..", "a/..", "\u0085", "a\u202etxt.exe", "x" * 256):
        assert refused(server, form(file("good", b"1"), file(bad, b"x"))) == (
            400,
            "FB_INVALID_NAME",
        )


def test_a_hidden_file_among_others_is_left_out_and_the_answer_says_so(start_any: Start):
    server = start_any()
    body = form(file("a", b"1"), file("dir/.DS_Store", b"x" * MiB), file("b", b"2"))
    status, _, answer = post(server, body)
    entries = json.loads(answer)["files"]
    assert (status, [entry.get("name") for entry in entries]) == (207, ["a", None, "b"])
    assert (entries[1]["filename"], entries[1]["field"]) == ("dir/.DS_Store", "file")
    assert entries[1]["error"]["code"] == "FB_INVALID_NAME"
    assert "hidden" in entries[1]["error"]["detail"]
    assert server.published() == {"a": 1, "b": 1}
    assert server.leftovers() == []
    status, _, answer = post(server, form(file("._a", b"1"), file(".env", b"2")))
    told = json.loads(answer)
    assert (status, told["code"], told["filename"], told["field"]) == (
        *(400, "FB_INVALID_NAME", "._a", "file"),
    )
    assert "'._a' in the field 'file'" in told["detail"]
    assert server.published() == {"a": 1, "b": 1}


def test_three_files_of_one_name_are_three_files_whatever_the_policy(start_any: Start):
    """iOS calls every picture image.jpg."""
    replace = ("--on-conflict", "replace")
    for arguments in ((), replace, (*replace, "--form-policy", "each")):
        server = start_any(*arguments)
        (server.folder / "image (1).jpg").write_bytes(b"of another form")
        sent = [file("image.jpg", b"%d" % number * number) for number in (1, 2, 3)]
        status, _, answer = post(server, form(*sent, file("image (2).jpg", b"4444")))
        entries = json.loads(answer)["files"]
        assert (status, len({entry["name"] for entry in entries})) == (201, 4)
        for number, entry in enumerate(entries, 1):
            assert entry["size"] == number
            got = server.request("GET", entry["url"])
            assert (got[1]["etag"], got[2]) == (entry["etag"], b"%d" % number * number)


def test_an_input_without_a_file_is_ignored_and_a_form_without_any_is_refused(start_any: Start):
    server = start_any()
    nothing = file("", b"", "application/octet-stream")
    for body in (form(), form(text("a", "b")), form(nothing)):
        assert refused(server, body) == (400, "FB_INVALID_REQUEST")
    assert post(server, form(nothing, file("a", b"")))[0] == 201
    status, _, answer = post(server, form(file("", b"unnamed")))
    assert (status, json.loads(answer)["name"]) == (201, "file.txt")
    assert sorted(server.published().values()) == [0, 7]


def test_digests_preconditions_and_types_hold_for_forms_too(start_any: Start):
    server = start_any("--accept-types", "image/*")
    body = form(file("a.png", b"x", "image/png"))
    for field in ("Content-Digest", "Repr-Digest"):
        wrong = base64.b64encode(hashlib.sha256(b"").digest()).decode()
        assert refused(server, body, f"{field}: sha-256=:{wrong}:") == (400, "FB_DIGEST_MISMATCH")
    typed = form(file("a.png", b"x", "image/png"), file("b.txt", b"x", "text/plain"))
    assert refused(server, typed) == (415, "FB_UNSUPPORTED_MEDIA_TYPE")
    right = base64.b64encode(hashlib.sha256(body).digest()).decode()
    sent = (f"Content-Digest: sha-256=:{right}:", "Want-Repr-Digest: sha-256=5")
    status, fields, answer = post(server, body, *sent, "If-None-Match: *")
    digest = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert (status, json.loads(answer)["digest"]) == (201, {"sha-256": digest})
    assert "repr-digest" not in fields  # it would be of the JSON (RFC 9530, section 3.2)
    status, _, answer = post(server, body, "If-None-Match: *")
    assert (status, json.loads(answer)["code"]) == (412, "FB_PRECONDITION_FAILED")


def test_the_conflict_policy_holds_for_forms(start_any: Start):
    server = start_any("--on-conflict", "refuse")
    (server.folder / "b").write_bytes(b"old")
    status, _, answer = post(server, form(file("a", b"1"), file("b", b"2")))
    assert (status, json.loads(answer)["code"]) == (409, "FB_NAME_TAKEN")
    assert server.published() == {"b": 3}
    server = start_any("--on-conflict", "replace")
    for status in (201, 200):
        assert post(server, form(file("a", b"1")))[0] == status
    assert server.published() == {"a": 1}


def test_with_each_the_answer_tells_of_every_file(start_any: Start):
    server = start_any("--form-policy", "each", "--max-size", "5")
    body = form(file("a", b"12345"), file("b", b"123456"), file(".c", b""), file("d", b""))
    status, _, answer = post(server, body)
    entries = json.loads(answer)["files"]
    assert status == 207
    assert [entry.get("name") for entry in entries] == ["a", None, None, "d"]
    assert [entry.get("error", {}).get("status") for entry in entries] == [None, 413, 400, None]
    assert server.published() == {"a": 5, "d": 0}
    status, _, answer = post(server, form(file("b", b"123456"), file(".c", b"")))
    assert (status, json.loads(answer)["code"]) == (413, "FB_TOO_LARGE")


def test_an_answer_repeats_a_bounded_part_of_what_a_client_wrote(start_any: Start):
    """Bug: small parts with long names made an answer of megabytes, which nobody had to read."""
    server = start_any("--form-policy", "each")
    long = "x" * 3000
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n\r\n'
        % (name, file)
        for name, file in ((long.encode(), b"told-once"), (b"f", long.encode()))
    ]
    body = b"".join(parts) + b"--b--\r\n"
    status, _, answer = post(
        server, body, content_type="Content-Type: multipart/form-data; boundary=b"
    )
    stored, failed = json.loads(answer)["files"]
    assert (status, stored["name"], failed["error"]["status"]) == (207, "told-once", 400)
    assert stored["field"] == failed["filename"] == "x" * 255 + "…"
    assert len(answer) < 3000


# --- heads that are no form ------------------------------------------------------------------


def test_heads_that_cannot_be_a_form_are_refused(start_any: Start):
    server = start_any()
    body = form(file("a", b"x"))
    kind = "Content-Type: multipart/"
    for content_type, expected in {
        kind + "form-data": (400, "FB_INVALID_FIELD"),
        kind + "form-data; boundary=" + "x" * 71: (400, "FB_INVALID_FIELD"),
        kind + f"form-data; boundary={B}; boundary={B}": (400, "FB_INVALID_FIELD"),
        kind + f"form-data; boundary={B}\r\n{FORM}": (400, "FB_INVALID_FIELD"),
        kind + f"mixed; boundary={B}": (415, "FB_UNSUPPORTED_MEDIA_TYPE"),
        kind + "form-data; boundary=other": (400, "FB_INCOMPLETE_BODY"),
    }.items():
        assert refused(server, body, content_type=content_type) == expected, content_type
    for field, expected in {
        "Tus-Resumable: 1.0.0": (400, "FB_INVALID_REQUEST"),
        "Upload-Length: 5": (400, "FB_INVALID_REQUEST"),
        "Upload-Complete: ?0": (415, "FB_UNSUPPORTED_MEDIA_TYPE"),
        "Content-Range: bytes 0-4/5": (400, "FB_INVALID_FIELD"),
        "Content-Encoding: gzip": (415, "FB_UNSUPPORTED_CODING"),
    }.items():
        assert refused(server, body, field) == expected, field
    assert refused(server, body, target="/files/a") == (405, "FB_METHOD_NOT_ALLOWED")
    assert refused(server, body, target="/files/../") == (400, "FB_INVALID_NAME")


def test_a_nested_form_is_refused(start_any: Start):
    nested = b'Content-Disposition: form-data; name="f"\r\nContent-Type: multipart/mixed; '
    nested += b"boundary=inner\r\n\r\n--inner\r\n\r\nx\r\n--inner--\r\n"
    assert refused(start_any(), form(nested)) == (400, "FB_MALFORMED_BODY")


def test_a_page_of_another_origin_cannot_store_by_a_form(start_any: Start):
    server = start_any()
    for field in ("Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"):
        assert refused(server, form(file("a", b"x")), field) == (403, "FB_ORIGIN_REFUSED"), field
    assert post(server, form(file("a", b"x")), f"Origin: http://localhost:{server.port}")[0] == 403
    own = (f"Origin: http://localhost:{server.port}", "Sec-Fetch-Site: same-origin")
    with RawClient(server) as client:
        body = form(file("a", b"x"))
        host = f"localhost:{server.port}"
        client.send(head("POST", "/files/", FORM, *own, length=len(body), host=host) + body)
        assert client.response()[0] == 201


# --- pages for browsers ----------------------------------------------------------------------


def test_a_browser_without_script_is_answered_with_pages(start_any: Start):
    server = start_any("--max-size", "100")
    accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    evil = "<script>alert(1)</script> & 'x'"
    status, fields, page = post(server, form(file(evil.replace("/", "%2F"), b"x")), accept)
    assert (status, fields["content-type"]) == (201, "text/html; charset=utf-8")
    assert b"<script>" not in page
    assert b"&lt;script&gt;" in page
    status, fields, page = post(server, form(file("b", b"x" * 101)), accept)
    assert (status, fields["content-type"]) == (413, "text/html; charset=utf-8")
    assert b"larger than 100 bytes" in page
    assert b"FB_TOO_LARGE" in page
    status, _, page = post(server, form(file("b", b"x")), accept, target="/files/sub/")
    assert b'<a href="/files/sub/b">sub/b</a>' in page
    assert b'<a href="/files/sub/">Back' in page


# --- hostile, slow and broken bodies ---------------------------------------------------------


def test_hostile_bodies_are_refused_or_taken_whole(start_any: Start):
    server = start_any()
    lines = b"--" + B.encode()
    for body in (
        b"",
        b"\r\n" * 1000,
        form(file("a", b"x"))[:-4],
        form(file("a", b"x")).replace(b"\r\n", b"\n"),
        form(b"x" * 20_000),
        form(b"a: b\r\n" * 100 + file("a", b"x")),
        lines + b" " * 1000 + b"\r\n",
        lines + b"--x\r\n",
        form(b"Content-Disposition: form-data\r\n\r\nx"),
        form(b'Content-Disposition: attachment; name="a"; filename="a"\r\n\r\nx'),
        form(
            file("a", b"x").replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
        ),
        form(*[text("t", "")] * 1001),
        form(*[file(f"{n}", b"") for n in range(201)]),
        form(text("t", "x" * (MiB + 1))),
    ):
        assert refused(server, body)[0] in (400, 413), body[:60]
    floods = (b"\r" * 3 * MiB, b"\r\n--" * MiB, (b"\r\n--" + B.encode()[:-1]) * 200_000)
    for number, flood in enumerate(floods):
        assert post(server, form(file(f"{number}", flood)))[0] == 201
        assert (server.folder / f"{number}").read_bytes() == flood
    boundary = "-" * 70
    typed = f"Content-Type: multipart/form-data; boundary={boundary}"
    dashes = b"x" + b"-" * 1000 + b"\r\n" + b"-" * 71 + b"\r\n" + b"-" * 70
    body = form(file("dashes", dashes), boundary=boundary)
    assert post(server, body, content_type=typed)[0] == 201
    assert (server.folder / "dashes").read_bytes() == dashes


def test_ten_thousand_fields_and_a_file(start_any: Start):
    server = start_any("--form-max-parts", "20000", "--form-max-fields", "20000")
    fields = [text(f"field-{number}", "x" * 50) for number in range(10_000)]
    assert post(server, form(*fields, file("a", b"x" * 1000)))[0] == 201
    assert server.published() == {"a": 1000}


def test_a_chunked_form_cut_anywhere_arrives_whole(start_any: Start):
    server = start_any()
    random.seed(7)
    first, second = content(300_000), b"\r\n--" + B.encode()[:-1] + b"\r" * 10
    body = form(text("t", "x"), file("a", first), file("b", second))
    for number in range(8):
        limit = 3000 if number % 2 else 60_000
        sizes = [random.randint(1, limit) for _ in range(len(body) // limit * 2 + 10)]
        assert post(server, split(body, sizes), target=f"/files/{number}/")[0] == 201
        assert (server.folder / f"{number}/a").read_bytes() == first
        assert (server.folder / f"{number}/b").read_bytes() == second


def test_a_slow_client_is_waited_for_byte_by_byte(reuse_server: Start):
    server = reuse_server()
    body = form(file("slow", b"\r\n--" + B.encode()[:3]))
    with RawClient(server) as client:
        client.send(head("POST", "/files/", FORM, length=len(body)))
        for position in range(len(body)):
            client.send(body[position : position + 1])
            time.sleep(0.001)
        assert client.response()[0] == 201
    assert (server.folder / "slow").read_bytes() == b"\r\n--" + B.encode()[:3]


def test_forms_that_break_off_leave_neither_files_nor_descriptors(start_any: Start):
    server = start_any()
    body = form(text("t", "x"), *[file(f"{n}", content(200_000, n)) for n in range(10)])
    assert post(server, body, target="/files/warm/")[0] == 201
    before = server.descriptors()
    random.seed(3)
    for number in range(40):
        client = RawClient(server)
        length = len(body) if number % 2 else None
        more = () if number % 2 else ("Transfer-Encoding: chunked",)
        client.send(head("POST", "/files/", FORM, *more, length=length))
        part = body[: random.randrange(len(body))]
        client.send(part if number % 2 else b"%x\r\n%s\r\n" % (len(part), part))
        client.reset() if number % 3 else client.close()
    wait_for(lambda: server.descriptors() <= before)
    assert set(server.published()) == {f"warm/{n}" for n in range(10)}
    assert server.leftovers() == []


@having("gentle close")
def test_a_refusal_in_the_middle_is_read_by_a_client_that_still_sends(start_any: Start):
    server = start_any("--max-size", "100000")
    body = form(file("a", b"x"), file("b", b"x" * 20 * MiB))
    with RawClient(server) as client:
        client.send(head("POST", "/files/", FORM, length=len(body)))
        client.send(body)
        status, _, answer = client.response()
    assert (status, json.loads(answer)["code"]) == (413, "FB_TOO_LARGE")
    assert (server.published(), server.leftovers()) == ({}, [])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_by_curl_in_flat_memory(start_server: Start, store_folder: Path):
    server = start_server("--durability", "relaxed")
    assert post(server, form(file("small", b"x")))[0] == 201
    assert server.request("GET", "/files/small")[0] == 200
    idle = server.rss()
    source = store_folder.with_name(store_folder.name + "-source")
    try:
        with source.open("wb") as made:
            for number in range(16):
                made.write(content(64 * MiB, number))
            made.write(b"an odd end")
        assert curl(server, "-F", f"file=@{source};filename=big")[0] == 201
        assert server.rss("VmHWM") - idle <= 8 * MiB
        with source.open("rb") as sent, (server.folder / "big").open("rb") as stored:
            assert (
                hashlib.file_digest(sent, "sha256").digest()
                == hashlib.file_digest(stored, "sha256").digest()
            )
    finally:
        source.unlink(missing_ok=True)
