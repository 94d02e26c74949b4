"""One request and its response on our own server: the ASGI side of a connection."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

from forebay.engine.bodies.verdict import Verdict
from forebay.http import cors, request_body, scope_keys
from forebay.http.answers import Message, text_answer
from forebay.http.response_encoder import ResponseEncoder
from forebay.http.verdicts import is_success

if TYPE_CHECKING:
    from forebay.http.default_head import DefaultHead
    from forebay.http.flow_control import FlowControl
    from forebay.http.sendfile import Runner

logger = logging.getLogger("uvicorn.error")

_CONTENT = ("http.response.body", "http.response.zerocopysend")


class Connection(request_body.Connection, Protocol):
    """What a request needs of its connection, which is a `DirectProtocol`."""

    flow: FlowControl

    def default_head(self) -> DefaultHead:
        """The fields of every answer."""
        ...

    async def send_file(
        self, start: bytes, file: tuple[int, int, int], runner: Runner | None
    ) -> bool:
        """Sends `start`, then a part of a file (descriptor, offset, size); False when the
        connection has broken.
        """
        ...

    def abort(self) -> None:
        """Breaks the connection."""
        ...

    def on_response_complete(self, cycle: RequestCycle) -> None:
        """The response is sent: the next request may come."""
        ...


class RequestCycle:
    """Runs the application for one request.

    `scope["extensions"][scope_keys.CYCLE]` is this object: an application that knows it calls
    `body.source()` and gets the drain, any other calls `receive()`.
    """

    __slots__ = (
        "__weakref__",
        "_answered",
        "_verdict",
        "body",
        "complete",
        "connection",
        "response",
        "scope",
        "started",
        "status",
    )

    def __init__(
        self,
        connection: Connection,
        scope: dict[str, Any],
        body: request_body.RequestBody,
        *,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.body = body
        self.response = ResponseEncoder(
            scope["method"], scope["http_version"], keep_alive=keep_alive
        )
        self.started = False
        """The application has given the head of its response."""
        self.complete = False
        """The whole response is sent."""
        self.status = 0
        self._answered = False
        """Content of the response has come, if only its end: its status is final."""
        self._verdict: Verdict | None = None
        scope["extensions"][scope_keys.CYCLE] = self

    async def run(self, app: Any) -> None:
        """Calls the application; answers itself when that fails."""
        try:
            result = await app(self.scope, self.body.receive, self.send)
        except Exception:
            logger.exception("Exception in ASGI application\n")
            await self._fail()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not _cancelled():
                # The application awaited something that it had cancelled itself.
                logger.exception("Exception in ASGI application\n")
                await self._fail()
                return
            if not self.complete:  # no answer will come, and the client must see that
                self.connection.abort()
            raise
        else:
            if result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
                self.connection.abort()
            elif not self.complete:
                # After a disconnect, an application may return without an answer.
                if not (self.body.disconnected or self.connection.at_eof):
                    logger.error("ASGI callable returned without completing response.")
                await self._fail()
        finally:
            try:
                if self._verdict is not None:
                    await self._verdict.give(self._answered and is_success(self.status))
            finally:
                # No reference cycle stays, so all of this goes at once, without the collector.
                self.body.release()
                self.scope["extensions"].pop(scope_keys.CYCLE, None)

    def verdict(self) -> Verdict:
        """The verdict on what this request publishes: it stays if the answer is a success."""
        if self._verdict is None:
            self._verdict = Verdict()
            if self._answered:
                self._verdict.accepted = is_success(self.status)
        return self._verdict

    async def _fail(self) -> None:
        if self.complete:
            return
        if self.started or self.body.disconnected:
            # An orderly end would look like the end of the content. A client that has half
            # closed would keep the connection for ever.
            self.connection.abort()
            return
        self.response.keep_alive = False
        extra = cors.cors_of_connection(self.scope["headers"])
        answer = text_answer(500, "Internal Server Error", extra)
        start = {"type": "http.response.start", "status": 500, "headers": answer.headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": answer.body})

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        if self.connection.flow.paused:
            await self.connection.flow.writable()
        kind = message["type"]
        if self._verdict is not None or self.body.disconnected:
            await self._give_verdict(kind, message)
        if self.body.disconnected:
            return
        if kind == "http.response.body" and self.started and not self.complete:
            self._send_body(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == "http.response.start" and not self.started:
            self._start(message["status"], message)
        elif kind == "http.response.zerocopysend" and self.started and not self.complete:
            await self._send_file(message)
        elif kind == scope_keys.INFORMATIONAL and not self.started:
            encoded = self.response.interim(message["status"], message.get("headers", ()))
            if encoded:
                self.connection.write(encoded)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} in this state of the response.")

    async def _give_verdict(self, kind: str, message: Message) -> None:
        """The first content makes the status final, also for a client that is gone."""
        if kind == "http.response.start":
            self.status = self.status or message["status"]
        elif kind in _CONTENT and self.status and not self._answered:
            if self._verdict is not None:
                await self._verdict.give(is_success(self.status))
            self._answered = True

    def _start(self, status: int, message: Message) -> None:
        self.started = self.body.answered = True
        self.status = status
        if not self.body.skippable:
            self.response.keep_alive = False
        self.response.start(status, message.get("headers", ()), self.connection.default_head())

    def _send_body(self, data: bytes, *, last: bool) -> None:
        self._answered = True
        try:
            encoded = self.response.content(data, last=last)
        except RuntimeError:
            self.connection.abort()
            raise
        if encoded:
            self.connection.write(encoded)
        if last:
            self._finish()

    async def _send_file(self, message: Message) -> None:
        """ASGI's zero copy send: as `http.response.body`, the content in a file."""
        fd, offset, count = _part_of_file(message)
        last = not message.get("more_body", False)
        self._answered = True
        try:
            start = self.response.before_file(count)
        except RuntimeError:
            self.connection.abort()
            raise
        if start is None:
            self._send_body(b"", last=last)
            return
        runner = message.get("forebay.workers")
        if not await self.connection.send_file(start, (fd, offset, count), runner):
            self.body.disconnect()
            return
        if self.response.after_file:
            self.connection.write(self.response.after_file)
        if last:
            self._send_body(b"", last=True)

    def _finish(self) -> None:
        self.complete = True
        if not self.body.finish() or self.response.cut_short:  # the client must see an end
            self.response.keep_alive = False
        self.connection.on_response_complete(self)


def _part_of_file(message: Message) -> tuple[int, int, int]:
    """Descriptor, offset and size in bytes. Without an offset: the file's own position, which
    moves on.
    """
    file = message["file"]
    fd: int = file if isinstance(file, int) else file.fileno()
    offset: int | None = message.get("offset")
    start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
    count: int | None = message.get("count")
    if count is None:
        count = max(0, os.fstat(fd).st_size - start)
    if offset is None:
        os.lseek(fd, start + count, os.SEEK_SET)
    return fd, start, count


def _cancelled() -> bool:
    """Whether the task that runs here was cancelled from outside."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
