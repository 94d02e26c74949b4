"""Dependencies for FastAPI, and what its OpenAPI says of them. Loaded when one is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, routing

from forebay.errors import ConfigError, UploadError
from forebay.library.calls import Call
from forebay.library.forms import Form
from forebay.library.openapi import describe_operation
from forebay.library.options import FormWish, UploadOptions
from forebay.library.upload import Upload

if TYPE_CHECKING:
    from forebay.library.application import Forebay

WISH = "__forebay_wish__"
"""The attribute of a dependency that says what its request's body is: a Wish or a FormWish."""


def dependency(uploads: Forebay, wish: UploadOptions) -> Any:
    """`Depends` on a request's body as an `Upload`."""

    async def upload(request: Request) -> AsyncIterator[Upload]:
        async with uploads.received_by(Call.of(request), wish) as received:
            yield received

    return depends_on(upload, wish)


def form_dependency(uploads: Forebay, wish: FormWish) -> Any:
    """`Depends` on a request's form as a `Form`."""

    async def form(request: Request) -> AsyncIterator[Form]:
        async with uploads.received_form_by(Call.of(request), wish) as received:
            yield received

    return depends_on(form, wish)


def depends_on(call: Callable[..., Any], wish: UploadOptions | FormWish) -> Any:
    """`Depends(call)`, whose end comes before the response is sent: a client that has its answer
    can rely on the rest.
    """
    setattr(call, WISH, wish)
    try:
        return Depends(call, scope="function")
    except TypeError:  # before FastAPI 0.121
        return Depends(call)


def describe_bodies(app: Any) -> None:
    """Has the OpenAPI document of `app` tell of the bodies that dependencies receive, also where
    the application makes that document itself (`app.openapi = ...`).
    """
    if getattr(app.openapi, WISH, False):
        return
    original = app.openapi
    described: Any = None

    def openapi() -> dict[str, Any]:
        nonlocal described
        schema: dict[str, Any] = original()  # the same one until the routes change
        if schema is not described:
            described = schema
            _describe(app, schema)
        return schema

    setattr(openapi, WISH, True)
    app.openapi = openapi


def _describe(app: Any, schema: dict[str, Any]) -> None:
    own = any(
        isinstance(kind, type) and issubclass(UploadError, kind) and kind is not Exception
        for kind in app.exception_handlers
    )
    for path, method, wish in _wishes(app.routes):
        operation = schema.get("paths", {}).get(path, {}).get(method.lower())
        if operation is not None:
            describe_operation(schema, operation, wish, problem_documents=own)


def _wishes(routes: Any) -> Iterator[tuple[str, str, UploadOptions | FormWish]]:
    each = getattr(routing, "iter_route_contexts", iter)  # included routers, since FastAPI 0.139
    for route in each(routes):
        of_route = getattr(route, "original_route", route)
        dependant = getattr(of_route, "dependant", None)
        wish = None if dependant is None else _wish_of(dependant)
        if wish is not None:
            path = getattr(route, "path_format", None) or route.path
            for method in of_route.methods:
                yield path, method, wish


def check_routes(routes: Any) -> None:
    """Raises ConfigError for a route that declares an upload or form, and a body or another of
    them beside it: a body comes once.
    """
    each = getattr(routing, "iter_route_contexts", iter)
    for route in each(routes):
        of_route = getattr(route, "original_route", route)
        inner = getattr(getattr(of_route, "app", None), "routes", None)
        if inner is not None:
            check_routes(inner)
        dependant = getattr(of_route, "dependant", None)
        declared = set() if dependant is None else set(_calls_with_a_wish(dependant))
        if not declared:
            continue
        path = getattr(route, "path_format", None) or route.path
        if len(declared) > 1:
            raise ConfigError(
                f"The route {path!r} takes {len(declared)} uploads or forms, and its body comes "
                "once. Take several files as one form (uploads.form(...))."
            )
        beside = [field.name for field in _of_the_body(dependant)]
        if beside:
            raise ConfigError(
                f"The route {path!r} takes an upload or a form and has {', '.join(beside)} in its "
                "body beside it, which comes once. Send that in the query, in a header, or as a "
                "field of the form (uploads.form(..., fields=...))."
            )


def _of_the_body(dependant: Any) -> Iterator[Any]:
    yield from dependant.body_params
    for inner in dependant.dependencies:
        yield from _of_the_body(inner)


def _calls_with_a_wish(dependant: Any) -> Iterator[Any]:
    """One that is declared twice is called once: FastAPI remembers what it returned."""
    if getattr(dependant.call, WISH, None) is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls_with_a_wish(inner)


def _wish_of(dependant: Any) -> UploadOptions | FormWish | None:
    wish: UploadOptions | FormWish | None = getattr(dependant.call, WISH, None)
    if wish is not None:
        return wish
    for inner in dependant.dependencies:
        if (found := _wish_of(inner)) is not None:
            return found
    return None


def _document_from_the_start() -> None:
    """Applications that are asked for their document before they run, as by a test or a script
    that writes it to a file, have had no call of ours yet: so every one is told as it is asked.
    Nothing changes for routes without an upload.
    """
    original = FastAPI.openapi

    def openapi(self: FastAPI) -> dict[str, Any]:
        schema = original(self)
        if self.__dict__.get(WISH) is not schema:
            self.__dict__[WISH] = schema
            _describe(self, schema)
        return schema

    FastAPI.openapi = openapi  # type: ignore[method-assign]


_document_from_the_start()
