"""A form is what its route declares, or is answered by 422 and leaves nothing."""

from __future__ import annotations

import subprocess
from typing import Any

import httpx
import pytest

from library.conftest import Start
from library.running import Application

CLIP = {"clip": ("a.mp4", b"film", "video/mp4")}


@pytest.fixture
def app(application: Start, server: str) -> Application:
    found = application("library.form_app:app", server)
    for path in [found.folder / name for name in found.published()]:
        path.unlink()
    return found


def post(app: Application, path: str, data: Any = None, files: Any = None) -> httpx.Response:
    if files is None:  # a form all the same
        files = {name: (None, value) for name, value in (data or {"-": "-"}).items()}
        data = None
    return httpx.post(app.url + path, data=data, files=files, timeout=20)


def refused(app: Application, answer: httpx.Response) -> list[tuple[str, str]]:
    """Fields and types of what FastAPI's validation error names; and nothing was published."""
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"detail"}
    assert app.published() == {} and app.leftovers() == []
    for error in answer.json()["detail"]:
        assert error["loc"][0] == "body" and error["msg"]
    return [(".".join(map(str, one["loc"][1:])), one["type"]) for one in answer.json()["detail"]]


def test_text_fields_have_the_types_of_a_model(app: Application):
    texts = {
        "title": "A day",
        "year": "1987",
        "kind": "series",
        "tags": ["a", "", "b"],
        "scores": ["1", "2", "1"],
        "public": "on",
        "place": '{"city": "Bern"}',
        "age-rating": "12",
    }
    answer = post(app, "/films", texts, CLIP)
    assert answer.status_code == 200, answer.text
    film = answer.json()["film"]
    assert sorted(film.pop("scores")) == [1, 2]
    assert film == {
        "title": "A day",
        "year": 1987,
        "kind": "series",
        "tags": ["a", "", "b"],
        "public": True,
        "place": {"city": "Bern"},
        "age_rating": "12",
    }
    assert app.published() == {"clips/a.mp4": 4}


def test_what_is_left_out_or_left_empty_has_its_default(app: Application):
    empty = {"title": "A day", "year": "", "tags": "", "kind": "", "public": ""}
    for texts in ({"title": "A day"}, empty):
        film = post(app, "/films", texts, CLIP).json()["film"]
        assert (film["year"], film["tags"], film["kind"]) == (2000, [], "film")


@pytest.mark.parametrize("path", ["/films", "/by-hand"])
@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        ({}, [("title", "missing")]),
        ({"title": ""}, [("title", "missing")]),
        ({"title": "x", "year": "soon"}, [("title", "string_too_short"), ("year", "int_parsing")]),
        ({"title": ["xx", "yy"]}, [("title", "too_many_values")]),
        ({"title": "xx", "scores": ["1", "b"]}, [("scores.1", "int_parsing")]),
        ({"title": "xx", "place": "{"}, [("place", "json_invalid")]),
        ({"title": "xx", "place": "{}"}, [("place.city", "missing")]),
        ({"title": "xx", "year": "1800"}, [("", "value_error")]),
    ],
)
def test_what_is_wrong_is_said_field_by_field_before_anything_is_published(
    app: Application, path: str, texts: Any, wrong: list[tuple[str, str]]
):
    assert refused(app, post(app, path, texts, CLIP)) == wrong


@pytest.mark.parametrize(
    ("path", "texts", "files", "wrong"),
    [
        ("/films", {"title": "xx", "clip": "a film"}, None, [("clip", "file_expected")]),
        ("/films", {"title": "xx", "clip": ""}, None, [("clip", "missing")]),
        ("/films", {"title": "xx"}, None, [("clip", "missing")]),
        ("/films", {}, {"title": ("t.txt", b"xx"), **CLIP}, [("title", "string_type")]),
        ("/films", {"title": "xx"}, {"other": ("a", b"x")}, [("other", "file_forbidden")]),
        (
            "/films",
            {"title": "xx"},
            [("clip", ("a", b"1")), ("clip", ("b", b"2"))],
            [("clip", "too_many_files")],
        ),
        (
            "/strict",
            {"title": "x", "m": "y"},
            {"files": ("a", b"x")},
            [("m", "extra_forbidden")],
        ),
        ("/strict", {"title": "xx"}, None, [("files", "missing")]),
        ("/nowhere", {"title": "xx", "clip": "text"}, None, [("clip", "file_expected")]),
        ("/simple", {"photos": "text"}, None, [("photos", "file_expected"), ("title", "missing")]),
    ],
)
def test_a_text_is_no_file_and_a_file_no_text(
    app: Application, path: str, texts: Any, files: Any, wrong: list[tuple[str, str]]
):
    assert refused(app, post(app, path, texts, files)) == wrong


def test_a_field_for_several_files_is_a_list(app: Application):
    two = [("photos", ("a.jpg", b"1")), ("photos", ("a.jpg", b"22"))]
    told = post(app, "/simple", {"title": "x", "tags": ["1", "2"]}, two).json()
    assert told["photos"] == ["photos/a.jpg", "photos/a (1).jpg"]
    assert (told["title"], told["count"], told["tags"], told["cover"]) == ("x", 1, [1, 2], None)
    assert told["text"] == {"title": "x", "tags": "1"}
    assert told["odd"] == [None, False]
    assert told["names"] == ["title", "count", "tags", "_odd name", "copy", "photos"]
    odd = {"title": "x", "_odd name": "7", "copy": "yes"}
    assert post(app, "/simple", odd).json()["odd"] == [7, True]
    one = {"photos": ("b.jpg", b"1"), "cover": ("c.jpg", b"1")}
    told = post(app, "/simple", {"title": "x"}, one).json()
    assert (told["photos"], told["cover"]) == (["photos/b.jpg"], "covers/c.jpg")
    assert post(app, "/simple", {"title": "x"}).json()["photos"] == []


def test_a_hidden_file_beside_it_does_not_count_as_the_one_of_a_field(app: Application):
    files = [("clip", (".DS_Store", b"1")), ("clip", ("a.mp4", b"2"))]
    answer = post(app, "/films", {"title": "xx"}, files)
    assert (answer.status_code, app.published()) == (200, {"clips/a.mp4": 1}), answer.text


def test_one_folder_for_all_takes_any_number_of_files(app: Application):
    files = [("files", ("a", b"1")), ("files", ("b", b"2"))]
    assert post(app, "/any", {}, files).json() == ["any/a", "any/b"]


@pytest.mark.parametrize("path", ["/careless", "/careless/files", "/careless/fields"])
def test_a_field_that_a_handler_asks_for_and_does_not_get_is_422(app: Application, path: str):
    missing = "title" if path == "/careless" else "other"
    assert refused(app, post(app, path, {"x": "y"}, CLIP)) == [(missing, "missing")]


def test_what_may_be_missing_can_be_asked_for(app: Application):
    assert post(app, "/careless/get", {"x": "y"}, CLIP).json() == [None, False, None, None]
    assert app.published() == {"clips/a.mp4": 4}


def test_a_key_error_of_the_application_is_its_own_mistake(app: Application):
    assert post(app, "/a-key-error-of-its-own", {"x": "y"}, CLIP).status_code == 500
    assert app.wait_for_log("KeyError: 'nothing'")


def test_curl_and_the_readme_form(app: Application):
    command = ["curl", "-sS", "-F", "clip=@/dev/null;filename=a.mp4", f"{app.url}/careless"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert '"loc":["body","title"]' in done.stdout


def test_the_handler_of_an_application_for_validation_errors_applies(
    application: Start, server: str
):
    app = application("library.form_app:own", server)
    answer = post(app, "/films", {"year": "x"}, CLIP)
    assert answer.status_code == 418
    assert answer.json() == {"wrong": ["body.title", "body.year"], "body": {"year": "x"}}
    assert app.published() == {}
