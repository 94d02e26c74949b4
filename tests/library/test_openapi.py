"""FastAPI's document says what the routes with uploads take and answer, and is a valid one."""

# Annotations are evaluated here: those of routes within tests name what is local to them.

from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, create_model

from forebay import Forebay, Form, Upload
from library.conftest import Start

BINARY = {"type": "string", "format": "binary"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    from library.form_app import app  # asked before it was ever started, as scripts do

    return app.openapi()


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def form_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    content: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]
    assert list(content) == ["multipart/form-data"]
    schema: dict[str, Any] = content["multipart/form-data"]["schema"]
    return schema


def test_the_document_is_valid_openapi(document: dict[str, Any]):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)


def test_a_form_has_the_text_fields_of_its_model_and_its_files(document: dict[str, Any]):
    schema = form_of(document, "/films")
    assert schema["required"] == ["title", "clip"]
    properties = schema["properties"]
    assert properties["title"] == {"type": "string", "minLength": 2, "title": "Title"}
    assert (properties["year"]["type"], properties["year"]["default"]) == ("integer", 2000)
    assert properties["tags"]["type"] == "array"
    assert resolve(document, properties["kind"])["enum"] == ["film", "series"]
    scores = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "title": "Scores"}
    assert properties["scores"] == scores  # no text is null
    assert "age-rating" in properties and "age_rating" not in properties
    assert {k: properties["clip"][k] for k in BINARY} == BINARY


def test_several_files_are_an_array(document: dict[str, Any]):
    properties = form_of(document, "/simple")["properties"]
    assert properties["photos"] == {"type": "array", "items": BINARY, "default": []}
    assert {k: properties["cover"][k] for k in BINARY} == BINARY
    schema = form_of(document, "/any")
    assert schema["properties"] == {"files": {"type": "array", "items": BINARY, "default": []}}


def test_a_raw_body_is_of_the_types_that_are_taken(document: dict[str, Any]):
    raw = document["paths"]["/raw"]["put"]
    assert raw["requestBody"] == {
        "required": True,
        "content": {"application/octet-stream": {"schema": BINARY}, "*/*": {"schema": BINARY}},
    }
    assert [one["name"] for one in raw["parameters"]] == ["X-Filename"]
    exact = document["paths"]["/exact"]["put"]
    assert exact["requestBody"]["content"] == {"video/*": {"schema": BINARY}}
    assert "parameters" not in exact
    assert "409" in exact["responses"] and "409" not in raw["responses"]


def test_the_refusals_are_described_as_they_are_answered(
    document: dict[str, Any], application: Start
):
    app = application("library.form_app:app")
    jsonschema = pytest.importorskip("jsonschema")
    wrong = httpx.post(f"{app.url}/films", files={"clip": (None, "text")})
    kind = httpx.post(f"{app.url}/films", content=b"no form")
    name = httpx.put(f"{app.url}/raw", content=b"x", headers={"x-filename": ".."})
    for answer, path, method in (
        (wrong, "/films", "post"),
        (kind, "/films", "post"),
        (name, "/raw", "put"),
    ):
        told = document["paths"][path][method]["responses"][str(answer.status_code)]
        schema = told["content"][answer.headers["content-type"]]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    assert [wrong.status_code, kind.status_code, name.status_code] == [422, 415, 400]


def test_with_the_handler_installed_the_refusals_are_problem_documents():
    from library.form_app import own

    responses = own.openapi()["paths"]["/films"]["post"]["responses"]
    assert list(responses["413"]["content"]) == ["application/problem+json"]
    assert list(responses["422"]["content"]) == ["application/json"]


class Inner(BaseModel):
    ours: int


class Outer(BaseModel):
    inner: dict[str, Inner] = {}


def test_models_of_one_name_keep_apart_and_what_the_application_says_stays(tmp_path: Path):
    uploads = Forebay(tmp_path)
    app = FastAPI()

    theirs = create_model("Inner", theirs=(int, ...))

    @app.post("/other")
    async def other(inner: theirs) -> None: ...

    @app.post(
        "/form",
        openapi_extra={"responses": {"413": {"description": "Too much for us"}}},
    )
    async def form(form: Annotated[Form, uploads.form("in/", fields=Outer)]) -> None: ...

    @app.put("/own", openapi_extra={"requestBody": {"content": {"text/plain": {}}}})
    async def own(upload: Annotated[Upload, uploads.receive("in/")]) -> None: ...

    document = app.openapi()
    uploads.close()
    inner = form_of(document, "/form")["properties"]["inner"]["additionalProperties"]
    assert list(resolve(document, inner)["properties"]) == ["ours"]
    other_body = document["paths"]["/other"]["post"]["requestBody"]["content"]["application/json"]
    assert list(resolve(document, other_body["schema"])["properties"]) == ["theirs"]
    responses = document["paths"]["/form"]["post"]["responses"]
    assert responses["413"] == {"description": "Too much for us"}
    assert document["paths"]["/own"]["put"]["requestBody"] == {"content": {"text/plain": {}}}


def test_a_document_that_an_application_makes_itself_is_added_to(tmp_path: Path):
    from fastapi.openapi.utils import get_openapi

    uploads = Forebay(tmp_path)
    app = FastAPI()

    @app.put("/raw")
    async def raw(upload: Annotated[Upload, uploads.receive("in/")]) -> None: ...

    app.openapi = lambda: get_openapi(title="T", version="1", routes=app.routes)  # type: ignore[method-assign]
    uploads.install(app)
    uploads.close()
    assert "requestBody" in app.openapi()["paths"]["/raw"]["put"]
