"""Dependencies for FastAPI, and what its OpenAPI says of them. Loaded when one is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Request, routing

from forebay.library.calls import Call
from forebay.library.forms import Form
from forebay.library.upload import Upload
from forebay.library.wishes import FormWish, Wish

if TYPE_CHECKING:
    from forebay.library.application import Forebay

BODY = "__forebay_body__"
"""The attribute of a dependency that says what its request's body is, as OpenAPI has it."""


def dependency(uploads: Forebay, wish: Wish) -> Any:
    """`Depends` on a request's body as an `Upload`."""

    async def upload(request: Request) -> AsyncIterator[Upload]:
        async with uploads.received_by(Call.of(request), wish) as received:
            yield received

    schema = {"type": "string", "format": "binary"}
    content = {kind: {"schema": schema} for kind in wish.types or ("application/octet-stream",)}
    return depends_on(upload, {"required": True, "content": content})


def form_dependency(uploads: Forebay, wish: FormWish) -> Any:
    """`Depends` on a request's form as a `Form`."""

    async def form(request: Request) -> AsyncIterator[Form]:
        async with uploads.received_form_by(Call.of(request), wish) as received:
            yield received

    binary = {"type": "string", "format": "binary"}
    named = {name: binary for name in wish.files if name != "*"}
    texts = {name: {"type": "string"} for name in wish.required if name not in wish.files}
    schema: dict[str, Any] = {"type": "object", "properties": {**texts, **named}}
    if wish.required:
        schema["required"] = list(wish.required)
    return depends_on(
        form, {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    )


def depends_on(call: Callable[..., Any], body: dict[str, Any]) -> Any:
    """`Depends(call)`, whose end comes before the response is sent: a client that has its answer
    can rely on the rest.
    """
    setattr(call, BODY, body)
    try:
        return Depends(call, scope="function")
    except TypeError:  # before FastAPI 0.121
        return Depends(call)


def describe_bodies(app: Any) -> None:
    """Has the OpenAPI document of `app` tell of the bodies that dependencies receive."""
    if getattr(app.openapi, BODY, False):
        return
    original = app.openapi
    described: Any = None

    def openapi() -> dict[str, Any]:
        nonlocal described
        schema: dict[str, Any] = original()  # the same one until the routes change
        if schema is not described:
            described = schema
            for path, method, body in _bodies(app.routes):
                operation = schema.get("paths", {}).get(path, {}).get(method.lower())
                if operation is not None:
                    operation.setdefault("requestBody", body)
        return schema

    setattr(openapi, BODY, True)
    app.openapi = openapi


def _bodies(routes: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    each = getattr(routing, "iter_route_contexts", iter)  # included routers, since FastAPI 0.139
    for route in each(routes):
        of_route = getattr(route, "original_route", route)
        dependant = getattr(of_route, "dependant", None)
        body = None if dependant is None else _body_of(dependant)
        if body is not None:
            path = getattr(route, "path_format", None) or route.path
            for method in of_route.methods:
                yield path, method, body


def _body_of(dependant: Any) -> dict[str, Any] | None:
    body: dict[str, Any] | None = getattr(dependant.call, BODY, None)
    if body is not None:
        return body
    return next(filter(None, map(_body_of, dependant.dependencies)), None)
