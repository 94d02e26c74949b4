"""What FastAPI's routes declare: checks at the start, and what its OpenAPI document says of them.

Imported only when FastAPI is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, routing

from forebay.errors import ConfigError, UploadError
from forebay.library.openapi import describe_operation
from forebay.library.options import FormOptions, UploadOptions

OPTIONS = "__forebay_options__"
"""The attribute of a dependency that says what its request's body is: UploadOptions or FormOptions.
"""


def describe_bodies(app: Any) -> None:
    """Makes the OpenAPI document of `app` describe the bodies that dependencies receive, also when
    the application makes that document itself (`app.openapi = ...`).
    """
    if getattr(app.openapi, OPTIONS, False):
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

    setattr(openapi, OPTIONS, True)
    app.openapi = openapi


def _describe(app: Any, schema: dict[str, Any]) -> None:
    own = any(
        isinstance(kind, type) and issubclass(UploadError, kind) and kind is not Exception
        for kind in app.exception_handlers
    )
    for path, method, options in _all_options(app.routes):
        operation = schema.get("paths", {}).get(path, {}).get(method.lower())
        if operation is not None:
            describe_operation(schema, operation, options, problem_documents=own)


def _all_options(routes: Any) -> Iterator[tuple[str, str, UploadOptions | FormOptions]]:
    each = getattr(routing, "iter_route_contexts", iter)  # included routers, since FastAPI 0.139
    for route in each(routes):
        of_route = getattr(route, "original_route", route)
        dependant = getattr(of_route, "dependant", None)
        options = None if dependant is None else _options_of(dependant)
        if options is not None:
            path = getattr(route, "path_format", None) or route.path
            for method in of_route.methods:
                yield path, method, options


def check_routes(routes: Any) -> None:
    """Raises ConfigError for a route that declares an upload or a form, and beside it another one
    or a body: a request has one body.
    """
    each = getattr(routing, "iter_route_contexts", iter)
    for route in each(routes):
        of_route = getattr(route, "original_route", route)
        inner = getattr(getattr(of_route, "app", None), "routes", None)
        if inner is not None:
            check_routes(inner)
        dependant = getattr(of_route, "dependant", None)
        declared = set() if dependant is None else set(_calls_with_options(dependant))
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


def _calls_with_options(dependant: Any) -> Iterator[Any]:
    """The dependencies that receive the body. One that is declared twice is called once: FastAPI
    caches its result.
    """
    if getattr(dependant.call, OPTIONS, None) is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls_with_options(inner)


def _options_of(dependant: Any) -> UploadOptions | FormOptions | None:
    options: UploadOptions | FormOptions | None = getattr(dependant.call, OPTIONS, None)
    if options is not None:
        return options
    for inner in dependant.dependencies:
        if (found := _options_of(inner)) is not None:
            return found
    return None


def _document_from_the_start() -> None:
    """Makes every document of FastAPI describe bodies, also when it is made before the application
    has started, as by a test, or by a script that writes it to a file. Documents of routes
    without an upload do not change.
    """
    original = FastAPI.openapi

    def openapi(self: FastAPI) -> dict[str, Any]:
        schema = original(self)
        if self.__dict__.get(OPTIONS) is not schema:
            self.__dict__[OPTIONS] = schema
            _describe(self, schema)
        return schema

    FastAPI.openapi = openapi  # type: ignore[method-assign]


_document_from_the_start()
