"""Forms byte for byte as clients that are not here write them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.server import ServerProcess
from raw_http import RawClient, head

Start = Callable[..., ServerProcess]

WIRES = {
    "HttpURLConnection on Android": (
        "multipart/form-data;boundary=*****",
        b"--*****\r\n"
        b'Content-Disposition: form-data; name="uploaded_file";filename="/sdcard/a b.mp4"\r\n'
        b"\r\n\r\n--****\r\n--*****--\r\n",
        {"a b.mp4": b"\r\n--****"},
    ),
    "OkHttp": (
        "multipart/form-data; boundary=8a2f4f0e-5e6b-4f4c-9d4c-0c3d6a1f7b11",
        b"--8a2f4f0e-5e6b-4f4c-9d4c-0c3d6a1f7b11\r\n"
        b'Content-Disposition: form-data; name="operations"\r\n'
        b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}\r\n"
        b"--8a2f4f0e-5e6b-4f4c-9d4c-0c3d6a1f7b11\r\n"
        b'Content-Disposition: form-data; name="0"; filename="a%22b.jpg"\r\n'
        b"Content-Type: image/jpeg\r\nContent-Length: 3\r\n\r\nabc\r\n"
        b"--8a2f4f0e-5e6b-4f4c-9d4c-0c3d6a1f7b11--\r\n",
        {'a"b.jpg': b"abc"},
    ),
    "http of Dart": (
        "multipart/form-data; boundary=dart-http-boundary-q'(T+_,.:=?x/1Zk_0",
        b"--dart-http-boundary-q'(T+_,.:=?x/1Zk_0\r\n"
        b'content-disposition: form-data; name="t"\r\ncontent-type: text/plain; charset=utf-8\r\n'
        b"content-transfer-encoding: binary\r\n\r\n\xc3\xa9\r\n"
        b"--dart-http-boundary-q'(T+_,.:=?x/1Zk_0\r\n"
        b"content-type: application/octet-stream\r\n"
        b'content-disposition: form-data; name="f"; filename="\xe6\x97\xa5.bin"\r\n\r\n1\r\n'
        b"--dart-http-boundary-q'(T+_,.:=?x/1Zk_0--\r\n",
        {"日.bin": b"1"},
    ),
    "dio, a file without a name": (
        "multipart/form-data; boundary=--dio-boundary-3788753558",
        b"----dio-boundary-3788753558\r\n"
        b'content-disposition: form-data; name="photo"\r\n'
        b"content-type: application/octet-stream\r\n\r\n\xff\xd8\r\n"
        b"----dio-boundary-3788753558--\r\n",
        {"photo.bin": b"\xff\xd8"},
    ),
    "Alamofire, three pictures": (
        "multipart/form-data; boundary=alamofire.boundary.9a6f1b1c2d3e4f50",
        b"".join(
            b"%s--alamofire.boundary.9a6f1b1c2d3e4f50\r\n"
            b'Content-Disposition: form-data; name="images[]"; filename="picture.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n%d" % (b"\r\n" if number else b"", number)
            for number in range(3)
        )
        + b"\r\n--alamofire.boundary.9a6f1b1c2d3e4f50--\r\n",
        {"picture.jpg": b"0", "picture (1).jpg": b"1", "picture (2).jpg": b"2"},
    ),
    "HttpClient of .NET": (
        'multipart/form-data; boundary="5d0b3b8e-9a1f-4a3b-8a3e-1f1c8f9e2b3d"',
        b"--5d0b3b8e-9a1f-4a3b-8a3e-1f1c8f9e2b3d\r\n"
        b"Content-Type: text/plain; charset=utf-16\r\n"
        b"Content-Disposition: form-data; name=t\r\n\r\n\xe9\x00\r\n"
        b"--5d0b3b8e-9a1f-4a3b-8a3e-1f1c8f9e2b3d\r\n"
        b'Content-Disposition: form-data; name=f; filename="=?utf-8?B?w6kudHh0?="; '
        b"filename*=utf-8''%C3%A9.txt\r\n\r\n1\r\n"
        b"--5d0b3b8e-9a1f-4a3b-8a3e-1f1c8f9e2b3d--\r\n",
        {"é.txt": b"1"},
    ),
    "HttpClient of Apache, in GBK": (
        "multipart/form-data; boundary=7uIDoxnPh0P4gP6wRQ_bKq; charset=GBK",
        b"--7uIDoxnPh0P4gP6wRQ_bKq\r\n"
        b'Content-Disposition: form-data; name="t"\r\nContent-Type: text/plain; charset=GBK\r\n'
        b"Content-Transfer-Encoding: 8bit\r\n\r\n\xd6\xd0\xce\xc4\r\n"
        b"--7uIDoxnPh0P4gP6wRQ_bKq\r\n"
        b'Content-Disposition: form-data; name="f"; filename="\xd6\xd0\xce\xc4.txt"\r\n'
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n1\r\n"
        b"--7uIDoxnPh0P4gP6wRQ_bKq--\r\n",
        {"中文.txt": b"1"},
    ),
    "a browser on a page in Shift_JIS": (
        "multipart/form-data; boundary=----WebKitFormBoundaryq8cXf5VbyVhUqT2n",
        b"------WebKitFormBoundaryq8cXf5VbyVhUqT2n\r\n"
        b'Content-Disposition: form-data; name="_charset_"\r\n\r\nShift_JIS\r\n'
        b"------WebKitFormBoundaryq8cXf5VbyVhUqT2n\r\n"
        b'Content-Disposition: form-data; name="\x95\\"; filename="\x95\\\x8e\xa6.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\n1\r\n"
        b"------WebKitFormBoundaryq8cXf5VbyVhUqT2n\r\n"
        b'Content-Disposition: form-data; name="unused"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n"
        b"------WebKitFormBoundaryq8cXf5VbyVhUqT2n--\r\n",
        {"表示.txt": b"1"},
    ),
    "a mail library, folded": (
        'multipart/form-data; \tboundary="----=_Part_0_1330767811.1700000000000"',
        b"------=_Part_0_1330767811.1700000000000\r\n"
        b'Content-Type: application/pdf; \r\n\tname="a.pdf"\r\n'
        b'Content-Disposition: form-data; name="f";\r\n filename="a.pdf"\r\n\r\n1\r\n'
        b"------=_Part_0_1330767811.1700000000000--\r\n",
        {"a.pdf": b"1"},
    ),
    "mime/multipart of Go": (
        "multipart/form-data; boundary=" + "1f" * 30,
        b"--" + b"1f" * 30 + b"\r\n"
        b'Content-Disposition: form-data; name="f"; filename="say \\"hi\\".txt"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n1\r\n--" + b"1f" * 30 + b"--\r\n",
        {'say "hi".txt': b"1"},
    ),
    "requests of long ago": (
        "multipart/form-data; boundary=c1a2",
        b"--c1a2\r\nContent-Disposition: form-data; name=\"f\"; filename*=utf-8''%E6%97%A5.txt\r\n"
        b"\r\n1\r\n--c1a2--\r\n",
        {"日.txt": b"1"},
    ),
    "a folder from a browser": (
        "multipart/form-data; boundary=---------------------------3915",
        b"-----------------------------3915\r\n"
        b'Content-Disposition: form-data; name="d"; filename="trip/one/day.txt"\r\n\r\n1\r\n'
        b"-----------------------------3915\r\n"
        b'Content-Disposition: form-data; name="d"; filename="trip/two/day.txt"\r\n\r\n2\r\n'
        b"-----------------------------3915--\r\n",
        {"day.txt": b"1", "day (1).txt": b"2"},
    ),
}


@pytest.mark.parametrize("name", WIRES)
def test_a_form_is_stored_as_its_client_meant_it(reuse_server: Start, name: str):
    kind, body, files = WIRES[name]
    server = reuse_server()
    with RawClient(server) as client:
        client.send(head("POST", "/files/", f"Content-Type: {kind}", length=len(body)) + body)
        status, _, answer = client.response()
    assert (status, answer[:1]) == (201, b"{")
    assert [entry["name"] for entry in json.loads(answer)["files"]] == list(files)
    assert server.published() == {stored: len(content) for stored, content in files.items()}
    for stored, content in files.items():
        assert (server.folder / stored).read_bytes() == content
