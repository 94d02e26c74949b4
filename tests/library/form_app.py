"""An application whose forms have typed text fields, and fields for one file or several."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, Json, model_validator

from forebay import Forebay, Form, Upload

uploads = Forebay("data", durability="relaxed", form_max_field_size=100_000)
app = FastAPI(lifespan=uploads.lifespan)


class Kind(Enum):
    FILM = "film"
    SERIES = "series"


class Place(BaseModel):
    city: str


class Film(BaseModel):
    """What is said of a film."""

    title: Annotated[str, Field(min_length=2)]
    year: int = 2000
    kind: Kind = Kind.FILM
    tags: list[str] = []
    scores: set[int] | None = None
    public: bool = False
    place: Json[Place] | None = None
    age_rating: Annotated[str, Field(alias="age-rating")] = "none"

    @model_validator(mode="after")
    def not_before_the_cinema(self) -> Film:
        if self.year < 1895:
            raise ValueError("there was no cinema yet")
        return self


def described(form: Form[Film]) -> dict[str, Any]:
    return {"film": form.model.model_dump(mode="json"), "clip": form["clip"].name}


@app.post("/films")
async def films(
    form: Annotated[
        Form[Film], uploads.form(files={"clip": "clips/"}, fields=Film, required="clip")
    ],
) -> dict[str, Any]:
    return described(form)


@app.post("/simple")
async def simple(
    form: Annotated[
        Form,
        uploads.form(
            files={"photos": ["photos/"], "cover": "covers/"},
            fields={
                "title": str,
                "count": (int, 1),
                "tags": (list[int], []),
                "_odd name": (int | None, None),
                "copy": (bool, False),
            },
        ),
    ],
) -> dict[str, Any]:
    return {
        "title": form["title"],
        "count": form["count"],
        "tags": form["tags"],
        "odd": [form["_odd name"], form["copy"]],
        "photos": [photo.name for photo in form["photos"]],
        "cover": form["cover"].name if "cover" in form else None,
        "text": dict(form.fields),
        "names": list(form),
    }


@app.post("/careless")
async def careless(form: Annotated[Form, uploads.form(files={"clip": "clips/"})]) -> dict[str, Any]:
    """As the README had it: nothing is declared as required, and everything is asked for."""
    return {"title": form["title"], "clip": form["clip"].name}


@app.post("/careless/{part}")
async def careless_parts(
    part: str, form: Annotated[Form, uploads.form(files={"clip": "clips/"})]
) -> Any:
    if part == "files":
        return form.files["other"].name
    if part == "fields":
        return form.fields["other"]
    return [form.get("other"), "other" in form, form.files.get("other"), form.fields.get("other")]


@app.post("/a-key-error-of-its-own")
async def key_error(form: Annotated[Form, uploads.form("clips/")]) -> Any:
    return {}["nothing"]


@app.post("/any")
async def anything(form: Annotated[Form, uploads.form("any/")]) -> list[str]:
    return [file.name for file in form.files.getall("files")]


class Strict(BaseModel, extra="forbid"):
    title: str


@app.post("/strict")
async def strict(
    form: Annotated[Form[Strict], uploads.form({"*": "any/"}, fields=Strict, required=["files"])],
) -> str:
    return form.model.title


@app.post("/nowhere")
async def nowhere(
    form: Annotated[Form, uploads.form({"clip": None}, fields={"title": str})],
) -> str:
    upload: Upload = form["clip"]
    return (await upload.read()).decode()


@app.post("/by-hand")
async def by_hand(request: Request) -> dict[str, Any]:
    async with uploads.received_form(request, files={"clip": "clips/"}, fields=Film) as form:
        return described(form)


@app.put("/raw")
async def raw(upload: Annotated[Upload, uploads.receive("in/")]) -> str:
    return upload.name


@app.put("/exact")
async def exact(upload: Annotated[Upload, uploads.receive("in/a.mp4", types=["video/*"])]) -> str:
    return upload.name


own = FastAPI(lifespan=uploads.lifespan)
uploads.install(own)


@own.exception_handler(RequestValidationError)
async def my_words(request: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [".".join(map(str, one["loc"])) for one in error.errors()]
    return JSONResponse({"wrong": wrong, "body": error.body}, 418)


@own.post("/films")
async def own_films(
    form: Annotated[Form[Film], uploads.form(files={"clip": "clips/"}, fields=Film)],
) -> dict[str, Any]:
    return described(form)
