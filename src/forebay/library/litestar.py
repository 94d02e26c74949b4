"""Special cases of Litestar, which is imported only when one of its requests was seen."""

from __future__ import annotations

import inspect
from typing import Any

from forebay.http.answers import Message, Receive
from forebay.protocol import fields


def was_read(request: Any) -> bool:
    """Whether the body was already read, by a handler's `data` or by middleware."""
    from litestar.types import Empty
    from litestar.utils.scope.state import ScopeState

    state = ScopeState.from_scope(request.scope)
    cached = (getattr(state, name, Empty) for name in ("body", "form", "json", "msgpack"))
    return not getattr(request, "is_connected", True) or any(one is not Empty for one in cached)


def limited(scope: dict[str, Any], receive: Receive) -> Receive:
    """`receive` with the `request_max_body_size` of the route, which Litestar itself applies only
    to bodies that it reads. Raises its RequestEntityTooLarge.

    The default of 10 MB does not apply: the application did not choose it.
    """
    limit = _limit_of(scope)
    if limit is None:
        return receive
    from litestar.exceptions.http_exceptions import RequestEntityTooLarge

    announced = fields.content_length(scope["headers"])
    if announced is not None:
        if announced > limit:
            raise RequestEntityTooLarge
        return receive  # the server delivers no more than that
    received = 0

    async def within() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise RequestEntityTooLarge
        return message

    return within


def _limit_of(scope: dict[str, Any]) -> int | None:
    from litestar import Litestar
    from litestar.types import Empty

    layers = getattr(scope.get("route_handler"), "ownership_layers", ())
    for layer in reversed(list(layers)):
        limit: Any = getattr(layer, "request_max_body_size", Empty)
        if limit is Empty:
            continue
        argument = inspect.signature(Litestar).parameters.get("request_max_body_size")
        chosen = argument is None or limit != argument.default
        return limit if chosen or not isinstance(layer, Litestar) else None
    return None


def compresses_parts(scope: dict[str, Any]) -> bool:
    """Whether Litestar's compression is on. It compresses a part of a file (206) as if it were the
    whole: no client could join such parts.
    """
    from litestar.middleware.compression import CompressionMiddleware

    if scope["litestar_app"].compression_config is not None:
        return True
    resolve = getattr(scope.get("route_handler"), "resolve_middleware", list)
    kinds = (getattr(one, "middleware", one) for one in resolve())
    return any(isinstance(kind, type) and issubclass(kind, CompressionMiddleware) for kind in kinds)


def without_range(scope: dict[str, Any]) -> dict[str, Any]:
    """The same request for the whole file (RFC 9110, section 14.2: Range may be ignored)."""
    headers = [field for field in scope["headers"] if field[0].lower() != b"range"]
    return scope | {"headers": headers}
