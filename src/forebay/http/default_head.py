"""The fields of every answer on our server: Date, Server, and uvicorn's `--header`."""

from __future__ import annotations

from collections.abc import Collection

from forebay.http.answers import Headers
from forebay.protocol.response_fields import MAY_REPEAT


class DefaultHead:
    """As bytes, made once a second for all connections."""

    __slots__ = ("count", "fields", "lines", "names")

    def __init__(self, fields: Headers) -> None:
        self.fields = fields
        self.lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self.count = len(fields)
        self.names = frozenset(name.lower() for name, _ in fields) - MAY_REPEAT
        """Those that an application may set itself, and then come once all the same."""

    def without(self, names: Collection[bytes]) -> DefaultHead:
        return DefaultHead([field for field in self.fields if field[0].lower() not in names])
