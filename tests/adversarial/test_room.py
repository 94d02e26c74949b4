"""Stores that take a bounded amount of bytes at a time, and make room in threads of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from adversarial.conftest import Run
from adversarial.inside import serving
from adversarial.test_source import draining, unread
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.forms.request import FormRequest
from forebay.engine.transfer.pump import BodyWriter
from forebay.errors import ShuttingDown
from forebay.http.app import ServerApp
from forebay.http.asgi_source import ReceiveSource
from forebay.http.framing import LengthFraming
from forebay.model import Conflict, Receive
from forebay.protocol.names import numbered
from forebay.stores.base import Publication, Reader, Staged
from forebay.stores.memory import MemoryStore
from forebay.stores.reading import read_bytes
from objects.service import ObjectService
from objects.store import ObjectStore
from raw_http import chunked, content, split

ROOM = 5000
STEP = 3000
BODY = content(200_000)


class NarrowStaged:
    """Has room for `ROOM` bytes; a thread makes room for `STEP` more from time to time."""

    def __init__(self, inner: Staged, *, frees: bool = True) -> None:
        self._inner = inner
        self._waiting = 0
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._frees = frees

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def room(self) -> int:
        return ROOM - self._waiting

    def on_room(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.room():
                self._callbacks.append(callback)
                return
        callback()

    def write(self, data: memoryview, offset: int) -> None:
        with self._lock:
            assert len(data) <= self.room()
            self._inner.write(data, offset)
            self._waiting += len(data)
        if self._frees:
            threading.Timer(0.002, self.free).start()

    def free(self) -> None:
        with self._lock:
            self._waiting = max(0, self._waiting - STEP)
            callbacks, self._callbacks = self._callbacks, []
            more = bool(self._waiting)
        for callback in callbacks:
            callback()
        if more and self._frees:
            threading.Timer(0.002, self.free).start()

    def append_from(self, source: Any, start: int, size: int) -> int:
        while not self.room():
            threading.Event().wait(0.001)
        data = read_bytes(source, start, min(size, self.room()))
        self.write(memoryview(data), self.offset)
        return len(data)


class NarrowStore(MemoryStore):
    def stage(self, how: Publication | None = None, size: int | None = None) -> Any:
        return NarrowStaged(super().stage(how, size))


def make_store(kind: str) -> Any:
    if kind == "memory":
        return NarrowStore(numbered=numbered)
    service = ObjectService(least_part=1024)
    return ObjectStore(service, numbered=numbered, direct=kind == "direct")


def stored(store: Any, name: str) -> bytes:
    with contextlib.closing(store.open(name)) as reader:
        return b"".join(iter_bytes(reader))


def iter_bytes(reader: Reader) -> Iterator[bytes]:
    start = 0
    while piece := read_bytes(reader, start, 1 << 20):
        yield piece
        start += len(piece)


@contextlib.asynccontextmanager
async def narrow(kind: str, **settings: Any) -> AsyncIterator[tuple[Engine, Any]]:
    store = make_store(kind)
    engine = Engine(Settings(dir="unused", resumable=False, **settings), store)
    try:
        yield engine, store
    finally:
        await engine.close_uploads()
        engine.close()
        store.close()


KINDS = pytest.mark.parametrize("kind", ["memory", "pieces", "direct"])
"""With `direct`, names are bound when data is begun."""


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("method", ["PUT /files/a.bin", "POST /files/"])
@KINDS
def test_a_body_is_received_as_there_is_room(
    run: Run, method: str, framing: str, kind: str
) -> None:
    async def main() -> None:
        async with narrow(kind) as (engine, store):
            app = ServerApp(engine, listening_on_loopback=True)
            async with serving(app) as served:
                head = f"{method} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                head += 'content-disposition: attachment; filename="a.bin"\r\n'
                if framing == "length":
                    request = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
                else:
                    sent = chunked(split(BODY, [7000, 100, 40_000]))
                    request = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + sent
                answer = await served.ask(request)
                assert answer.startswith(b"HTTP/1.1 201"), answer[:200]
            assert stored(store, "a.bin") == BODY
            assert engine.context.admission.running == 0

    run(main())


@pytest.mark.parametrize("size", [100, 1700, 70_000])
def test_a_body_by_way_of_asgi_is_received_as_there_is_room(run: Run, size: int) -> None:
    async def main() -> None:
        pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
        left = iter(pieces)
        count = 0

        async def receive() -> dict[str, Any]:
            nonlocal count
            count += 1
            if count == len(pieces) // 2:
                await asyncio.sleep(0.3)  # what is there is written meanwhile
            return {"type": "http.request", "body": next(left), "more_body": count < len(pieces)}

        async with narrow("memory") as (engine, store):
            command = Receive("a.bin", Conflict.REFUSE)
            await engine.receive_file(command, ReceiveSource(receive, len(BODY)))
            assert stored(store, "a.bin") == BODY

    run(main())


def test_nothing_is_read_while_there_is_no_room_and_that_can_be_ended(run: Run) -> None:
    async def main() -> None:
        with draining(LengthFraming(len(BODY))) as drain:
            staged = MemoryStore(numbered=numbered).stage()
            sink = NarrowStaged(staged, frees=False)
            drain.writer = BodyWriter(sink)
            task = drain.start()
            await asyncio.to_thread(drain.peer.sendall, BODY[:20_000])
            while sink.room():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.1)
            assert (drain.writer.received, unread(drain.own)) == (ROOM, 20_000 - ROOM)
            assert drain.source.waiting_since is None  # it is not the client who is slow
            sink.free()
            while drain.writer.received == ROOM:
                await asyncio.sleep(0.001)
            assert drain.writer.received == ROOM + STEP
            drain.source.stop(ShuttingDown())
            with pytest.raises(ShuttingDown):
                await asyncio.wait_for(task, 10)

    run(main())


@KINDS
@pytest.mark.parametrize("threshold", [0, 1 << 20], ids=["file", "memory"])
def test_files_of_a_form_are_published_through_the_room_there_is(
    run: Run, threshold: int, kind: str
) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
    body = part + BODY + b"\r\n" + part + b"other\r\n--b--\r\n"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def main() -> None:
        async with narrow(kind, memory_threshold=threshold) as (engine, store):
            source = ReceiveSource(receive, len(body))
            request = FormRequest(b"multipart/form-data; boundary=b")
            async with engine.receive_form(source, request) as form:
                outcomes = await form.publish()
            names = [outcome.stored.file.name for outcome in outcomes if outcome.stored]
            assert names == ["a.bin", "a (1).bin"]
            assert [stored(store, name) for name in names] == [BODY, b"other"]
            assert engine.context.budget.used == 0

    run(main())
