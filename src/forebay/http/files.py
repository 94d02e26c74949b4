"""`/files`: raw uploads in, files and listings out. One ASGI application, mountable anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.engine.transfer.decoding import offered
from forebay.errors import InvalidRequest, MethodNotAllowed, NotFound, UploadError
from forebay.http import forms, origin_check, scope_keys
from forebay.http.answers import (
    Headers,
    Receive,
    Send,
    answer_error,
    send_answer,
)
from forebay.http.body_source import source_of
from forebay.http.created import created
from forebay.http.destination import generated_name
from forebay.http.dialect import Creator, FilesDialect
from forebay.http.download import send_file
from forebay.http.listing import send_listing
from forebay.http.urls import is_folder, link_base, path_below, query_of
from forebay.http.verdicts import set_verdict
from forebay.protocol import (
    form_request,
    names,
    origin,
    preconditions,
    raw,
    unsupported_chunking,
)
from forebay.protocol.status import Answer
from forebay.stores.base import Reader

if TYPE_CHECKING:
    from forebay.engine.engine import Engine


class FilesApp:
    """Raw uploads, downloads, listings. Its routes are at its own root.

    Args:
        engine: takes the bodies.
        listening_on_loopback: only pages and hosts of this machine are served (invariant 15).
        creator: creates resumable uploads for requests that ask for one; None: they are refused.
        partial: receives parts with Content-Range; None: they are refused.
        tus: creates uploads of tus; None: they are refused.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        listening_on_loopback: bool = False,
        creator: Creator | None = None,
        partial: FilesDialect | None = None,
        tus: FilesDialect | None = None,
    ) -> None:
        self.engine = engine
        self.listening_on_loopback = listening_on_loopback
        self.creator = creator
        self.partial = partial
        self.tus = tus

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Forebay serves http, not {scope['type']}.")
        settings = self.engine.settings
        try:
            if origin.is_preflight(scope["method"], scope["headers"]):
                await send_answer(send, self._preflight(scope))
                return
            origin_check.check(scope, settings, listening_on_loopback=self.listening_on_loopback)
            await self._dispatch(scope, receive, send)
        except UploadError as error:
            if isinstance(error, MethodNotAllowed):
                error.detail["allow"] = self._methods(is_folder(path_below(scope)))
            answer = answer_error(error, scope)
            special = self._dialect(scope) or self._creator(scope)
            if special is not None:
                answer = special.decorate(error, answer, scope)
            await send_answer(send, answer)

    def _dialect(self, scope: dict[str, Any]) -> FilesDialect | None:
        for dialect in (self.tus, self.partial):
            if dialect is not None and dialect.wants(scope):
                return dialect
        return None

    def _creator(self, scope: dict[str, Any]) -> Creator | None:
        return self.creator if self.creator is not None and self.creator.wants(scope) else None

    async def _dispatch(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        path = path_below(scope)
        folder = is_folder(path)
        dialect = self._dialect(scope)
        if method in ("PUT", "POST"):
            set_verdict(scope, send)
        if dialect is not None:
            answer = await dialect.store(scope, receive, names.split_path(path), folder)
        elif method == "OPTIONS":
            answer = self._options(scope, folder)
        elif method not in self._methods(folder):
            raise raw.refuse_method(method, folder)
        elif form_request.is_form(method, scope["headers"]):
            unsupported_chunking.check(query_of(scope.get("query_string", b"")).items())
            source = source_of(scope, receive)
            segments = names.split_path(path)
            answer = await forms.store(self.engine, scope, source, segments, link_base(scope))
        elif method in ("PUT", "POST"):
            answer = await self._store(scope, receive, send, names.split_path(path))
        elif method in ("GET", "HEAD"):
            segments = names.split_path(path)
            name = names.validate_path(segments) if segments else ""
            await self._read(scope, send, name, folder)
            return
        elif method == "DELETE":
            answer = await self._delete(scope, names.validate_path(names.split_path(path)))
        else:
            raise InvalidRequest(
                "A PATCH of a file needs Content-Range: bytes FIRST-LAST/TOTAL; to send it whole, "
                "use PUT."
            )
        await send_answer(send, answer)

    def _methods(self, folder: bool) -> tuple[str, ...]:
        partial = self.partial is not None and self.engine.offered.resumable
        return raw.methods_of(folder, partial=partial, delete=self.engine.settings.allow_delete)

    def _preflight(self, scope: dict[str, Any]) -> Answer:
        """Allows any name and any Host: the request itself is checked, and a page must be able to
        read why it is refused.
        """
        methods = self._methods(is_folder(path_below(scope)))
        return origin.preflight(scope["headers"], self.engine.settings.allow_origin, methods)

    def _options(self, scope: dict[str, Any], folder: bool) -> Answer:
        methods = self._methods(folder)
        special = list(self.creator.offer(scope)) if self.creator is not None else []
        if self.tus is not None and folder:
            special += self.tus.offer(scope)
        return Answer(204, ((b"allow", ", ".join(methods).encode()), *special))

    # --- in --------------------------------------------------------------------------------------

    async def _store(
        self, scope: dict[str, Any], receive: Receive, send: Send, segments: list[str]
    ) -> Answer:
        settings = self.engine.settings
        headers: Headers = scope["headers"]
        given = query_of(scope.get("query_string", b""))
        if given:
            unsupported_chunking.check(given.items())
        creator = self._creator(scope)
        command = raw.command(
            scope["method"],
            segments,
            headers,
            given,
            on_conflict=settings.on_conflict,
            accept_types=settings.accept_types,
            generated=generated_name(),
            decodable=offered(settings) if creator is None else (),
            begins=creator is not None,
            own_path=True,
        )
        if creator is not None:
            return await creator.create(scope, receive, send, command)
        stored = await self.engine.receive_file(
            command, source_of(scope, receive), context=scope, verdict=scope.get(scope_keys.VERDICT)
        )
        return created(stored, command.media_type, link_base(scope))

    async def _delete(self, scope: dict[str, Any], name: str) -> Answer:
        principal = await self.engine.authorise("delete", name, scope)
        conditions = preconditions.parse(scope["headers"])
        await self.engine.removal.remove(name, conditions, principal=principal, context=scope)
        return Answer(204)

    # --- out -------------------------------------------------------------------------------------

    async def _read(self, scope: dict[str, Any], send: Send, name: str, folder: bool) -> None:
        engine = self.engine
        if folder:
            await engine.authorise("list", f"{name}/", scope)
            query = query_of(scope.get("query_string", b""))
            await send_listing(scope, send, engine, name, query, link_base(scope))
            return
        await engine.authorise("read", name, scope)
        try:
            reader = await engine.workers.run(engine.store.open, name, undo=_close)
        except NotFound as error:
            if not error.detail.get("folder"):
                raise
            await send_answer(send, _with_slash(scope, name))
            return
        try:
            await send_file(scope, send, engine, reader)
        finally:
            await engine.workers.run(reader.close)


def _with_slash(scope: dict[str, Any], name: str) -> Answer:
    """Redirects to the listing of a folder; temporarily, since a file may get the name one day."""
    query = scope.get("query_string", b"")
    location = f"{link_base(scope)}/{names.quote_path(name)}/".encode()
    location += b"?" + query if query else b""
    return Answer(
        307,
        (
            (b"location", location),
            (b"content-length", b"0"),
            (b"cache-control", b"no-store"),
        ),
    )


def _close(reader: Reader) -> None:
    reader.close()
