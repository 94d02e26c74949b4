"""`/files`: raw uploads in, files and listings out. One ASGI application, mountable anywhere."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any, Protocol

from forebay.engine.transfer.decoding import offered
from forebay.engine.transfer.trailers import AnnouncedDigests
from forebay.errors import InvalidField, InvalidRequest, MethodNotAllowed, NotFound, UploadError
from forebay.http import forms, guard, judging
from forebay.http.answers import (
    Headers,
    Receive,
    Send,
    answer_error,
    json_bytes,
    send_answer,
)
from forebay.http.asgi_source import BODY_WAS_READ, ReceiveSource
from forebay.http.between import exchange_of, receives_directly, was_read
from forebay.http.download import send_file
from forebay.http.listing import send_listing
from forebay.protocol import (
    checksums,
    chunks,
    fields,
    form_request,
    names,
    origin,
    preconditions,
    raw,
)
from forebay.protocol.status import Answer
from forebay.stores.base import Reader

if TYPE_CHECKING:
    from forebay import model
    from forebay.engine.engine import Engine
    from forebay.engine.transfer.pump import Source
    from forebay.http.tus_files import TusAtFiles
    from forebay.model import Stored


_ELSEWHERE = {
    ("PUT", True): raw.PUT_ELSEWHERE,
    ("POST", False): raw.POST_ELSEWHERE,
    ("DELETE", False): "Files are removed only where the server runs with --allow-delete.",
}
"""What to do instead, by method and whether it is a folder."""


class Creator(Protocol):
    """Takes a PUT or POST over and makes a resumable upload of it."""

    def wants(self, scope: dict[str, Any]) -> bool:
        """Whether the request asks for that, and it can be done."""
        ...

    async def create(
        self, scope: dict[str, Any], receive: Receive, send: Send, target: model.Receive
    ) -> Answer:
        """Answers it; `target` is what it stores in the end. Raises UploadError."""
        ...

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        """Its form of the answer to a request that `wants` that and failed."""
        ...

    def offer(self, scope: dict[str, Any]) -> Headers:
        """Fields that OPTIONS answers with where a request may ask for that."""
        ...


class Dialect(Protocol):
    """Takes requests of an upload protocol over: tus, or parts by Content-Range."""

    def wants(self, scope: dict[str, Any]) -> bool:
        """Whether the request is one."""
        ...

    async def store(
        self, scope: dict[str, Any], receive: Receive, segments: list[str], folder: bool
    ) -> Answer:
        """Answers it; `segments` are of the decoded path. Raises UploadError."""
        ...

    def decorate(self, error: UploadError, answer: Answer, scope: dict[str, Any]) -> Answer:
        """Its form of the answer to a request that `wants` that and failed."""
        ...


class FilesApp:
    """Raw uploads, downloads, listings. Its routes are at its own root.

    Args:
        engine: takes the bodies.
        listening_on_loopback: only pages and hosts of this machine are served (invariant 15).
        creator: begins resumable uploads for requests that ask for one; None: nobody does.
        partial: takes parts with Content-Range; None: they are refused.
        tus: begins uploads by tus; None: they are refused.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        listening_on_loopback: bool = False,
        creator: Creator | None = None,
        partial: Dialect | None = None,
        tus: TusAtFiles | None = None,
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
            guard.check(scope, settings, listening_on_loopback=self.listening_on_loopback)
            await self._dispatch(scope, receive, send)
        except UploadError as error:
            if isinstance(error, MethodNotAllowed):
                error.detail["allow"] = self._methods(is_folder(path_below(scope)))
            answer = answer_error(error, scope)
            special = self._dialect(scope) or self._creator(scope)
            if special is not None:
                answer = special.decorate(error, answer, scope)
            await send_answer(send, answer)

    def _dialect(self, scope: dict[str, Any]) -> Dialect | None:
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
            judging.judge_between(scope, send)
        if dialect is not None:
            answer = await dialect.store(scope, receive, names.split_path(path), folder)
        elif method == "OPTIONS":
            answer = self._options(scope, folder)
        elif method not in self._methods(folder):
            raise MethodNotAllowed(_ELSEWHERE.get((method, folder)))
        elif form_request.is_form(method, scope["headers"]):
            chunks.check(query_of(scope.get("query_string", b"")).items())
            source = source_of(scope, receive)
            segments = names.split_path(path)
            base = link_base(scope)
            answer = await forms.store(self.engine, scope, source, segments, folder, base)
        elif method in ("PUT", "POST"):
            answer = await self._store(scope, receive, send, names.split_path(path), folder)
        elif method in ("GET", "HEAD"):
            segments = names.split_path(path)
            name = names.judge_path(segments) if segments else ""
            await self._read(scope, send, name, folder)
            return
        elif method == "DELETE":
            answer = await self._delete(scope, names.judge_path(names.split_path(path)))
        else:
            raise InvalidRequest(
                "A PATCH of a file needs Content-Range: bytes FIRST-LAST/TOTAL; to send it whole, "
                "use PUT."
            )
        await send_answer(send, answer)

    def _methods(self, folder: bool) -> tuple[str, ...]:
        if folder:
            return raw.FOLDER_METHODS
        extra = ("DELETE",) if self.engine.settings.allow_delete else ()
        partial = self.partial is not None and self.engine.offers_uploads
        known = raw.PARTIAL_METHODS if partial else raw.FILE_METHODS
        return (*known, *extra)

    def _preflight(self, scope: dict[str, Any]) -> Answer:
        """Whatever the name looks like, and whatever Host says: the request itself is judged,
        and a page must be able to read why it is refused.
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
        self,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        segments: list[str],
        folder: bool,
    ) -> Answer:
        settings = self.engine.settings
        headers: Headers = scope["headers"]
        given = query_of(scope.get("query_string", b""))
        if given:
            chunks.check(given.items())
        creator = self._creator(scope)
        command = raw.command(
            scope["method"],
            segments,
            headers,
            given,
            folder=folder,
            on_conflict=settings.on_conflict,
            accept_types=settings.accept_types,
            generated=f"upload-{secrets.token_hex(8)}",
            decodable=offered(settings) if creator is None else (),
            begins=creator is not None,
            own_path=True,
        )
        if creator is not None:
            return await creator.create(scope, receive, send, command)
        stored = await self.engine.receive_file(
            command, source_of(scope, receive), context=scope, verdict=scope.get(judging.KEY)
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
    """Where the listing of that folder is. For now only: a file may get the name one day."""
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


def source_of(scope: dict[str, Any], receive: Receive, *, whole: bool = True) -> Source:
    """The quickest way to this request's body: the socket itself on our own server, unless
    something stands between that may have a say in it.

    `whole`: the body is all of a file, so that digests of the file that are announced to come
    behind it are of this body. Raises InvalidField where such trailers cannot come or be read,
    RuntimeError where somebody is known to have read the body: a rest of it is never taken for
    the whole.
    """
    source = _source_of(scope, receive)
    headers: Headers = scope["headers"]
    if fields.first(headers, b"trailer") is not None:
        names = checksums.announced(headers, whole=whole)
        exchange = exchange_of(scope)
        checksums.check_possible(names, readable=exchange is not None, content_length=source.length)
        if names and exchange is not None:
            framing = exchange.framing
            source.late = AnnouncedDigests(names, lambda: framing.trailers)
    return source


def _source_of(scope: dict[str, Any], receive: Receive) -> Source:
    exchange = exchange_of(scope)
    if exchange is not None and receives_directly(exchange, receive):
        if exchange.given:
            raise RuntimeError(BODY_WAS_READ)
        source: Source | None = exchange.source()
        if source is not None:
            return source
    elif was_read(receive):
        raise RuntimeError(BODY_WAS_READ)
    headers: Headers = scope["headers"]
    length = fields.content_length(headers)
    if length is None and fields.first(headers, b"transfer-encoding") is None:
        # HTTP/2 announces a length or not; HTTP/1.1 without either has no body.
        length = None if scope.get("http_version", "1.1").startswith(("2", "3")) else 0
    return ReceiveSource(receive, length)


def path_below(scope: dict[str, Any]) -> bytes:
    """The path under the application's mount, as it was sent, still percent-encoded."""
    raw_path: bytes | None = scope.get("raw_path")
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if raw_path is None:
        below = path[len(root) :] if root and path.startswith(root) else path
        return names.quote_path(below).encode()
    raw_path = raw_path.partition(b"?")[0]
    depth = root.strip("/").count("/") + 1 if root.strip("/") else 0
    parts = raw_path.split(b"/")
    mount = b"/".join(parts[: depth + 1])
    if depth and names.unescape(mount) == root.rstrip("/").encode():
        return b"/" + b"/".join(parts[depth + 1 :])
    return raw_path


def is_folder(path: bytes) -> bool:
    """Whether a path below the mount means a folder: the root, or one with a slash at its end."""
    return not path or path.endswith(b"/")


def mount_of(scope: dict[str, Any]) -> str:
    """Where this application is mounted, as this server knows it; without a slash at its end."""
    root: str = scope.get("root_path", "")
    return names.quote_path(root.rstrip("/")) if root else ""


def link_base(scope: dict[str, Any]) -> str:
    """What links to this application begin with, also behind a proxy that takes something off
    the path; without a slash at its end.
    """
    return f"{scope.get(guard.PREFIX, '')}{mount_of(scope)}"


def files_link(scope: dict[str, Any]) -> str | None:
    """What links to files begin with, wherever the request came in; None: nobody knows."""
    mount: str | None = scope.get("forebay.files")
    return None if mount is None else f"{scope.get(guard.PREFIX, '')}{mount}"


_MAX_QUERY_FIELDS = 16


def query_of(query: bytes) -> dict[str, str]:
    """Names and values, the last of each name. Raises NotFound for more than 16, and for bytes
    that belong in no URL; InvalidField where it says twice how to call a file, or not in UTF-8.
    """
    if not query:
        return {}
    pairs = query.split(b"&", _MAX_QUERY_FIELDS)
    if len(pairs) > _MAX_QUERY_FIELDS or not query.isascii():
        raise NotFound("The query cannot be read.")
    found = {}
    for pair in filter(None, pairs):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        text = names.unescape(name).decode("utf-8", "replace")
        given = names.unescape(value)
        if text == "name" and text in found:
            raise InvalidField("The query has `name` more than once.")
        try:
            found[text] = given.decode("utf-8", "strict" if text == "name" else "replace")
        except UnicodeDecodeError:
            raise InvalidField("The `name` of the query is not UTF-8.") from None
    return found


_quoted = json.encoder.encode_basestring_ascii


def created(stored: Stored, media_type: str | None, mount: str | None) -> Answer:
    """The answer to whoever stored a file; `mount` is where files are, None: nobody knows.

    It describes the request, so a Repr-Digest would be of this JSON (RFC 9530, section 3.2): the
    file's is in it.

    Written out rather than built and dumped: it is the answer of every small upload.
    """
    file = stored.file
    extra: Headers = []
    if stored.received is None:  # RFC 9110, section 9.3.4: not of what was transformed
        extra.append((b"etag", f'"{file.tag}"'.encode()))
    url = "null"
    if mount is not None:
        location = f"{mount}/{names.quote_path(file.name)}"
        url = _quoted(location)
        extra.insert(0, (b"location", location.encode()))
    digests = ""
    if stored.digests:
        encoded = {d.algorithm: base64.b64encode(d.value).decode() for d in stored.digests}
        digests = f'"digest": {json.dumps(encoded)}, '
    received = "" if stored.received is None else f'"received": {stored.received}, '
    body = (
        f'{{"name": {_quoted(file.name)}, "size": {file.size}, {received}'
        f'"type": {"null" if media_type is None else _quoted(media_type)}, '
        f'"url": {url}, "etag": "\\"{file.tag}\\"", {digests}'
        f'"renamed": {"true" if stored.renamed else "false"}, '
        f'"duration": {stored.duration:.6f}}}\n'
    ).encode()
    # RFC 9110, section 9.3.4: 201 for what is new, 200 for what was replaced.
    return json_bytes(200 if stored.replaced else 201, body, extra)
