"""A request of any framework as ASGI has it, and answers as the framework's own responses.

A framework is imported only after one of its requests was seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, cast

from forebay.http.answers import Receive
from forebay.http.asgi_source import BODY_WAS_READ
from forebay.http.body_source import source_of
from forebay.library.litestar import limited, was_read
from forebay.protocol.status import Answer

if TYPE_CHECKING:
    from forebay.engine.transfer.pump import Source

Framework = Literal["asgi", "starlette", "litestar"]

_TAKEN = "forebay.taken"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply(Answer):
    """A whole response, which is also an ASGI application: `await reply(scope, receive, send)`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": self.status, "headers": [*self.headers]}
        await send(head)
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    @property
    def text(self) -> str:
        """The body as text (UTF-8)."""
        return self.body.decode("utf-8", "replace")


@dataclasses.dataclass(frozen=True, slots=True)
class AsgiRequest:
    """One request: its ASGI scope and `receive`, and the framework whose request it is."""

    scope: dict[str, Any]
    receive: Receive
    framework: Framework
    read: bool = False
    """Whether the framework has already read the body."""

    @classmethod
    def of(cls, request: Any, receive: Receive | None = None) -> AsgiRequest:
        """From a framework's request, or from an ASGI scope and its `receive`.

        Raises TypeError for anything else.
        """
        if isinstance(request, MutableMapping):
            if receive is None:
                raise TypeError("Give both scope and receive of the ASGI request.")
            return cls(cast(dict[str, Any], request), receive, "asgi")
        scope = getattr(request, "scope", None)
        found = receive or getattr(request, "receive", None)
        if isinstance(scope, dict) and callable(found):
            framework = _framework_of(request)
            return cls(scope, found, framework, _READ[framework](request))
        if isinstance(scope, dict):
            raise TypeError(
                "Django has read the body before its view runs. Have Forebay receive it in front "
                "of Django: uploads.in_front_of(get_asgi_application(), ...)."
            )
        raise TypeError(f"{type(request).__name__} is not a request that Forebay supports.")

    def source(self) -> Source:
        """The request's body. Raises RuntimeError when it was taken or read before: a second
        reader would wait for ever.
        """
        if self.read or self.scope.get(_TAKEN):
            raise RuntimeError(BODY_WAS_READ)
        self.scope[_TAKEN] = True
        return source_of(self.scope, self.limited_receive())

    def limited_receive(self) -> Receive:
        """`receive`, with the limit on body sizes that the framework has for this route."""
        if self.framework == "litestar":
            return limited(self.scope, self.receive)
        return self.receive

    def respond(self, answer: Answer) -> Any:
        """The answer as the framework's own response; for plain ASGI a `Reply`."""
        if self.framework == "starlette":
            from starlette.responses import Response

            response = Response(answer.body, answer.status)
            response.raw_headers = list(answer.headers)
            return response
        if self.framework == "litestar":
            import litestar

            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in answer.headers}
            media_type = headers.pop("content-type", "text/plain")
            headers.pop("content-length", None)
            return litestar.Response(
                answer.body, status_code=answer.status, headers=headers, media_type=media_type
            )
        return Reply(answer.status, answer.headers, answer.body)


def _framework_of(request: Any) -> Framework:
    for cls in type(request).__mro__:
        if cls.__module__.startswith("starlette."):
            return "starlette"
        if cls.__module__.startswith("litestar."):
            return "litestar"
    return "asgi"


def _starlette_read(request: Any) -> bool:
    return getattr(request, "_stream_consumed", False) or hasattr(request, "_body")


_READ: dict[Framework, Callable[[Any], bool]] = {
    "asgi": lambda request: False,
    "starlette": _starlette_read,
    "litestar": was_read,
}
