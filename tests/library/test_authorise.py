"""Authorisation fails closed: a result that is not clearly a yes is a no."""

from __future__ import annotations

import enum
import logging
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.exceptions import PermissionDenied
from fastapi import FastAPI
from litestar.exceptions import NotAuthorizedException
from starlette.exceptions import HTTPException

from forebay import ConfigError, Forbidden, Forebay, Principal, Upload
from forebay.hooks.identity import principal_of
from library.inside import Serving, serving

USER = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Text(str):
    pass


class Who(enum.StrEnum):
    ALICE = "alice"


class OldWho(str, enum.Enum):  # noqa: UP042
    ALICE = "alice"


class Application:
    """A Forebay that lets in whoever `answer` says, in FastAPI or alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Callable[[], Any] = lambda: True
        self.verdict: Callable[[], Any] = lambda: None
        self.principals: list[str] = []
        self.names: list[tuple[str, str]] = []
        self.uploads = Forebay(folder, authorise=self.authorise, durability="relaxed")
        self.uploads.on_verify(self.verify)
        self.alone = self.uploads.in_front_of(
            None,
            {
                "/files": self.uploads.files,
                "/uploads": self.uploads.resumable,
                "/options": self.uploads.options("in/"),
            },
        )
        self.serving: Serving

    def authorise(self, access: Any) -> Any:
        self.names.append((access.action, access.name))
        return self.answer()

    def verify(self, upload: Upload) -> Any:
        self.principals.append(upload.principal.id)
        return self.verdict()

    def put(self, name: str = "a.txt") -> httpx.Response:
        return httpx.put(f"{self.serving.url}/files/{name}", content=b"some bytes")

    def stored(self) -> list[str]:
        return [
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and ".forebay" not in path.parts
        ]

    def renewed(self) -> Application:
        for name in self.stored():
            (self.folder / name).unlink()
        self.principals.clear()
        self.names.clear()
        self.answer, self.verdict = (lambda: True), (lambda: None)
        return self


@pytest.fixture(scope="module")
def _app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    app = Application(tmp_path_factory.mktemp("data"))
    with serving(app.alone) as app.serving:
        yield app


@pytest.fixture
def app(_app: Application) -> Application:
    return _app.renewed()


REFUSED = {
    "none": lambda: None,
    "zero-length text": lambda: "",
    "blank text": lambda: " \t\n",
    "empty dict": dict,
    "dict": lambda: {"id": "alice"},
    "list": lambda: ["alice"],
    "float": lambda: 1.0,
    "bytes": lambda: b"alice",
    "object": object,
    "a status": lambda: HTTPStatus.FORBIDDEN,
    "an error that is returned": Forbidden,
    "a class": lambda: Principal,
    "a nameless one by mistake": lambda: Principal(None),  # type: ignore[arg-type]
    "a blank one": lambda: Principal("  "),
    "a switch as its id": lambda: Principal(True),  # type: ignore[arg-type]
    "a dict as its id": lambda: Principal({}),  # type: ignore[arg-type]
    "half a character": lambda: "a\ud800",
    "a NUL": lambda: "a\0b",
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
def test_what_is_not_clearly_a_yes_is_refused_with_its_reason_in_the_log(
    app: Application, answer: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    app.answer = answer
    with caplog.at_level(logging.ERROR, "forebay"):
        refused = app.put()
    assert (refused.status_code, refused.json()["code"]) == (500, "FB_HOOK_FAILED")
    assert "authorise returned" in caplog.text
    assert app.stored() == []


ADMITTED: dict[str, tuple[Any, str]] = {
    "text": ("alice", "alice"),
    "text of a kind": (Text("alice"), "alice"),
    "a name": (Who.ALICE, "alice"),
    "a name of an older kind": (OldWho.ALICE, "alice"),
    "zero": (0, "0"),
    "a number": (7, "7"),
    "a negative number": (-7, "-7"),
    "a UUID": (USER, str(USER)),
    "a principal": (Principal("alice"), "alice"),
    "a principal with a number": (Principal(7), "7"),  # type: ignore[arg-type]
    "a principal with a UUID": (Principal(USER), str(USER)),  # type: ignore[arg-type]
    "nobody in particular": (Principal.anonymous, ""),
    "True": (True, ""),
}


@pytest.mark.parametrize(("answer", "known_as"), ADMITTED.values(), ids=ADMITTED)
def test_an_id_is_stored_as_text_whatever_its_type(app: Application, answer: Any, known_as: str):
    app.answer = lambda: answer
    assert app.put().status_code == 201
    assert app.principals == [known_as]
    assert type(principal_of(answer).id) is str


def test_false_is_a_refusal(app: Application):
    app.answer = lambda: False
    assert (app.put().status_code, app.stored()) == (403, [])


@pytest.mark.parametrize("kind", ["plain", "awaited later"])
def test_a_function_may_return_something_to_await(app: Application, kind: str):
    async def late() -> Any:
        return "alice" if kind == "plain" else late()

    app.answer = late
    answer = app.put()
    if kind == "plain":
        assert (answer.status_code, app.principals) == (201, ["alice"])
    else:
        assert (answer.status_code, app.stored()) == (500, [])


@pytest.mark.parametrize("owner", [0, 7, USER, "alice", Principal("bob")])
def test_only_the_client_that_created_an_upload_finds_it(app: Application, owner: Any):
    tus = {"tus-resumable": "1.0.0"}
    app.answer = lambda: owner
    made = httpx.post(f"{app.serving.url}/uploads/", headers={**tus, "upload-length": "10"})
    assert made.status_code == 201
    found = app.serving.url + made.headers["location"]
    assert httpx.head(found, headers=tus).status_code == 200
    for stranger in (1, "mallory", True, Principal.anonymous):
        app.answer = lambda stranger=stranger: stranger
        assert httpx.head(found, headers=tus).status_code == 404
    app.answer = lambda: None
    assert httpx.head(found, headers=tus).status_code == 500
    app.answer = lambda: str(owner.id if isinstance(owner, Principal) else owner)
    assert httpx.head(found, headers=tus).status_code == 200  # ids are compared as text


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HTTPException(403, "not you"), 403),
        (HTTPException(401, headers={"WWW-Authenticate": "Basic"}), 401),
        (NotAuthorizedException("not you"), 401),
        (PermissionDenied("not you"), 403),
        (Forbidden("not you"), 403),
        (LookupError("no such user"), 500),
        (StopIteration(), 500),
    ],
)
@pytest.mark.parametrize("path", ["/files/", "/uploads/", "/options"])
def test_a_refusal_in_a_frameworks_terms_keeps_its_status(
    app: Application, error: Exception, status: int, path: str
):
    app.answer = raising(error)
    fields = {"tus-resumable": "1.0.0", "upload-length": "9"} if path == "/uploads/" else {}
    refused = httpx.post(app.serving.url + path, content=b"x", headers=fields, timeout=20)
    assert (refused.status_code, app.stored()) == (status, [])
    if status == 401:
        challenges = [v for k, v in refused.headers.multi_items() if k == "www-authenticate"]
        assert len(challenges) == 1
        if isinstance(error, HTTPException):
            assert challenges == ["Basic"]


def test_inside_a_framework_its_own_handlers_answer(tmp_path: Path):
    def authorise(access: object) -> Any:
        raise HTTPException(451, "not here")

    uploads = Forebay(tmp_path / "data", authorise=authorise, durability="relaxed")
    app = FastAPI(lifespan=uploads.lifespan)
    app.mount("/files", uploads.files)
    with serving(app) as found:
        answer = httpx.put(f"{found.url}/files/a", content=b"x")
    assert (answer.status_code, answer.json()) == (451, {"detail": "not here"})


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(None, 201), (True, 201), (False, 422), (0, 500), ("", 500), ("infected", 500), ({}, 500)],
)
def test_on_verify_takes_a_file_by_returning_nothing_or_true(
    app: Application, verdict: Any, status: int
):
    app.verdict = lambda: verdict
    assert app.put().status_code == status
    assert app.stored() == (["a.txt"] if status == 201 else [])


@pytest.mark.parametrize("hook", ["authorise", "on_verify", "on_complete", "on_progress"])
def test_a_callback_that_can_never_run_is_refused_when_it_is_given(tmp_path: Path, hook: str):
    def generator(*_: object) -> Any:
        yield True

    async def async_generator(*_: object) -> Any:
        yield True

    for function in (generator, async_generator, "a name", 7):
        with pytest.raises(ConfigError, match=hook):
            if hook == "authorise":
                Forebay(tmp_path, authorise=function)  # type: ignore[arg-type]
            else:
                uploads = Forebay(tmp_path)
                try:
                    getattr(uploads, hook)(function)
                finally:
                    uploads.close()


def test_the_name_of_a_folder_ends_with_a_slash(app: Application):
    assert app.put("in/a.txt").status_code == 201
    httpx.get(f"{app.serving.url}/files/")
    httpx.get(f"{app.serving.url}/files/in/")
    httpx.post(f"{app.serving.url}/files/in/", files={"f": ("b.txt", b"b")})
    httpx.post(f"{app.serving.url}/files/", files={"f": ("b.txt", b"b")})
    httpx.get(f"{app.serving.url}/files/in/a.txt")
    assert app.names == [
        ("create", "in/a.txt"),
        ("list", "/"),
        ("list", "in/"),
        ("create", "in/"),
        ("create", "in/b.txt"),
        ("create", "/"),
        ("create", "b.txt"),
        ("read", "in/a.txt"),
    ]


@pytest.mark.parametrize("path", [None, "", "/", 7, ["in/"], "../", "in//", b"in/"])
def test_a_destination_that_is_none_is_never_the_root(tmp_path: Path, path: Any):
    uploads = Forebay(tmp_path / "data", durability="relaxed")
    app = uploads.in_front_of(None, {"/in": uploads.options(lambda head: path)})
    with serving(app) as found:
        answer = httpx.post(f"{found.url}/in", content=b"x")
    assert answer.status_code == (400 if path in ("/", "../", "in//") else 500)
    assert [p for p in (tmp_path / "data").iterdir() if p.name != ".forebay"] == []
