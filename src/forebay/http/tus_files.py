"""tus at `/files/`, where clients of tusd expect it. The file goes to the folder of the request's
path; the upload itself is below `/uploads/`, like any other.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from forebay.errors import MethodNotAllowed, NotFound, UploadError
from forebay.http import scope_keys
from forebay.http.answers import Headers, Receive
from forebay.http.destination import Destination
from forebay.http.dialect import FilesDialect
from forebay.http.tus import Tus
from forebay.protocol import form_request, names, tus
from forebay.protocol.status import Answer

if TYPE_CHECKING:
    from forebay.engine.engine import Engine


class TusAtFiles(FilesDialect):
    """Creates uploads in the folder of the path."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tus = Tus(engine)

    def _offered(self, scope: dict[str, Any]) -> bool:
        return self._engine.offered.resumable and scope_keys.UPLOADS in scope

    def wants(self, scope: dict[str, Any]) -> bool:
        method, headers = scope["method"], scope["headers"]
        return (
            tus.speaks_of_files(method, headers)
            and self._offered(scope)
            and not form_request.is_form(method, headers)
        )

    def offer(self, scope: dict[str, Any]) -> Headers:
        return self._tus.offer(scope) if self._offered(scope) else []

    async def store(
        self, scope: dict[str, Any], receive: Receive, segments: list[str], folder: bool
    ) -> Answer:
        method = tus.method_of(scope["method"], scope["headers"])
        tus.check_version(method, scope["headers"])
        if method in ("HEAD", "PATCH", "DELETE"):
            # Clients of tus create a new upload then.
            raise NotFound(
                "There is no upload here. Begin one with a POST to a folder; from then on it has "
                "an address of its own (its Location)."
            )
        if method != "POST":
            raise MethodNotAllowed
        if not folder:
            raise MethodNotAllowed(
                "A tus upload begins with a POST to a folder, with '/' at its end; its name is "
                "the filename of Upload-Metadata."
            )
        if segments:
            names.validate_path(segments)
        destination = Destination(tuple(segments))
        answer = await self._tus.create(scope | {scope_keys.DESTINATION: destination}, receive)
        return dataclasses.replace(answer, headers=(*answer.headers, *self._tus.always))

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        answer = self._tus.decorate(error, answer, scope)
        return dataclasses.replace(answer, headers=(*answer.headers, *self._tus.always))
