"""A client that calls an ASGI application in this process: no server, no socket, no port."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import secrets
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

T = TypeVar("T")
Content = bytes | str | Iterable[bytes]
File = bytes | tuple[str, bytes] | tuple[str, bytes, str]
"""The content of a file; or its name and content; or name, content and media type."""

_PIECE = 64 << 10
_TUS = {"Tus-Resumable": "1.0.0"}


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """The application's response."""

    status: int
    headers: list[tuple[str, str]]
    """As sent, with names in lower case."""
    body: bytes
    url: str | None = None
    """The URL of a resumable upload; else None."""

    def header(self, name: str) -> str | None:
        """The first field of that name; None when there is none."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def text(self) -> str:
        """The body as text (UTF-8)."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400


class Client:
    """Calls `app`; the `with` block starts and stops it. It has its own event loop and thread, so
    plain and async tests can use it.

        with Client(app) as client:
            assert client.upload("/videos", b"...", filename="clip.mp4").ok

    Args:
        headers: sent with every request.
        raise_errors: an exception that no handler of the application handles is raised here; if
            false, the 500 that a server would send is returned.
        timeout: seconds for one request.
    """

    def __init__(
        self,
        app: Any,
        *,
        headers: Mapping[str, str] | None = None,
        raise_errors: bool = True,
        timeout: float = 60,
    ) -> None:
        self._app = app
        self._headers = dict(headers or {})
        self._raise_errors = raise_errors
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._lifespan = _Lifespan(app)

    def __enter__(self) -> Client:
        self._thread.start()
        try:
            self._run(self._lifespan.start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._lifespan.stop())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("Use the client in a block: `with Client(app) as client`.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(self._timeout)

    # --- requests --------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        content: Content = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends one request. `content` in pieces is sent without a length (chunked)."""
        fields = {key.lower(): value for key, value in {**self._headers, **(headers or {})}.items()}
        fields.setdefault("host", "localhost")
        if isinstance(content, str):
            content = content.encode()
        if not isinstance(content, bytes):
            fields.setdefault("transfer-encoding", "chunked")
        elif content or method in ("POST", "PUT", "PATCH"):
            fields.setdefault("content-length", str(len(content)))
        scope = _scope(method, path, fields, self._lifespan.state)
        return self._run(_respond(self._app, scope, content, self._raise_errors))

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Sends a GET."""
        return self.request("GET", path, headers=headers)

    def delete(self, path: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Sends a DELETE."""
        return self.request("DELETE", path, headers=headers)

    def upload(
        self,
        path: str,
        content: Content,
        *,
        filename: str | None = None,
        media_type: str | None = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends a file as the body of a request."""
        fields = dict(headers or {})
        if filename is not None:
            fields.setdefault("X-Filename", quote(filename))
        if media_type is not None:
            fields.setdefault("Content-Type", media_type)
        return self.request(method, path, content=content, headers=fields)

    def form(
        self,
        path: str,
        fields: Mapping[str, str | Sequence[str]] | None = None,
        files: Mapping[str, File | list[File]] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends a form (multipart/form-data): text fields first, then files."""
        boundary = secrets.token_hex(16)
        parts = [
            (f'name="{_quoted(name)}"', text.encode())
            for name, given in (fields or {}).items()
            for text in ([given] if isinstance(given, str) else given)
        ]
        for name, given in (files or {}).items():
            for file in given if isinstance(given, list) else [given]:
                parts.append(_file_part(name, file))
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for head, content in parts
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}", **(headers or {})}
        closing = f"--{boundary}--\r\n".encode()
        return self.request("POST", path, content=body + closing, headers=kind)

    def tus(
        self,
        path: str,
        content: bytes,
        *,
        filename: str | None = None,
        metadata: Mapping[str, str] | None = None,
        piece_size: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends a resumable upload by tus, in requests of `piece_size` bytes. Returns the last
        response, or the first error; its `url` is that of the upload.
        """
        pairs = {**({"filename": filename} if filename else {}), **(metadata or {})}
        encoded = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items()
        )
        fields = {**_TUS, "Upload-Length": str(len(content)), **(headers or {})}
        if encoded:
            fields["Upload-Metadata"] = encoded
        answer = self.request("POST", path, headers=fields)
        location = answer.header("location")
        if answer.status != 201 or location is None:
            return answer
        url = urlsplit(location).path
        size = piece_size or len(content)
        for offset in range(0, len(content), max(1, size)):
            fields = {
                **_TUS,
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
                **(headers or {}),
            }
            piece = content[offset : offset + size]
            answer = self.request("PATCH", url, content=piece, headers=fields)
            if not answer.ok:
                break
        return dataclasses.replace(answer, url=url)


def _file_part(name: str, file: File) -> tuple[str, bytes]:
    given = (name, file) if isinstance(file, bytes) else file
    filename, content = given[0], given[1]
    media_type = given[2] if len(given) == 3 else "application/octet-stream"
    head = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"\r\nContent-Type: {media_type}'
    return head, content


def _quoted(text: str) -> str:
    """As browsers write names in forms."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


# --- ASGI ----------------------------------------------------------------------------------------


def _scope(
    method: str, path: str, fields: Mapping[str, str], state: dict[str, Any]
) -> dict[str, Any]:
    raw, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in fields.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
        "state": dict(state),
    }


async def _respond(
    app: Any, scope: dict[str, Any], content: bytes | Iterable[bytes], raise_errors: bool
) -> Response:
    pieces = iter(_cut(content) if isinstance(content, bytes) else content)
    sent: list[Any] = []
    body = bytearray()
    answered = asyncio.Event()
    done = False

    async def receive() -> dict[str, Any]:
        nonlocal done
        if done:  # like a client that waits for its answer, and then disconnects
            await answered.wait()
            return {"type": "http.disconnect"}
        piece = next(pieces, None)
        done = piece is None
        await asyncio.sleep(0)
        return {"type": "http.request", "body": piece or b"", "more_body": not done}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(message)
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                answered.set()

    try:
        await app(scope, receive, send)
    except Exception:
        if raise_errors:
            raise
    if not sent:
        return Response(500, [], b"Internal Server Error")
    headers = [(k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in sent[0]["headers"]]
    return Response(sent[0]["status"], headers, bytes(body))


def _cut(content: bytes) -> Iterable[bytes]:
    return (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))


class _Lifespan:
    """Starts and stops an application; does nothing for one without lifespan events."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self._app(scope, self._events.get, self._answers.put))
        await self._events.put({"type": "lifespan.startup"})
        message = await self._next()
        if message is None:
            self._task = None
        elif message["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"The application did not start: {message.get('message', '')}")

    async def stop(self) -> None:
        if self._task is None:
            return
        await self._events.put({"type": "lifespan.shutdown"})
        message = await self._next()
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(f"The application did not stop: {message.get('message', '')}")
        await asyncio.wait({self._task})

    async def _next(self) -> Any:
        """The application's next message; None when it ends without one."""
        assert self._task is not None
        answering = asyncio.ensure_future(self._answers.get())
        await asyncio.wait({answering, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        answering.cancel()
        if not self._answers.empty():
            return self._answers.get_nowait()
        self._task.exception()  # marks it as retrieved: many applications raise for unknown scopes
        return None
