"""The fields of every answer on our server: Date, Server, and uvicorn's `--header`."""

from __future__ import annotations

from collections.abc import Collection

from forebay.http.answers import Headers
from forebay.protocol.response_fields import MAY_REPEAT


class DefaultHead:
    """Those fields as bytes, encoded once a second for all connections."""

    __slots__ = ("count", "fields", "lines", "names")

    def __init__(self, fields: Headers) -> None:
        self.fields = fields
        self.lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self.count = len(fields)
        self.names = frozenset(name.lower() for name, _ in fields) - MAY_REPEAT
        """Names of fields that an application may set itself; each is still sent once."""

    def without(self, names: Collection[bytes]) -> DefaultHead:
        """The same without the fields of these names, in lower case."""
        return DefaultHead([field for field in self.fields if field[0].lower() not in names])
