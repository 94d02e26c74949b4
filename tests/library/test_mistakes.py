"""A developer's mistake, or a client's, is told at once; it neither hangs nor stores anything."""

from __future__ import annotations

import httpx
import pytest

from e2e.test_checksums import told_of
from e2e.test_never_a_part import BODY, SPELLINGS
from library.conftest import Start
from library.running import Application
from raw_http import RawClient, content, head

DATA = content(100_000)


@pytest.fixture
def careless(application: Start, server: str) -> Application:
    found = application("library.mistakes_app:app", server)
    for path in [found.folder / name for name in found.published()]:
        path.unlink()
    httpx.get(f"{found.url}/told")
    return found


def post(app: Application, path: str, **more: object) -> httpx.Response:
    return httpx.post(app.url + path, timeout=20, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/twice", DATA, "was read already"),
        ("/read-before", DATA, "was read already"),
        ("/to-nothing", DATA, "returned None"),
        ("/to-number", DATA, "returned 7"),
        ("/accepting-rejection", DATA, "200 refuses nothing"),
        ("/awaits-what-it-cancelled", DATA, "CancelledError"),
    ],
)
def test_a_mistake_is_an_error_with_its_reason_in_the_log(
    careless: Application, path: str, body: bytes, reason: str
):
    headers = {"content-type": "application/json"} if body != DATA else {}
    assert post(careless, path, content=body, headers=headers).status_code == 500
    assert careless.wait_for_log(reason)
    assert careless.published() == {}


@pytest.mark.parametrize("path", ["/in", "/nowhere", "/by-hand"])
@pytest.mark.parametrize(
    "fields",
    [
        {"upload-complete": "?0"},
        {"upload-complete": "?0", "upload-draft-interop-version": "8"},
        {"upload-incomplete": "?1", "upload-draft-interop-version": "3"},
        {"tus-resumable": "1.0.0", "upload-length": "5000000"},
    ],
)
def test_a_part_of_a_file_is_not_taken_for_the_whole(
    careless: Application, path: str, fields: dict[str, str]
):
    answer = post(careless, path, content=DATA, headers=fields)
    assert (answer.status_code, answer.json()["code"]) == (400, "FB_INVALID_REQUEST")
    assert careless.published() == {}


@pytest.mark.parametrize("path", ["/in", "/nowhere", "/by-hand", "/body"])
def test_nothing_in_the_terms_of_a_resumable_protocol_is_taken_for_a_file(
    careless: Application, path: str
):
    for fields in SPELLINGS:
        with RawClient(careless) as client:
            client.send(head("POST", path, *fields, length=len(BODY)) + BODY)
            status, _, body = client.response()
        assert 400 <= status < 500, (fields, body)
        assert careless.published() == {}, fields


@pytest.mark.parametrize("path", ["/form", "/old-form"])
def test_no_form_is_taken_that_is_in_the_terms_of_a_resumable_protocol(
    careless: Application, path: str
):
    request = httpx.Request("POST", careless.url, files={"file": ("a", BODY)})
    kind, body = f"Content-Type: {request.headers['content-type']}", request.read()
    for fields in SPELLINGS:
        if fields[0].startswith("Content-Type"):
            continue
        with RawClient(careless) as client:
            client.send(head("POST", path, kind, *fields, length=len(body)) + body)
            assert 400 <= client.response()[0] < 500, fields
        assert careless.published() == {}, fields


def test_a_whole_file_in_the_terms_of_a_resumable_upload_is_taken(careless: Application):
    whole = {"upload-complete": "?1", "upload-draft-interop-version": "6", "x-filename": "a.jpg"}
    assert post(careless, "/in", content=DATA, headers=whole).json() == "in/a.jpg"


def test_an_upload_without_destination_is_authorised_and_reported_too(careless: Application):
    answer = post(careless, "/nowhere", content=DATA, headers={"x-filename": "a.jpg"})
    assert answer.json() == "somebody"
    told = httpx.get(f"{careless.url}/told").json()
    assert told[0] == ["create", ""]
    assert told[-1] == ["progress", f"a.jpg {len(DATA)}"]


def test_a_size_may_be_written_as_text(careless: Application):
    answer = post(careless, "/in", content=b"x" * 2_000_001)
    assert (answer.status_code, answer.json()["limit"]) == (413, 2_000_000)


def test_auto_means_another_name_in_a_form_too(careless: Application):
    names = [post(careless, "/auto-form", files={"f": ("a.txt", DATA)}).json()[0] for _ in range(2)]
    assert names == ["in/a.txt", "in/a (1).txt"]


def test_an_old_form_is_refused_in_the_words_of_the_installed_handler(careless: Application):
    """FastAPI made "There was an error parsing the body" (400) of each of these."""
    large = post(careless, "/old-form", files={"file": ("a", b"x" * 3_000_001)})
    assert (large.status_code, large.json()["code"]) == (413, "FB_TOO_LARGE")
    kind = {"content-type": "multipart/form-data; boundary=b"}
    broken = post(careless, "/old-form", content=b"no form", headers=kind)
    assert (broken.status_code, broken.json()["code"]) == (400, "FB_INCOMPLETE_BODY")


@pytest.mark.parametrize("size", [10, 2_500_000])
def test_the_file_of_an_old_form_is_a_reader_whatever_its_size(careless: Application, size: int):
    answer = post(careless, "/write-to-an-old-form", files={"file": ("a", b"x" * size)})
    assert answer.json() == ["UnsupportedOperation", "UnsupportedOperation", "xx"]


def test_a_telephone_may_send_an_old_form(careless: Application):
    """URLSession says `Upload-Complete: ?1` with every upload task."""
    headers = {"upload-complete": "?1", "upload-draft-interop-version": "6"}
    answer = post(careless, "/old-form", files={"file": ("a", DATA)}, headers=headers)
    assert answer.json() == len(DATA)


@pytest.mark.parametrize("path", ["/in", "/nowhere", "/by-hand", "/body", "/form", "/old-form"])
def test_a_wrong_checksum_is_refused_whoever_receives(careless: Application, path: str):
    kind, body = {}, DATA
    if path.endswith("form"):
        request = httpx.Request("POST", careless.url, files={"file": ("a", DATA)})
        kind, body = {"content-type": request.headers["content-type"]}, request.read()
    for field in told_of(b"other"):
        name, _, value = field.partition(": ")
        answer = post(careless, path, content=body, headers={**kind, name: value})
        assert answer.status_code == 400, (field, answer.text)
        assert careless.published() == {}
    name, _, value = told_of(body)[0].partition(": ")
    assert post(careless, path, content=body, headers={**kind, name: value}).status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "multipart/form-data, x", "x"])
def test_a_body_by_hand_is_no_form(careless: Application, kind: str):
    answer = post(careless, "/body", content=DATA, headers={"content-type": kind})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("path", ["/in", "/nowhere", "/by-hand"])
def test_the_form_of_a_page_that_holds_no_files_is_no_file(careless: Application, path: str):
    kind = "application/x-www-form-urlencoded"
    headers = {"content-type": kind, "accept": "text/html,*/*;q=0.8"}
    answer = post(careless, path, content=b"file=a.jpg", headers=headers)
    assert (answer.status_code, careless.published()) == (415, {})
    assert post(careless, path, content=b"x", headers={"content-type": kind}).status_code == 200
